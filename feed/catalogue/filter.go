package catalogue

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vmcastfs/feed"
)

// A Filter says which items are wanted. The zero value wants all.
type Filter struct {
	terms  []term
	newest int // versions of a product; 0: all
}

type term struct{ field, pattern string }

// fields are what a term may be about.
var fields = []string{"arch", "file", "kind", "name", "os", "product", "release", "version"}

// ParseFilter reads terms, with commas between them: FIELD=PATTERN, where * and ? stand for
// what they stand for in a shell, or newest=N. All of them have to hold.
func ParseFilter(s string) (f Filter, err error) {
	if s == "" {
		return f, nil
	}
	for t := range strings.SplitSeq(s, ",") {
		field, pattern, ok := strings.Cut(strings.TrimSpace(t), "=")
		if _, err := path.Match(pattern, ""); !ok || pattern == "" || err != nil {
			return f, fmt.Errorf("%q must be FIELD=PATTERN, as arch=amd64", t)
		}
		if field == "newest" {
			if f.newest, err = strconv.Atoi(pattern); err != nil || f.newest < 1 {
				return f, fmt.Errorf("newest=%s: must be a number from 1 on", pattern)
			}
			continue
		}
		if !slices.Contains(fields, field) {
			return f, fmt.Errorf("%q is not known: the fields are %s and newest", field, strings.Join(fields, ", "))
		}
		f.terms = append(f.terms, term{field, strings.ToLower(pattern)})
	}
	return f, nil
}

// matches looks at all but newest. The item may have no URL yet.
func (f Filter) matches(it *Item, file string) bool {
	for _, t := range f.terms {
		value := map[string]string{
			"arch": it.Arch, "file": file, "kind": it.Kind, "name": it.Name, "os": it.OS,
			"product": it.Product, "release": it.Release, "version": it.Version,
		}[t.field]
		ok, _ := path.Match(t.pattern, strings.ToLower(value))
		if !ok && (t.field != "arch" || commonArch(t.pattern) != commonArch(value)) {
			return false
		}
	}
	return true
}

func commonArch(s string) string {
	if known, ok := architected[strings.ToLower(s)]; ok {
		return known
	}
	return s
}

// Select leaves out all but the newest versions of each product, if the filter says so, and
// refuses items that contradict each other.
func (f Filter) Select(items []Item) ([]Item, error) {
	if f.newest > 0 {
		versions := make(map[string][]string) // by product
		for _, it := range items {
			if !slices.Contains(versions[it.Product], it.Version) {
				versions[it.Product] = append(versions[it.Product], it.Version)
			}
		}
		for _, list := range versions {
			slices.SortFunc(list, func(a, b string) int { return byVersion(b, a) })
		}
		items = slices.DeleteFunc(slices.Clone(items), func(it Item) bool {
			return slices.Index(versions[it.Product], it.Version) >= f.newest
		})
	}
	return unique(items)
}

var numbers = regexp.MustCompile(`\d+|\D+`)

// byVersion compares versions as people do: 9 is before 10.
func byVersion(a, b string) int {
	as, bs := numbers.FindAllString(a, -1), numbers.FindAllString(b, -1)
	return slices.CompareFunc(as, bs, func(x, y string) int {
		m, err1 := strconv.ParseUint(x, 10, 64)
		n, err2 := strconv.ParseUint(y, 10, 64)
		switch {
		case err1 != nil || err2 != nil || m == n:
			return strings.Compare(x, y)
		case m < n:
			return -1
		}
		return 1
	})
}

var versionDir = regexp.MustCompile(`^v?\d[\w.:-]*$`)

// itemOfFile is what a file's name, and where it is, tell of an image.
func itemOfFile(name string, at *url.URL) *Item {
	stem, _ := feed.PackageStem(path.Base(name))
	it := &Item{Name: stem, Product: stem, Arch: archIn(stem), Size: -1, Kind: strings.TrimPrefix(path.Base(name)[len(stem):], ".")}
	for dir := path.Dir(path.Join(path.Dir(at.Path), name)); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if base := path.Base(dir); it.Version == "" && versionDir.MatchString(base) && len(base) <= 64 {
			it.Version = base
		}
	}
	if m := dateDigits.FindString(stem); m != "" {
		it.Version = strings.Trim(stem[strings.Index(stem, m):], "._-")
		it.Product = strings.Trim(stem[:strings.Index(stem, m)], "._-")
	}
	if it.Version != "" && !strings.Contains(stem, strings.TrimPrefix(it.Version, "v")) {
		it.Name += "-" + it.Version
	}
	it.Date = dateIn(it.Version)
	return it
}
