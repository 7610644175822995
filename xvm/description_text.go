package xvm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// cleanText makes a foreign string harmless in a terminal, a log and a table:
// what is not a plainly visible character (controls, bidirectional overrides,
// zero-width characters, private use, bytes that are no UTF-8) becomes U+FFFD,
// runs of white space one blank, and max bounds the bytes.
func cleanText(s string, max int) string {
	if len(s) > 8*max {
		s = s[:8*max]
	}
	var b strings.Builder
	for _, f := range strings.Fields(s) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		for _, r := range f {
			if !unicode.IsGraphic(r) {
				r = utf8.RuneError
			}
			b.WriteRune(r)
		}
	}
	out := b.String()
	if len(out) > max {
		cut := max
		for cut > 0 && !utf8.RuneStart(out[cut]) {
			cut--
		}
		out = strings.TrimRight(out[:cut], " ")
	}
	return out
}
