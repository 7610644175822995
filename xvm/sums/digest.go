package sums

import (
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest is one sum being computed. Its Write never fails.
type Digest struct {
	Sum  // what is expected; Hex is "" of one that is only computed
	hash hash.Hash
	n    int64 // bytes written so far
}

// NewDigest begins the computation of a sum; nil for an unknown algorithm.
func NewDigest(s Sum) *Digest {
	h := newHash(s.Algo)
	if h == nil {
		return nil
	}
	return &Digest{Sum: s, hash: h}
}

// Write takes the next bytes of the content.
func (d *Digest) Write(p []byte) (int, error) {
	part := p
	if d.Prefix > 0 {
		part = p[:max(0, min(int64(len(p)), d.Prefix-d.n))]
	}
	d.hash.Write(part)
	d.n += int64(len(p))
	return len(p), nil
}

// Got is the digest of what was written, in hexadecimal.
func (d *Digest) Got() string { return hex.EncodeToString(d.hash.Sum(nil)) }

// Mismatch says how what was written differs from what is expected; "": it does not.
func (d *Digest) Mismatch() string {
	name := d.Algo
	if d.Prefix > 0 {
		name = fmt.Sprintf("%s of the first %d bytes", d.Algo, d.Prefix)
	}
	got := d.Got()
	switch {
	case d.Prefix > d.n:
		return fmt.Sprintf("%s is due, but it has only %d", name, d.n)
	case !strings.EqualFold(got, d.Hex):
		return fmt.Sprintf("%s is %s, expected %s", name, got, strings.ToLower(d.Hex))
	}
	return ""
}

// label is what a match is told as: "sha256:12…", with "/1048576" for a prefix.
func (d *Digest) label() string {
	if d.Prefix > 0 {
		return fmt.Sprintf("%s:%s/%d", d.Algo, d.Got(), d.Prefix)
	}
	return d.Algo + ":" + d.Got()
}

// Digests computes several sums in one pass.
type Digests []*Digest

// NewDigests begins the computation of sums; nil for none. Unknown algorithms are
// never matched.
func NewDigests(list []Sum) Digests {
	var all Digests
	for _, s := range list {
		d := NewDigest(s)
		if d == nil {
			d = &Digest{Sum: s, hash: newHash(MD5)} // whose digest has another length
		}
		all = append(all, d)
	}
	return all
}

// Write takes the next bytes of the content. It never fails.
func (all Digests) Write(p []byte) (int, error) {
	for _, d := range all {
		d.Write(p)
	}
	return len(p), nil
}

// Compare is called after the last byte. It tells for each sum whether it matched,
// the labels of those that did ("sha256:12…", with "/1048576" for a prefix), and
// what the first difference is.
func (all Digests) Compare() (ok []bool, matched []string, mismatch string) {
	for _, d := range all {
		how := d.Mismatch()
		ok = append(ok, how == "")
		if how == "" {
			matched = append(matched, d.label())
		} else if mismatch == "" {
			mismatch = how
		}
	}
	return ok, matched, mismatch
}
