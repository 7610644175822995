package catalogue

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// number reads a JSON number as it is written.
func (r *reader) number(s *string) error {
	var raw json.RawMessage
	err := r.value("a size", &raw)
	*s = string(raw)
	return err
}

// size reads how many bytes a file has; -1: that is not said.
func size(name, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -1 || n == 0 || n > maxSize || n == -1 && s != "-1" {
		return 0, bad("%s: %s is no size of an image", quoted(name), quoted(s))
	}
	return n, nil
}

var (
	bsdLine  = regexp.MustCompile(`^([A-Za-z0-9-]+) ?\((.*)\) ?= ?(\S*)$`)
	gnuLine  = regexp.MustCompile(`^(\S+) [ *](.+)$`)
	bareLine = regexp.MustCompile(`^\S+$`)
	algoEnd  = regexp.MustCompile(`(?i)(md5|sha1|sha256|sha384|sha512)(?:sums?)?(?:\.txt)?$`)
	sizeLine = regexp.MustCompile(`^# *([^:]+): *(-?\d+) bytes$`)
)

// Sums lists the images in a file of sums that are wanted: as sha256sum writes it, or in the
// form of BSD with a tag. A file that has one sum alone is of the file that it is named after.
func Sums(doc []byte, at *url.URL, wanted Filter) ([]Item, error) {
	if !utf8.Valid(doc) || bytes.IndexByte(doc, 0) >= 0 {
		return nil, bad("it is no text")
	}
	if bytes.Contains(doc[:min(len(doc), 512)], []byte("<")) {
		return nil, bad("it is a page of HTML, and no file of sums")
	}
	dir := *at
	dir.Path, dir.RawPath = path.Dir(at.Path), ""
	algo := algoOf(path.Base(at.Path))
	byName := make(map[string]*Item)
	sizes := make(map[string]string)
	var names []string
	n := 0
	for line := range strings.Lines(string(doc)) {
		if n++; n > maxItems {
			return nil, bad("more than %d lines", maxItems)
		}
		if len(line) > maxLine {
			return nil, bad("line %d has %d bytes", n, len(line))
		}
		line = strings.TrimRight(line, "\r\n")
		if m := sizeLine.FindStringSubmatch(line); m != nil {
			if was, ok := sizes[m[1]]; ok && was != m[2] {
				return nil, bad("it gives %s two sizes", quoted(m[1]))
			}
			sizes[m[1]] = m[2]
			continue
		}
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		tag, sum, name := algo, "", ""
		if m := bsdLine.FindStringSubmatch(line); m != nil {
			tag, name, sum = strings.ToLower(strings.ReplaceAll(m[1], "-", "")), m[2], m[3]
		} else if m := gnuLine.FindStringSubmatch(line); m != nil {
			sum, name = m[1], m[2]
		} else if bareLine.MatchString(line) && n == 1 && algo != "" {
			file := path.Base(at.Path)
			sum, name = line, strings.TrimRight(file[:algoEnd.FindStringIndex(file)[0]], ".-_")
		} else {
			return nil, bad("line %d is no sum: %s", n, quoted(line))
		}
		if tag == "" {
			tag = algoByLength(len(sum))
		}
		name = strings.TrimPrefix(name, "./")
		if !usable(name) {
			continue
		}
		if digits[tag] == 0 {
			return nil, bad("line %d has a sum of a kind that is not known: %s", n, quoted(line))
		}
		it := byName[name]
		if it == nil {
			it = itemOfFile(name, at)
			if !wanted.matches(it, path.Base(name)) {
				continue
			}
			byName[name] = it
			names = append(names, name)
		}
		if err := it.add(tag, sum); err != nil {
			return nil, err
		}
	}
	var items []Item
	for _, name := range names {
		it := byName[name]
		var err error
		if it.URL, err = resolve(&dir, name); err != nil {
			return nil, err
		}
		if s, ok := sizes[name]; ok {
			if it.Size, err = size(name, s); err != nil {
				return nil, err
			}
		}
		if len(it.Sums) == 0 {
			return nil, bad("%s has no sum that proves it (sha256 or better)", quoted(name))
		}
		items = append(items, *it)
	}
	return items, nil
}

// algoOf is what a file of sums has, by its name; "": that does not tell.
func algoOf(file string) string {
	if m := algoEnd.FindStringSubmatch(file); m != nil {
		return strings.ToLower(m[1])
	}
	return ""
}

func algoByLength(n int) string {
	for algo, d := range digits {
		if d == n {
			return algo
		}
	}
	return "unknown"
}
