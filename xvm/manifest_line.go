package xvm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"vmcastfs/xvm/sums"
)

// xvm2Prefix is the number of bytes that Enomaly's packager hashed of a disk
// while meaning all of it.
const xvm2Prefix = 1 << 20

// What digests and the names of their algorithms are written with. A token of
// digestAlphabet that is no known digest is still taken for one, not for prose.
const (
	hexAlphabet    = "0123456789abcdefABCDEF"
	digestAlphabet = hexAlphabet + "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ+/="
	tagAlphabet    = digestAlphabet + "-_"
)

type manifestForm int

const (
	formUnknown manifestForm = iota
	formTag                  // BSD-tag or OVF: nothing else looks like it
	formGNU                  // hex  name
	formXVM2                 // name size md5
)

// manifestLine is what one line says: a sum, a plain disk, or a digest that
// cannot be checked (unsupported then says why).
type manifestLine struct {
	name        string
	sum         sums.Sum
	plain       *Plain
	unsupported string
}

// parseManifestLine recognises the form of a line. A name may look like a
// digest and a digest like a name, so the order is fixed: tagged forms, GNU
// output with its two-character separator, XVM2, GNU output with a digest that
// is not supported, the one-space form of "md5 -r". The first line that is not
// tagged settles whether the manifest is XVM2 (dialect); later lines must agree.
func parseManifestLine(s string, dialect manifestForm) (manifestLine, manifestForm) {
	s = strings.TrimLeft(s, " \t")
	body, escaped := strings.CutPrefix(s, `\`)
	if l, ok := parseTagged(body, escaped); ok {
		return l, formTag
	}
	var gnu manifestLine
	var isGNU bool
	if dialect != formXVM2 {
		gnu, isGNU = parseGNU(body, escaped, "  ", " *")
		if isGNU && gnu.unsupported == "" {
			return gnu, formGNU
		}
	}
	if dialect != formGNU {
		if l, ok := parseXVM2(s); ok {
			return l, formXVM2
		}
	}
	if isGNU {
		return gnu, formGNU
	}
	if dialect != formXVM2 {
		if l, ok := parseGNU(body, escaped, " ", "\t"); ok && l.unsupported == "" {
			return l, formGNU
		}
	}
	return manifestLine{}, formUnknown
}

// parseGNU reads "hex  name", as sha1sum and its kin print it: the digest, a
// separator of two characters the second of which marks text or binary, and the
// name, which is escaped when the line began with a backslash.
func parseGNU(s string, escaped bool, separators ...string) (manifestLine, bool) {
	end := strings.IndexAny(s, " \t")
	if end < 8 || strings.Trim(s[:end], digestAlphabet) != "" {
		return manifestLine{}, false
	}
	for _, sep := range separators {
		rest, ok := strings.CutPrefix(s[end:], sep)
		if !ok || rest == "" {
			continue
		}
		name, ok := unescapeName(rest, escaped)
		if !ok {
			return manifestLine{}, false
		}
		l := manifestLine{name: name}
		l.sum, l.unsupported = newSum("", s[:end])
		return l, true
	}
	return manifestLine{}, false
}

// parseTagged reads "SHA256 (name) = hex" and OVF's "SHA256(name)= hex".
func parseTagged(s string, escaped bool) (manifestLine, bool) {
	open, shut := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 1 || shut <= open+1 {
		return manifestLine{}, false
	}
	tag := strings.TrimRight(s[:open], " ")
	if tag == "" || len(tag) > 16 || strings.Trim(tag, tagAlphabet) != "" {
		return manifestLine{}, false
	}
	hex, ok := strings.CutPrefix(strings.TrimLeft(s[shut+1:], " \t"), "=")
	if !ok {
		return manifestLine{}, false
	}
	name, ok := unescapeName(s[open+1:shut], escaped)
	if !ok {
		return manifestLine{}, false
	}
	l := manifestLine{name: name}
	l.sum, l.unsupported = newSum(tag, strings.Trim(hex, " \t"))
	return l, true
}

// parseXVM2 reads "name size md5"; the name may hold spaces.
func parseXVM2(s string) (manifestLine, bool) {
	s = strings.TrimRight(s, " \t")
	rest, md5, ok := cutLastField(s)
	if !ok || len(md5) != 32 {
		return manifestLine{}, false
	}
	name, digits, ok := cutLastField(rest)
	if !ok || name == "" {
		return manifestLine{}, false
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 || digits[0] == '+' || digits[0] == '-' {
		return manifestLine{}, false
	}
	sum, bad := newSum("MD5", md5)
	if bad != "" {
		return manifestLine{}, false
	}
	p := &Plain{Size: size, Any: []sums.Sum{sum}}
	if size > xvm2Prefix {
		sum.Prefix = xvm2Prefix
		p.Any = append(p.Any, sum)
	}
	return manifestLine{name: name, plain: p}, true
}

// cutLastField splits off what follows the last run of blanks.
func cutLastField(s string) (before, field string, ok bool) {
	i := strings.LastIndexAny(s, " \t")
	if i < 0 {
		return "", "", false
	}
	return strings.TrimRight(s[:i], " \t"), s[i+1:], true
}

// algorithms are those that are supported, with the spellings of their names in
// lower case and without dashes.
var algorithms = []struct {
	name   string
	hexLen int
	tags   []string
}{
	{sums.MD5, 32, []string{"md5"}},
	{sums.SHA1, 40, []string{"sha1", "sha"}},
	{sums.SHA256, 64, []string{"sha256", "sha2256"}},
	{sums.SHA512, 128, []string{"sha512", "sha2512"}},
}

// newSum makes a Sum of a digest in text. tag is the algorithm's name in any of
// its spellings, or "" to tell it by the length. The second result is not empty
// when the digest cannot be checked, and says why.
func newSum(tag, hex string) (sums.Sum, string) {
	name := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(tag, "-", ""), "_", ""))
	algo, want := "", len(hex)
	for _, a := range algorithms {
		if tag == "" && len(hex) == a.hexLen || slices.Contains(a.tags, name) {
			algo, want = a.name, a.hexLen
		}
	}
	switch {
	case algo == "" && tag == "":
		return sums.Sum{}, fmt.Sprintf("a digest of %d characters belongs to no supported algorithm", len(hex))
	case algo == "":
		return sums.Sum{}, fmt.Sprintf("algorithm %q is not supported", tag)
	case len(hex) != want:
		return sums.Sum{}, fmt.Sprintf("a %s digest of %d characters instead of %d", algo, len(hex), want)
	case strings.Trim(hex, hexAlphabet) != "":
		return sums.Sum{}, fmt.Sprintf("a %s digest that is not hexadecimal", algo)
	}
	return sums.Sum{Algo: algo, Hex: strings.ToLower(hex)}, ""
}

// unescapeName undoes the escapes of GNU coreutils (\\, \n, \r), which apply
// only to lines that begin with a backslash.
func unescapeName(s string, escaped bool) (string, bool) {
	if !escaped || !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", false
		}
		switch s[i] {
		case '\\':
			b.WriteByte('\\')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		default:
			return "", false
		}
	}
	return b.String(), true
}
