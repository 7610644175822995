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
	want   []string // lower-case hex
}

func newDigests(sums []Sum) *digests {
	d := &digests{}
next:
	for _, s := range sums {
		want := strings.ToLower(s.Hex)
		for i := range d.list {
			if d.list[i].algo == s.Algo && d.list[i].prefix == s.Prefix {
				d.list[i].want = append(d.list[i].want, want)
				continue next
			}
		}
		if h, ok := newHash(s.Algo); ok {
			d.list = append(d.list, digest{s.Algo, s.Prefix, h, []string{want}})
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

// check compares after the last byte: the digests that matched, as
// "algo:hex" (with "/prefix" for a partial one), and the first difference.
func (d *digests) check() (matched []string, mismatch string) {
	for _, g := range d.list {
		name := g.algo
		if g.prefix > 0 {
			name = fmt.Sprintf("%s of the first %d bytes", g.algo, g.prefix)
		}
		if g.prefix > d.pos {
			return nil, fmt.Sprintf("%s is due, but it has only %d", name, d.pos)
		}
		got := hex.EncodeToString(g.hash.Sum(nil))
		for _, want := range g.want {
			if got != want {
				return nil, fmt.Sprintf("%s is %s, expected %s", name, got, want)
			}
		}
		label := g.algo + ":" + got
		if g.prefix > 0 {
			label += fmt.Sprintf("/%d", g.prefix)
		}
		matched = append(matched, label)
	}
	return matched, ""
}
