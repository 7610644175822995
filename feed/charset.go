package feed

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

var (
	xmlDecl  = regexp.MustCompile(`^\s*<\?xml\s[^>]{0,200}\?>`)
	declared = regexp.MustCompile(`\sencoding\s*=\s*["']([^"'<>]{1,40})["']`)
)

// toUTF8 converts a document to UTF-8 without byte order mark, XML declaration
// or characters that XML forbids. What decides, in this order:
//
//  1. a byte order mark (UTF-8, UTF-16, UTF-32), or the zero bytes of a first
//     '<' or '{' in UTF-16 or UTF-32;
//  2. valid UTF-8 with a character beyond ASCII, whatever is declared: no text
//     in another character set looks like that by accident;
//  3. the declared encoding, if it is known and not UTF-8;
//  4. valid UTF-8 (that is, ASCII), though an unknown encoding be declared;
//  5. for a document that says UTF-8 or nothing and is not: Windows-1252 if it
//     holds no valid multi-byte character at all; else the bad bytes are lost.
//
// Everything else is [ErrCharset].
func toUTF8(b []byte) (doc []byte, warning string, err error) {
	if enc, skip := byMark(b); enc != nil {
		if b, err = decode(enc, b[skip:]); err != nil {
			return nil, "", err
		}
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	label := ""
	if m := declared.FindSubmatch(xmlDecl.Find(b)); m != nil {
		label = strings.ToLower(string(m[1]))
	}
	enc, name := charset.Lookup(label)
	if name == "replacement" { // what the web standard answers for character sets it considers unsafe
		enc = nil
	}
	valid, multi := utf8.Valid(b), multibyte(b)
	switch {
	case valid && multi > 0:
	case enc != nil && !strings.HasPrefix(name, "utf-"):
		if b, err = decode(enc, b); err != nil {
			return nil, "", err
		}
	case valid:
	case label != "" && enc == nil:
		return nil, "", fmt.Errorf("%w: it declares %q", ErrCharset, Sanitize(label))
	case bytes.IndexByte(b, 0) >= 0:
		return nil, "", fmt.Errorf("%w: it looks like binary data", ErrCharset)
	case multi > 0:
		b = bytes.ToValidUTF8(b, nil)
		warning = "feed holds bytes that are not UTF-8: left out"
	default:
		if b, err = decode(charmap.Windows1252, b); err != nil {
			return nil, "", err
		}
		warning = "feed is not the UTF-8 it should be: read as Windows-1252"
	}
	b = clean(b)
	return b[len(xmlDecl.Find(b)):], warning, nil
}

func decode(enc encoding.Encoding, b []byte) ([]byte, error) {
	b, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCharset, err)
	}
	return b, nil
}

// byMark recognises UTF-16 and UTF-32 by their byte order mark, which is to be
// skipped, or by the shape of the first character.
func byMark(b []byte) (encoding.Encoding, int) {
	has := func(p string) bool { return bytes.HasPrefix(b, []byte(p)) }
	var (
		le16 = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
		be16 = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
		le32 = utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)
		be32 = utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)
	)
	switch {
	case has("\xff\xfe\x00\x00"):
		return le32, 4
	case has("\x00\x00\xfe\xff"):
		return be32, 4
	case has("\xff\xfe"):
		return le16, 2
	case has("\xfe\xff"):
		return be16, 2
	case has("<\x00\x00\x00"), has("{\x00\x00\x00"):
		return le32, 0
	case has("\x00\x00\x00<"), has("\x00\x00\x00{"):
		return be32, 0
	case has("<\x00"), has("{\x00"):
		return le16, 0
	case has("\x00<"), has("\x00{"):
		return be16, 0
	}
	return nil, 0
}

// multibyte counts the valid characters beyond ASCII.
func multibyte(b []byte) (n int) {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if r != utf8.RuneError || size > 1 {
			n++
		}
		i += size
	}
	return n
}

// clean drops the control characters and non-characters that XML forbids. They
// are dropped before any check is made, so that none can hide in one.
func clean(b []byte) []byte {
	bad := func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
	}
	if bytes.IndexFunc(b, bad) < 0 {
		return b
	}
	return bytes.Map(func(r rune) rune {
		if bad(r) {
			return -1
		}
		return r
	}, b)
}
