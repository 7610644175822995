package feed

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
	"vmcastfs/feed/show"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

var (
	// xmlDecl is an XML declaration at the start of a document. Comments and style
	// sheets are not allowed before it, and some generators write them there.
	xmlDecl  = regexp.MustCompile(`^\s*(?:(?:<!--(?s:.*?)-->|<\?xml-[^>]*>)\s*)*(<\?xml\s[^>]{0,200}\?>)`)
	declared = regexp.MustCompile(`\sencoding\s*=\s*["']([^"'<>]{1,40})["']`)
)

// marks are how documents in UTF-16 and UTF-32 begin. That is a byte order mark,
// which is skipped, or a '<' or '{' with its zero bytes.
var marks = []struct {
	start string
	skip  int
	enc   encoding.Encoding
}{
	{"\xff\xfe\x00\x00", 4, utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)},
	{"\x00\x00\xfe\xff", 4, utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)},
	{"\xff\xfe", 2, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
	{"\xfe\xff", 2, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	{"<\x00\x00\x00", 0, utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)},
	{"{\x00\x00\x00", 0, utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)},
	{"\x00\x00\x00<", 0, utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)},
	{"\x00\x00\x00{", 0, utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)},
	{"<\x00", 0, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
	{"{\x00", 0, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
	{"\x00<", 0, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	{"\x00{", 0, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
}

// toUTF8 converts a document to UTF-8 without byte order mark, XML declaration
// or characters that XML forbids. contentType is the HTTP header, "" if there
// was none. RFC 7303 gives the order of what decides:
//
//  1. a byte order mark, or the zero bytes of UTF-16 and UTF-32;
//  2. the charset of the header;
//  3. the encoding of the XML declaration.
//
// A character set that is not known, or UTF-8 for bytes that are not UTF-8, is
// passed over. Text that is valid UTF-8 beyond ASCII is UTF-8 whatever the
// declaration says. So it is where the header says Latin 1: many servers say that
// of everything. JSON that is valid UTF-8 is UTF-8. Where nothing decides,
// bytes that are not UTF-8 are Windows-1252, or are left out if some characters
// are UTF-8. Everything else is errCharset.
func toUTF8(b []byte, contentType string) (doc []byte, warning string, err error) {
	b, marked, err := unmark(b)
	if err != nil {
		return nil, "", err
	}
	var labels []string
	if !marked {
		labels = []string{headerCharset(contentType), declaredCharset(b)}
	}
	valid, multi := utf8.Valid(b), beyondASCII(b)
	unknown, decided := "", valid && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{"))
	for n, label := range labels {
		enc, name := charset.Lookup(label)
		believed := n == 0 && name != "windows-1252"
		switch {
		case decided || label == "":
		case enc == nil || name == "replacement": // the web standard's answer for character sets that it considers unsafe
			unknown = label
		case valid && multi && !believed:
			decided = true
		case strings.HasPrefix(name, "utf-"):
			decided = valid
		default:
			if b, err = decode(enc, b); err != nil {
				return nil, "", err
			}
			valid, decided = true, true
		}
	}
	switch {
	case valid:
	case unknown != "":
		return nil, "", fmt.Errorf("%w: it declares %q", errCharset, show.Text(show.Clip(unknown, 40)))
	case bytes.IndexByte(b, 0) >= 0:
		return nil, "", fmt.Errorf("%w: it looks like binary data", ErrNotFeed)
	case multi:
		b = bytes.ToValidUTF8(b, nil)
		warning = "feed holds bytes that are not UTF-8: left out"
	default:
		if b, err = decode(charmap.Windows1252, b); err != nil {
			return nil, "", err
		}
		warning = "feed is not the UTF-8 it should be: read as Windows-1252"
	}
	b = clean(b)
	if m := xmlDecl.FindSubmatchIndex(b); m != nil {
		b = append(b[:m[2]:m[2]], b[m[3]:]...)
	}
	return b, warning, nil
}

// unmark decodes UTF-16 and UTF-32, and cuts the byte order mark. marked tells
// whether one of these has settled the character set.
func unmark(b []byte) (doc []byte, marked bool, err error) {
	start := b[:min(len(b), 1024)]
	blank := len(start) - len(bytes.TrimLeft(start, " \t\r\n\x00")) // may precede the document in UTF-16, too
	for at := 0; at <= blank && !marked; at += 2 {
		for _, m := range marks {
			if bytes.HasPrefix(b[at:], []byte(m.start)) {
				if b, err = decode(m.enc, b[at+m.skip:]); err != nil {
					return nil, false, err
				}
				marked = true
				break
			}
		}
	}
	// Some generators write a mark for each of their files, or after a line feed.
	doc = bytes.TrimLeft(b, " \t\r\n\ufeff")
	return doc, marked || bytes.Contains(b[:len(b)-len(doc)], []byte("\ufeff")), nil
}

// charsetParam finds the charset in headers that net/mime refuses too: with
// single quotes, with rubbish behind it, or given twice.
var charsetParam = regexp.MustCompile(`(?i)[;,\s]charset\s*=\s*["']?([^\s"';,]{1,40})`)

func headerCharset(contentType string) string {
	if m := charsetParam.FindStringSubmatch(contentType); m != nil {
		return m[1]
	}
	return ""
}

func declaredCharset(b []byte) string {
	if decl := xmlDecl.FindSubmatch(b); decl != nil {
		if m := declared.FindSubmatch(decl[1]); m != nil {
			return string(m[1])
		}
	}
	return ""
}

func decode(enc encoding.Encoding, b []byte) ([]byte, error) {
	b, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCharset, err)
	}
	return b, nil
}

// beyondASCII reports whether b holds a valid UTF-8 character of several bytes.
func beyondASCII(b []byte) bool {
	return bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf && r != utf8.RuneError })
}

// clean drops the control characters and non-characters that XML forbids. They
// are dropped before any check is made, so that none can hide in one.
func clean(b []byte) []byte {
	bad := func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	}
	if !bytes.ContainsFunc(b, bad) {
		return b
	}
	return bytes.Map(func(r rune) rune {
		if bad(r) {
			return -1
		}
		return r
	}, b)
}
