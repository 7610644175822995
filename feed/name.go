package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"vmcastfs/feed/show"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// maxName is the length in bytes of a name without suffix. With the longest
// suffix (a dash and 64 digits) it stays below NAME_MAX (255). With an ordinary one
// there is room for what tools put behind a name.
const maxName = 160

// reserved are the folded names at the root of a mount that are no release.
var reserved = map[string]bool{"latest": true, "feed.xml": true, ".vmcastfs": true}

// safeName makes a directory name of a title: one path component in NFC of at
// most 160 bytes. It needs no quoting in a shell, in QEMU's or Xen's option
// strings, in fstab or in a systemd unit. Letters, digits and combining marks of any
// script stay, as do '.', '_', '+', '~' and '-' inside of the name. Every run of other
// characters becomes one '-'; invisible ones vanish. The name begins with a letter, a
// digit or '_' and does not end in '.' or '-'. It is empty if nothing is left.
func safeName(title string) string {
	var b strings.Builder
	gap, marks := false, 0
	for _, r := range norm.NFC.String(show.Text(show.Clip(title, 4*maxTitle))) {
		inside := !gap && b.Len() > 0
		switch {
		case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			if gap && b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
				b.WriteByte('-')
			}
			gap, marks = false, 0
			b.WriteRune(r)
		case inside && strings.ContainsRune(".+~-", r):
			marks = maxMarks // none may follow
			b.WriteRune(r)
		case inside && unicode.IsMark(r):
			if marks++; marks <= maxMarks {
				b.WriteRune(r)
			}
		default:
			gap = true
		}
		if b.Len() > 2*maxName {
			break
		}
	}
	return strings.TrimRight(show.Clip(norm.NFC.String(b.String()), maxName), ".-~+")
}

// maxMarks is how many combining marks may sit on one letter of a name.
const maxMarks = 4

// fold maps names that could be taken for one another to one string. People and
// filesystems confuse compatibility forms, case, and the Greek and Cyrillic letters
// that look like Latin ones.
func fold(name string) string {
	s := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name)))
	if strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if l, ok := lookalikes[r]; ok {
			return l
		}
		return r
	}, s)
}

// lookalikes are lower-case letters that most fonts draw as a Latin one.
var lookalikes = map[rune]rune{
	'а': 'a', 'в': 'b', 'с': 'c', 'ԁ': 'd', 'е': 'e', 'һ': 'h', 'н': 'h', 'і': 'i', 'ј': 'j', 'к': 'k', 'ӏ': 'l', 'м': 'm',
	'о': 'o', 'р': 'p', 'ԛ': 'q', 'ѕ': 's', 'т': 't', 'у': 'y', 'х': 'x', 'ԝ': 'w', 'ѵ': 'v', 'ԍ': 'g',
	'α': 'a', 'β': 'b', 'ε': 'e', 'η': 'h', 'ι': 'i', 'κ': 'k', 'μ': 'm', 'ν': 'v', 'ο': 'o', 'ρ': 'p', 'τ': 't', 'υ': 'y', 'χ': 'x', 'ζ': 'z',
	'ı': 'i', 'ɑ': 'a', 'ɡ': 'g', 'ɩ': 'i', 'ʋ': 'v', 'օ': 'o', 'ս': 'u', 'հ': 'h', 'ո': 'n',
}

// digest is the hex SHA-256 of a text. Suffixes and derived ids are made of it.
func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}
