package xvm

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// releaseLine begins the comment that names the release a manifest is for.
const releaseLine = "# vmcast-release: "

// MaxReleaseID bounds the id that [AppendRelease] takes, in bytes: that of a
// guid in a feed.
const MaxReleaseID = 1024

// AppendRelease appends the comment that names the release which a manifest is
// for. id is the guid of the feed's item; one that no feed can carry is refused.
func AppendRelease(dst []byte, id string) ([]byte, error) {
	bad := func(r rune) bool { return !unicode.IsGraphic(r) }
	if id == "" || len(id) > MaxReleaseID || strings.TrimSpace(id) != id || !utf8.ValidString(id) || strings.ContainsFunc(id, bad) {
		return dst, fmt.Errorf("%q cannot be the id of a release: 1 to %d bytes of printable text", id, MaxReleaseID)
	}
	return fmt.Appendf(dst, "%s%s\n", releaseLine, id), nil
}

// AppendGNU appends the line that md5sum, sha1sum, sha256sum or sha512sum
// prints for a file ("hex  name"), ended by a newline.
func AppendGNU(dst []byte, s Sum, name string) []byte {
	escaped, special := escapeName(name)
	if special {
		dst = append(dst, '\\')
	}
	dst = append(dst, s.Hex...)
	dst = append(dst, "  "...)
	dst = append(dst, escaped...)
	return append(dst, '\n')
}

// AppendTag appends the line that sha256sum --tag and its kin print for a file
// ("SHA256 (name) = hex"), ended by a newline.
func AppendTag(dst []byte, s Sum, name string) []byte {
	escaped, special := escapeName(name)
	if special {
		dst = append(dst, '\\')
	}
	dst = append(dst, strings.ToUpper(s.Algo)...)
	dst = append(dst, " ("...)
	dst = append(dst, escaped...)
	dst = append(dst, ") = "...)
	dst = append(dst, s.Hex...)
	return append(dst, '\n')
}

// escapeName applies the escapes of GNU coreutils and says whether any was needed.
func escapeName(name string) (string, bool) {
	if !strings.ContainsAny(name, "\\\n\r") {
		return name, false
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name), true
}
