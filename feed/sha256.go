package feed

import (
	"encoding/hex"
	"strings"
)

// namespace is that of what this project adds to feeds: an attribute sha256 of the
// element that names a package, in RSS and in Atom.
//
//	<rss version="2.0" xmlns:vmcast="urn:vmcast:feed:1"> …
//	  <enclosure url="…/disk.qcow2" length="…" type="…" vmcast:sha256="9f86d081884c7d65…"/>
//
// An attachment of a JSON Feed has a field instead: "_vmcast": {"sha256": "9f86d0…"}.
//
// A feed that `vmcastfs feed import` made of signed catalogues has an element for each,
// with when it was signed: <vmcast:signed href="…" at="2026-01-31T12:00:00Z"/>. Readers
// of feeds ignore it.
//
// The value of sha256 is the SHA-256 of the bytes that the URL serves, in hex. A disk image
// that is an enclosure by itself is checked against it, as against the sum of a
// manifest. It is worth as much as the feed: whoever writes the feed vouches for it,
// and no signature does. A reader that does not know it loses nothing. It is read
// with any prefix, and ignored if it is malformed.
const namespace = "urn:vmcast:feed:1"

// handedOver goes before a digest in what the guards give the parser as the type
// of an enclosure: the parser knows no such attribute.
const handedOver = ";vmcast-sha256="

// withDigest is a MIME type without its parameters, and with the digest.
func withDigest(mime, sum string) string {
	mime, _, _ = strings.Cut(mime, ";")
	if sum = strings.ToLower(strings.TrimSpace(sum)); !isSHA256(sum) {
		return mime
	}
	return mime + handedOver + sum
}

// splitDigest undoes withDigest.
func splitDigest(s string) (mime, sum string) {
	mime, sum, _ = strings.Cut(s, handedOver)
	return mime, sum
}

func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return len(s) == 64 && err == nil
}
