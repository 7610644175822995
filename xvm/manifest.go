package xvm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// Limits of a manifest.
const (
	MaxManifestSize    = 4 << 20 // bytes of a manifest; some 40 000 lines
	MaxManifestEntries = 65536   // lines that carry a sum
	maxManifestName    = 4096    // bytes of one name
	maxManifestNotes   = 100     // warnings kept; the rest is only counted
)

// ErrManifest is wrapped by every error of [ParseManifest].
var ErrManifest = errors.New("bad manifest")

// Plain is what an XVM2 manifest says of a disk: the size of its plain
// (uncompressed) content, and the digests one of which that content has.
type Plain struct {
	Size int64 // bytes, ≥ 0
	// Any holds alternatives, the most telling first: the content is right
	// when one of them matches. Enomaly's packager meant the MD5 of the whole
	// disk but hashed the first MiB only, so for a disk beyond that size both
	// readings are listed.
	Any []sums.Sum
}

// Manifest is a parsed manifest. It is immutable, so that any number of
// goroutines may use it.
type Manifest struct {
	entries  map[string]*manifestEntry
	release  string
	warnings []string
	dropped  int // warnings beyond maxManifestNotes
}

type manifestEntry struct {
	sums        []sums.Sum
	plain       *Plain
	unsupported []string
}

// Release is the id of the one release that the manifest is for, or "": it
// does not say.
func (m *Manifest) Release() string { return m.release }

// Names lists every name of the manifest in its canonical form, sorted.
func (m *Manifest) Names() []string {
	return slices.Sorted(maps.Keys(m.entries))
}

// Sums returns the digests of the member's bytes as stored in the archive,
// the strongest algorithm first. All of them must match. It is nil when the
// manifest does not list the member, or by digests only that are not supported.
func (m *Manifest) Sums(member string) []sums.Sum {
	if e := m.lookup(member); e != nil {
		return slices.Clone(e.sums)
	}
	return nil
}

// Plain returns what an XVM2 manifest says of the plain content of a disk.
// The name is the plain one, without the suffix of the compression.
func (m *Manifest) Plain(name string) (Plain, bool) {
	e := m.lookup(name)
	if e == nil || e.plain == nil {
		return Plain{}, false
	}
	return Plain{Size: e.plain.Size, Any: slices.Clone(e.plain.Any)}, true
}

// Lists reports whether the manifest speaks of the member at all: by its name,
// or, in an XVM2 manifest, by its name without the
// suffix of the compression.
func (m *Manifest) Lists(member string) bool {
	if m.lookup(member) != nil {
		return true
	}
	if format, plain := seekable.PlainName(member); format != "" {
		e := m.lookup(plain)
		return e != nil && e.plain != nil
	}
	return false
}

// untrusted says why the manifest, if it is signed, does not vouch for the member
// against an attacker; "": it does. A nil manifest lists nothing.
func (m *Manifest) untrusted(member string) string {
	if m == nil || !m.Lists(member) {
		return "the signed manifest does not list it"
	}
	if slices.ContainsFunc(m.Sums(member), func(s sums.Sum) bool { return !s.Weak() }) {
		return ""
	}
	return "the signed manifest lists it only by digests that prove nothing against an attacker (MD5, a part of the file, or unknown ones)"
}

// Compare compares a member with its sums: the algorithm of the first, if all match, or
// how it does not. Both are "" if there are none.
func (m *Manifest) Compare(member string, content []byte) (matches, not string) {
	for _, sum := range m.Sums(member) {
		d := sums.NewDigest(sum)
		d.Write(content)
		if not = d.Mismatch(); not != "" {
			return "", not
		}
		matches = cmp.Or(matches, sum.Algo)
	}
	return matches, ""
}

// Unsupported says which of the member's digests cannot be checked, and why.
func (m *Manifest) Unsupported(member string) []string {
	if e := m.lookup(member); e != nil {
		return slices.Clone(e.unsupported)
	}
	return nil
}

// Warnings tells of lines that are no digest in any known form and were
// skipped. A file that only such a line names counts as unlisted.
func (m *Manifest) Warnings() []string {
	w := slices.Clone(m.warnings)
	if m.dropped > 0 {
		w = append(w, fmt.Sprintf("%d further lines skipped", m.dropped))
	}
	return w
}

func (m *Manifest) lookup(name string) *manifestEntry {
	canon, err := manifestName(name)
	if err != nil {
		return nil
	}
	return m.entries[canon]
}

