package cache

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

// newHash returns the digest of that name.
func newHash(algo string) (hash.Hash, bool) {
	switch algo {
	case "md5":
		return md5.New(), true
	case "sha1":
		return sha1.New(), true
	case "sha256":
		return sha256.New(), true
	case "sha512":
		return sha512.New(), true
	}
	return nil, false
}

// digests computes all sums of a file in one pass.
type digests struct {
	pos  int64
	list []digest
}

// digest is one computation; sums of the same algorithm and prefix share it.
type digest struct {
	algo   string
	prefix int64
	hash   hash.Hash
}

func newDigests(sums []Sum) *digests {
	d := &digests{}
next:
	for _, s := range sums {
		for _, g := range d.list {
			if g.algo == s.Algo && g.prefix == s.Prefix {
				continue next
			}
		}
		if h, ok := newHash(s.Algo); ok {
			d.list = append(d.list, digest{s.Algo, s.Prefix, h})
		}
	}
	return d
}

// Write feeds the next bytes of the file. It never fails.
func (d *digests) Write(p []byte) (int, error) {
	for i := range d.list {
		part := p
		if n := d.list[i].prefix; n > 0 {
			part = p[:max(0, min(int64(len(p)), n-d.pos))]
		}
		d.list[i].hash.Write(part)
	}
	d.pos += int64(len(p))
	return len(p), nil
}

// check compares after the last byte: for each of sums whether it matched, the
// labels of those that did ("sha256:12…", with "/1048576" for a prefix), and
// what the first difference is.
func (d *digests) check(sums []Sum) (ok []bool, matched []string, mismatch string) {
	ok = make([]bool, len(sums))
	for i, s := range sums {
		got, name := "", s.Algo
		if s.Prefix > 0 {
			name = fmt.Sprintf("%s of the first %d bytes", s.Algo, s.Prefix)
		}
		for _, g := range d.list {
			if g.algo == s.Algo && g.prefix == s.Prefix {
				got = hex.EncodeToString(g.hash.Sum(nil))
			}
		}
		ok[i] = strings.EqualFold(got, s.Hex) && s.Prefix <= d.pos
		switch {
		case ok[i] && s.Prefix > 0:
			matched = append(matched, fmt.Sprintf("%s:%s/%d", s.Algo, got, s.Prefix))
		case ok[i]:
			matched = append(matched, s.Algo+":"+got)
		case mismatch != "":
		case s.Prefix > d.pos:
			mismatch = fmt.Sprintf("%s is due, but it has only %d", name, d.pos)
		default:
			mismatch = fmt.Sprintf("%s is %s, expected %s", name, got, strings.ToLower(s.Hex))
		}
	}
	return ok, matched, mismatch
}
