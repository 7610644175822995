package hvconfig

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"vmcastfs/feed/show"
)

// machineName keeps what every hypervisor takes for a name.
func machineName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._+-", r)) {
			return r
		}
		return '_'
	}, s)
	name = strings.TrimLeft(name, "-.")
	if name == "" {
		name = "vm"
	}
	return name[:min(len(name), 200)]
}

// printable refuses what cannot be written on a line.
func printable(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%q has characters that do not print", s)
	}
	return nil
}

// oneLine makes a text fit for a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// remark writes a text as lines of a comment that fit a terminal of 80 columns, as
// far as its words do.
func remark(b *strings.Builder, prefix, text string) {
	b.WriteString(prefix + strings.Join(show.Lines(text, 76-len(prefix)), "\n"+prefix+"  ") + "\n")
}
