package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// What a terminal could act upon is taken from foreign text where it comes in
// (feed/show, xvm). Here is the last gate before stdout and stderr, for
// what comes by ways not thought of.

// plainText shows whatever does not print as U+FFFD; lines and columns stay.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// printJSON prints an answer for scripts.
func (e *env) printJSON(v any) error {
	enc := newJSON(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// newJSON is json.NewEncoder whose output is printable: other characters, which
// JSON has only in strings, are escaped there.
func newJSON(w io.Writer) *json.Encoder { return json.NewEncoder(plainJSON{w}) }

type plainJSON struct{ w io.Writer }

// Write gets one whole document.
func (p plainJSON) Write(doc []byte) (int, error) {
	var b strings.Builder
	for _, r := range string(doc) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if _, err := io.WriteString(p.w, b.String()); err != nil {
		return 0, err
	}
	return len(doc), nil
}
