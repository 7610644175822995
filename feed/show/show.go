// Package show makes what strangers wrote fit for a terminal, a log, a status and
// an error message: [Text] takes out what is not plainly visible, [URL] what is
// secret. Everything that shows such text asks it.
package show

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes foreign text fit for one line of a terminal, a log or an
// error message. Escape sequences (CSI, OSC, DCS and their C1 forms) vanish
// whole. So do other control characters, bidirectional controls, invisible
// characters, private-use and unassigned code points, and invalid UTF-8. Runs of
// white space become one space, and no space is left at either end. Text that
// needs nothing is returned as it is.
func Text(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if skip := escapeLen(s[i:], r, n); skip > 0 {
			i += skip
			continue
		}
		i += n
		switch {
		case r == utf8.RuneError && n <= 1:
		case unicode.IsSpace(r):
			space = true
		case !Visible(r):
		default:
			if space && b.Len() > 0 {
				b.WriteByte(' ')
			}
			space = false
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isClean reports whether s is plain ASCII that Text would return as it is.
func isClean(s string) bool {
	prev := byte(' ')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && prev == ' ' {
			return false
		}
		prev = c
	}
	return s == "" || prev != ' '
}

// Visible reports whether r takes room on a screen and stays where it is put.
func Visible(r rune) bool {
	switch {
	case r < 0x7f:
		return r > ' '
	case !unicode.IsGraphic(r), // controls, formats, surrogates, private use, unassigned
		unicode.Is(unicode.Variation_Selector, r),
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r),
		r == utf8.RuneError:
		return false
	}
	return true
}

// escapeLen is the length of the terminal escape sequence that s begins with,
// 0 if there is none. An unfinished string sequence ends after 256 bytes or at
// the end of its line, so that a lone introducer cannot swallow the text.
func escapeLen(s string, r rune, n int) int {
	kind := r
	if r == 0x1b {
		if len(s) < 2 {
			return 1
		}
		kind = rune(s[1]) + 0x40 // ESC [ is U+009B and so on
		n = 2
		if s[1] < '@' || s[1] > '_' {
			return 2
		}
	} else if r < 0x80 || r > 0x9f {
		return 0
	}
	switch kind {
	case 0x9b: // CSI: parameters and intermediates, one final byte
		for n < len(s) && n < 64 {
			c := s[n]
			if c < ' ' || c > '~' {
				return n
			}
			n++
			if c >= '@' {
				return n
			}
		}
		return n
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS SOS OSC PM APC: up to BEL or ST
		for i := n; i < len(s) && i < 256; i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\':
				return i + 2
			case s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
				return i + 2
			case s[i] == '\n':
				return n
			}
		}
		return n
	}
	return n
}

// Clip cuts s to at most n bytes, between runes.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Lines breaks text into lines of at most width characters, if it has words that
// short. A width of 0 breaks nothing.
func Lines(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case width > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// maxURL is the most of a URL that is shown, in bytes.
const maxURL = 1024

// URL shows a URL without userinfo, query and fragment, which may be secret. What
// is no URL becomes a fixed text.
func URL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return "(invalid URL)"
	}
	return ParsedURL(u)
}

// ParsedURL is URL of one that has been parsed.
func ParsedURL(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	s := bare.String()
	if len(s) > maxURL {
		s = Clip(s, maxURL) + "..."
	}
	if u.RawQuery != "" {
		s += "?..."
	}
	return Text(s)
}

// Address shows a URL, or the path of a file.
func Address(s string) string {
	if strings.Contains(s, "://") {
		return URL(s)
	}
	return Text(s)
}