// ParseManifest reads a manifest in any of the forms that the package
// documentation lists; file is its name, used in messages. The error wraps
// [ErrManifest]: a manifest that contradicts itself, names files outside the
// package, exceeds a limit or holds no digest at all is refused as a whole.
func ParseManifest(file string, b []byte) (*Manifest, error) {
	fail := func(line int, format string, args ...any) (*Manifest, error) {
		at := ""
		if line > 0 {
			at = fmt.Sprintf(", line %d", line)
		}
		return nil, fmt.Errorf("%w %q%s: %s", ErrManifest, file, at, fmt.Sprintf(format, args...))
	}
	if len(b) > MaxManifestSize {
		return fail(0, "%d bytes exceed the limit of %d", len(b), MaxManifestSize)
	}
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return fail(0, "it is UTF-16, expected UTF-8")
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))

	m := &Manifest{entries: make(map[string]*manifestEntry)}
	count, dialect := 0, formUnknown
	for number := 1; len(b) > 0; number++ {
		var raw []byte
		raw, b, _ = bytes.Cut(b, []byte("\n"))
		text := string(bytes.TrimSuffix(raw, []byte("\r")))
		switch {
		case strings.TrimSpace(text) == "":
			continue
		case text[0] == '#':
			if id, ok := strings.CutPrefix(text, releaseLine); ok && m.release == "" {
				m.release = strings.TrimSpace(id)
			}
			continue
		case strings.IndexByte(text, 0) >= 0:
			return fail(number, "it holds a NUL byte")
		case strings.HasPrefix(text, "-----BEGIN "):
			return fail(number, "it is wrapped in armor; signatures are expected in a file of their own")
		}
		l, form := parseManifestLine(text, dialect)
		if form == formUnknown {
			m.warn("line %d of %q is no digest: skipped", number, file)
			continue
		}
		if count++; count > MaxManifestEntries {
			return fail(number, "more than %d entries", MaxManifestEntries)
		}
		if form != formTag {
			dialect = form
		}
		name, err := manifestName(l.name)
		if err != nil {
			return fail(number, "%v", err)
		}
		if madeOfManifest(name, file) {
			m.warn("line %d of %q lists %s, whose content depends on that of the manifest: skipped", number, file, name)
			continue
		}
		if err := m.add(name, l); err != nil {
			return fail(number, "%v", err)
		}
	}
	if count == 0 {
		return fail(0, "it holds no digest in any known form")
	}
	for _, e := range m.entries {
		slices.SortStableFunc(e.sums, func(a, b sums.Sum) int { return len(b.Hex) - len(a.Hex) })
	}
	return m, nil
}

// madeOfManifest tells whether a file is the manifest itself, a signature, or the
// certificate that signs an OVF's manifest. A sum tool that is run a second time
// lists what was there of them then, and no sum of them can be right for long.
func madeOfManifest(name, manifest string) bool {
	switch name {
	case manifest, ManifestSignatureName, DescriptionSignatureName:
		return true
	}
	if suffix, ok := strings.CutPrefix(name, manifest+"."); ok && slices.Contains([]string{"asc", "sig", "gpg", "sign"}, suffix) {
		return true
	}
	stem, ovf := strings.CutSuffix(manifest, ".mf")
	return ovf && name == stem+".cert"
}

func (m *Manifest) warn(format string, args ...any) {
	if len(m.warnings) >= maxManifestNotes {
		m.dropped++
		return
	}
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

// add enters one line, refusing what contradicts an earlier one.
func (m *Manifest) add(name string, l manifestLine) error {
	e := m.entries[name]
	if e == nil {
		e = &manifestEntry{}
		m.entries[name] = e
	}
	if l.unsupported != "" {
		if !slices.Contains(e.unsupported, l.unsupported) {
			e.unsupported = append(e.unsupported, l.unsupported)
		}
		return nil
	}
	if l.plain != nil {
		if e.plain != nil && (e.plain.Size != l.plain.Size || e.plain.Any[0] != l.plain.Any[0]) {
			return fmt.Errorf("%q is listed twice, differently", name)
		}
		e.plain = l.plain
		return nil
	}
	for _, s := range e.sums {
		if s.Algo == l.sum.Algo {
			if s.Hex != l.sum.Hex {
				return fmt.Errorf("%q has two different %s sums", name, s.Algo)
			}
			return nil
		}
	}
	e.sums = append(e.sums, l.sum)
	return nil
}

// checkShortest refuses a name that is not as manifestName gives it.
func checkShortest(name string) error {
	canon, err := manifestName(name)
	if err == nil && canon != name {
		err = fmt.Errorf("name %q is not in its shortest form", name)
	}
	return err
}

// manifestName brings a name to the form members of an archive have: relative,
// without empty and "." components. Names that cannot be a member are refused.
func manifestName(name string) (string, error) {
	if len(name) > maxManifestName {
		return "", fmt.Errorf("a name of %d bytes exceeds the limit of %d", len(name), maxManifestName)
	}
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("name %q is not UTF-8", name)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return "", fmt.Errorf("name %q holds a control character", name)
	}
	var parts []string
	for p := range strings.SplitSeq(name, "/") {
		switch p {
		case "", ".":
		case "..":
			return "", fmt.Errorf("name %q leads out of the package", name)
		default:
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return "", fmt.Errorf("name %q names no file", name)
	}
	return strings.Join(parts, "/"), nil
}
