package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"

	"vmcastfs/xvm"
)

// chunk is how much is read and hashed at a time.
const chunk = 1 << 20

// fan gives each chunk to all writers at once.
type fan []io.Writer

func (f fan) Write(p []byte) (int, error) {
	if len(f) == 0 {
		return len(p), nil
	}
	var g errgroup.Group
	for _, w := range f[1:] {
		g.Go(func() error {
			_, err := w.Write(p)
			return err
		})
	}
	_, first := f[0].Write(p)
	if err := g.Wait(); first == nil {
		first = err
	}
	if first != nil {
		return 0, first
	}
	return len(p), nil
}

// digest is one sum being made.
type digest struct {
	want xvm.Sum // Hex is what it should come to; "" for one that is only made
	h    hash.Hash
	left int64 // of a Prefix: bytes still wanted; else -1
}

// newDigest returns nil for an algorithm that is not known.
func newDigest(want xvm.Sum) *digest {
	d := &digest{want: want, h: want.NewHash(), left: -1}
	if d.h == nil {
		return nil
	}
	if want.Prefix > 0 {
		d.left = want.Prefix
	}
	return d
}

func (d *digest) Write(p []byte) (int, error) {
	n := len(p)
	if d.left >= 0 {
		p = p[:min(int64(len(p)), d.left)]
		d.left -= int64(len(p))
	}
	d.h.Write(p)
	return n, nil
}

func (d *digest) hex() string { return hex.EncodeToString(d.h.Sum(nil)) }

// blockHasher cuts what is written to it into blocks. emit gets each in turn.
type blockHasher struct {
	size int
	emit func(sum [32]byte, zero bool) error

	h    hash.Hash
	n    int // bytes of the present block
	zero bool
}

func newBlockHasher(size int, emit func(sum [32]byte, zero bool) error) *blockHasher {
	return &blockHasher{size: size, emit: emit, h: sha256.New(), zero: true}
}

func (b *blockHasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), b.size-b.n)
		b.h.Write(p[:k])
		b.zero = b.zero && allZero(p[:k])
		b.n += k
		p = p[k:]
		if b.n == b.size {
			if err := b.finish(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// zeros takes n zeros.
func (b *blockHasher) zeros(n int64) error {
	zeros := make([]byte, b.size)
	var sum [32]byte
	summed := false
	for n > 0 {
		k := min(n, int64(b.size-b.n))
		if b.n == 0 && k == int64(b.size) {
			if !summed {
				sum, summed = sha256.Sum256(zeros), true
			}
			if err := b.emit(sum, true); err != nil {
				return err
			}
		} else if _, err := b.Write(zeros[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// finish ends the present block, if one has begun.
func (b *blockHasher) finish() error {
	if b.n == 0 {
		return nil
	}
	err := b.emit([32]byte(b.h.Sum(nil)), b.zero)
	b.h.Reset()
	b.n, b.zero = 0, true
	return err
}

func allZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// blockSums are the blocks of an image while nothing has been written of them.
type blockSums struct {
	sums  [][32]byte
	zeros []bool
}

func (b *blockSums) add(sum [32]byte, zero bool) error {
	b.sums = append(b.sums, sum)
	b.zeros = append(b.zeros, zero)
	return nil
}

// list writes them as an image without a member.
func (b *blockSums) list(w *xvm.BlockListWriter, name string, size int64, blockSize int) error {
	if err := w.Begin(name, "", size, blockSize); err != nil {
		return err
	}
	for i, sum := range b.sums {
		var err error
		if b.zeros[i] {
			err = w.Zero(0)
		} else {
			err = w.Block(sum, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
