package xvm

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
	"vmcastfs/xvm/sums"
)

// A manifest is text. Each line is told apart by its form:
//
//	hex  name            md5sum, sha1sum, sha256sum, sha512sum; the algorithm by the length of hex
//	hex *name            the same, binary mode
//	\hex  na\\me         the same, with escapes (\\ \n \r)
//	hex name             md5 -r
//	SHA256 (name) = hex  BSD tags, as sha256sum --tag prints them; also with a leading \
//	SHA256(name)= hex    OVF .mf files and openssl; also SHA-256, SHA2-256
//	name size md5        XVM2 as Enomaly's packager wrote it
//
// CRLF, a byte-order mark, blank lines and comments (#) are accepted. An XVM2 line
// looks like a GNU line with an odd name. The first line without a tag therefore
// settles which of the two forms the manifest has. Names are brought to the form
// that members have, and a question may use any spelling.
//
// A name may have one digest of each algorithm; all of them must match. These
// refuse the whole manifest (S2, S3, S6, T18): two different digests of one
// algorithm, a name with "..", control characters or no UTF-8, a NUL byte, armor
// around it, no digest at all. A digest of an unknown kind proves nothing and is
// reported (S4). MD5 counts, since XVM2 has nothing else, but it excludes accidents
// only. A line in no known form is skipped with a warning, as sha1sum -c does; the
// file that it was to list counts as unlisted.
//
// The MD5 of XVM2 is that of the plain disk, under its name without ".gz". By a
// fault of the one packager known, it may be that of the first MiB. [Plain] has
// both alternatives, one of which must match. The second one says nothing of the
// rest of the disk. In all other forms a name is that of a member as it is stored: a
// sum of d.img says nothing of the content of d.img.gz.
//
// The comment "# vmcast-release: ID" says that the manifest is for the release with
// this guid and no other. The first one counts. So a package that was signed for one
// release cannot come back as another.

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
func AppendGNU(dst []byte, s sums.Sum, name string) []byte {
	mark, name := escapeName(name)
	return fmt.Appendf(dst, "%s%s  %s\n", mark, s.Hex, name)
}

// AppendTag appends the line that sha256sum --tag and its kin print for a file
// ("SHA256 (name) = hex"), ended by a newline.
func AppendTag(dst []byte, s sums.Sum, name string) []byte {
	mark, name := escapeName(name)
	return fmt.Appendf(dst, "%s%s (%s) = %s\n", mark, strings.ToUpper(s.Algo), name, s.Hex)
}

// escapeName applies the escapes of GNU coreutils; mark begins a line that has any.
func escapeName(name string) (mark, escaped string) {
	if !strings.ContainsAny(name, "\\\n\r") {
		return "", name
	}
	return `\`, strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
}
