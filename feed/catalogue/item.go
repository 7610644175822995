package catalogue

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"vmcastfs/feed"
	"vmcastfs/feed/show"
)

const (
	// MaxDocument is the most bytes of a document.
	MaxDocument = 64 << 20
	maxItems    = 100_000
	maxName     = 1 << 10
	maxLine     = 4 << 10
	maxSize     = 64 << 40
)

// ErrCatalogue is wrapped by every error of a catalogue that is not what it should be.
var ErrCatalogue = errors.New("bad catalogue")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCatalogue, fmt.Sprintf(format, args...))
}

// quoted shows a stranger's text in an error.
func quoted(s string) string { return fmt.Sprintf("%q", show.Text(show.Clip(s, 200))) }

// An Item is one image of a catalogue.
type Item struct {
	Product string    // what it is a version of; of a file of sums: its name without version
	Name    string    // of product, version and kind; unique within the catalogue
	OS      string    // "ubuntu"; "": not said
	Release string    // "jammy"; "": not said
	Version string    // of the image: "20240601"; "": not said
	Arch    string    // as the catalogue has it; "": not said
	Kind    string    // what simplestreams calls ftype; else the end of the file's name
	URL     *url.URL  // below the catalogue
	Size    int64     // bytes; -1: not said
	Sums    []Sum     // of the file as served; SHA-256 or better, at least one
	Date    time.Time // zero: not said
}

// A Sum is a digest as its publisher gives it.
type Sum struct{ Algo, Hex string } // "sha256", "sha384" or "sha512"; lower case

// SHA256 is that of the item, "" if its catalogue has only others.
func (it *Item) SHA256() string { return it.sum("sha256") }

func (it *Item) sum(algo string) string {
	for _, s := range it.Sums {
		if s.Algo == algo {
			return s.Hex
		}
	}
	return ""
}

// File is the name of the file.
func (it *Item) File() string { return path.Base(it.URL.Path) }

// digits is how long a digest is in hex.
var digits = map[string]int{"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}

// weak are sums that prove nothing: two files may have the same.
func weak(algo string) bool { return algo == "md5" || algo == "sha1" || algo == "sha224" }

// add takes a sum of the item.
func (it *Item) add(algo, sum string) error {
	sum = strings.ToLower(sum)
	if _, err := hex.DecodeString(sum); err != nil || len(sum) != digits[algo] {
		return bad("%s: the %s %s is none of %d hexadecimal digits", quoted(it.Name), algo, quoted(sum), digits[algo])
	}
	if weak(algo) {
		return nil
	}
	if was := it.sum(algo); was != "" && was != sum {
		return bad("%s has two different sums (%s)", quoted(it.Name), algo)
	}
	if it.sum(algo) == "" {
		it.Sums = append(it.Sums, Sum{algo, sum})
		slices.SortFunc(it.Sums, func(a, b Sum) int { return strings.Compare(a.Algo, b.Algo) })
	}
	return nil
}

// resolve is where a file of a catalogue is: below root, by a relative path of plain names.
func resolve(root *url.URL, file string) (*url.URL, error) {
	first, _, _ := strings.Cut(file, "/")
	switch {
	case file == "" || len(file) > maxName || show.Text(file) != file || strings.ContainsAny(file, `\?#%"<>`):
		return nil, bad("%s is no path of a file", quoted(file))
	case file[0] == '/' || strings.Contains(first, ":"):
		return nil, bad("%s leads elsewhere: only files below the catalogue are taken", quoted(file))
	case path.Clean(file) != file || file == ".." || strings.HasPrefix(file, "../"):
		return nil, bad("%s leads out of the catalogue", quoted(file))
	}
	u := *root
	u.Path, u.RawPath, u.RawQuery, u.Fragment = strings.TrimSuffix(root.Path, "/")+"/"+file, "", "", ""
	return &u, nil
}

// usable tells whether a file is one that a mount shows as an image or package.
func usable(file string) bool {
	_, ok := feed.PackageStem(path.Base(file))
	return ok
}

var (
	dateDigits  = regexp.MustCompile(`(?:^|\D)(20\d\d)-?(\d\d)-?(\d\d)(?:[T_-]?(\d\d):?(\d\d))?`)
	archs       = regexp.MustCompile(`(?i)(?:^|[._-])(amd64|x86_64|arm64|aarch64|armhf|armv7l?|armel|i[3-6]86|x86|ppc64(?:el|le)?|s390x|riscv64|loong(?:arch)?64|mips64el|noarch)(?:[._-]|$)`)
	architected = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}
)

// dateIn finds a date in a version, as most have one; zero: there is none.
func dateIn(version string) time.Time {
	for _, m := range dateDigits.FindAllStringSubmatch(version, -1) {
		if t, err := time.Parse("20060102 1504", m[1]+m[2]+m[3]+" "+cmp.Or(m[4], "00")+cmp.Or(m[5], "00")); err == nil {
			return t
		}
	}
	return time.Time{}
}

// archIn finds an architecture in a file's name.
func archIn(name string) string {
	if m := archs.FindStringSubmatch(name); m != nil {
		return strings.ToLower(m[1])
	}
	return ""
}

// unique refuses two items of one name, or two that say other things of one file.
func unique(items []Item) ([]Item, error) {
	names, urls := map[string]int{}, map[string]int{}
	out := items[:0]
	for _, it := range items {
		if i, ok := urls[it.URL.String()]; ok {
			if was := &out[i]; was.Size != it.Size || !slices.Equal(was.Sums, it.Sums) {
				return nil, bad("it says two things of %s", quoted(it.URL.Path))
			}
			continue // the same file under another name
		}
		if _, ok := names[it.Name]; ok {
			return nil, bad("two images are called %s", quoted(it.Name))
		}
		names[it.Name], urls[it.URL.String()] = len(out), len(out)
		out = append(out, it)
	}
	return out, nil
}
