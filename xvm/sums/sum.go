// Package sums has what content is compared with.
//
//	Sum      the expected digest of a whole file, or of its beginning
//	Digest   a sum being computed
//	Digests  several of them, in one pass
//	Table    the SHA-256 of every block of a file; blocks of zeros need none
//
// A package's manifest gives Sums. A block list gives a Table, and so does a check
// of the whole file, whose table is kept: see [Table.Encode]. A complete Table is
// immutable; everything else is for one goroutine at a time.
package sums

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest algorithms of a [Sum].
const (
	MD5    = "md5"
	SHA1   = "sha1"
	SHA256 = "sha256"
	SHA512 = "sha512"
)

// Sum is one expected digest of a file's content.
type Sum struct {
	Algo   string // MD5, SHA1, SHA256 or SHA512
	Hex    string // hexadecimal, of the algorithm's full length
	Prefix int64  // 0: of the whole content; else of its first Prefix bytes only
}

// Weak reports whether the sum finds accidents but does not resist an
// attacker: MD5, and everything that covers a part only.
func (s Sum) Weak() bool { return s.Algo == MD5 || s.Prefix != 0 }

// Check says what is wrong with the sum itself; nil: nothing is.
func (s Sum) Check() error {
	h := newHash(s.Algo)
	if h == nil {
		return fmt.Errorf("unknown digest algorithm %q", s.Algo)
	}
	if raw, err := hex.DecodeString(strings.ToLower(s.Hex)); err != nil || len(raw) != h.Size() {
		return fmt.Errorf("%q is no %s digest", s.Hex, s.Algo)
	}
	if s.Prefix < 0 {
		return fmt.Errorf("digest of the first %d bytes", s.Prefix)
	}
	return nil
}

// newHash returns nil for an unknown algorithm.
func newHash(algo string) hash.Hash {
	switch algo {
	case MD5:
		return md5.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	return nil
}
