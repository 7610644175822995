package feed

import (
	"bytes"
	"regexp"
	"unicode"
	"unicode/utf8"
)

// textElements are elements of which only text is ever expected, written
// without a prefix or attributes, as the generators in need of repair do.
var textElements = regexp.MustCompile(`(?i)<(title|description|link|guid|uuid|pubDate)>`)

// numeric are references to characters by number.
var numeric = regexp.MustCompile(`&#(?:[0-9]+|[xX][0-9a-fA-F]+);`)

// repair escapes what a generator forgot to escape. Archipel's agents put the
// names of machines between <title> and </title> as users gave them: "R&D <new> <
// old" breaks the whole feed. In a text element, up to the next end tag of its name,
// every '<' becomes an entity. So does every '&' that begins none. CDATA sections are
// left alone, and so is an element that is not closed within 64 KiB. References to
// characters that XML forbids go, wherever they are. Parse tries it only on a document
// that is malformed. nil: there is nothing to repair.
func repair(doc []byte) []byte {
	var out bytes.Buffer
	at := 0
	for at < len(doc) {
		m := textElements.FindSubmatchIndex(doc[at:])
		if m == nil {
			break
		}
		begin := at + m[1]
		window := doc[begin:min(len(doc), begin+maxNotes)]
		n := endTag(window, doc[at+m[2]:at+m[3]])
		if n < 0 || bytes.HasPrefix(bytes.TrimLeft(window, " \t\r\n"), []byte("<![CDATA[")) {
			out.Write(doc[at:begin])
			at = begin
			continue
		}
		out.Write(doc[at:begin])
		escapeText(&out, window[:n])
		at = begin + n
	}
	out.Write(doc[at:])
	fixed := numeric.ReplaceAllFunc(out.Bytes(), func(ref []byte) []byte {
		if isEntity(ref) {
			return ref
		}
		return nil
	})
	if bytes.Equal(fixed, doc) {
		return nil
	}
	return fixed
}

// endTag finds "</name" (in the same case) in b, -1 if it is not there.
func endTag(b, name []byte) int {
	for at := 0; ; {
		n := bytes.Index(b[at:], []byte("</"))
		if n < 0 {
			return -1
		}
		at += n
		if rest := b[at+2:]; bytes.HasPrefix(rest, name) && len(rest) > len(name) && (rest[len(name)] == '>' || rest[len(name)] == ' ') {
			return at
		}
		at += 2
	}
}

// escapeText writes text with '<' and lone '&' escaped; entities stay.
func escapeText(out *bytes.Buffer, text []byte) {
	for i, c := range text {
		switch {
		case c == '<':
			out.WriteString("&lt;")
		case c == '&' && !isEntity(text[i:]):
			out.WriteString("&amp;")
		default:
			out.WriteByte(c)
		}
	}
}

// isEntity reports whether b begins with a character reference to a character.
func isEntity(b []byte) bool {
	ref := reference.Find(b[:min(len(b), 34)])
	if ref == nil || !bytes.HasPrefix(b, ref) {
		return false
	}
	u := unescape(string(ref))
	r, _ := utf8.DecodeRuneInString(u)
	return u != string(ref) && (r >= ' ' || unicode.IsSpace(r)) && r != utf8.RuneError && r != 0xfffe && r != 0xffff
}
