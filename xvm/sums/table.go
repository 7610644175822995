package sums

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"math/bits"
)

// Limits of a [Table].
const (
	MinBlockSize = 4 << 10 // bytes; block sizes are powers of two
	MaxBlockSize = 8 << 20 // bytes
	MaxSums      = 4 << 20 // blocks that are not all zeros: 128 MiB of sums
	MaxBlocks    = 1 << 26 // blocks
)

// Unknown is the size of a file that has not been seen to its end.
const Unknown = -1

// Table holds the SHA-256 of every block of a file: 32 bytes for each that is not
// all zeros, 1.5 bits for any. While blocks are appended it is for one goroutine;
// then it is immutable.
type Table struct {
	Outline
	sums [][32]byte // of the blocks that are not all zeros, in order
}

// Outline tells which blocks of a file are not all zeros. It is the table without
// the sums.
type Outline struct {
	size      int64
	blockSize int
	count     int64    // blocks appended so far
	n         int      // of them, those with a sum
	data      []uint64 // one bit a block: it has a sum
	before    []uint32 // blocks with a sum before each word of data
}

// NewTable begins the table of a file of size bytes, or Unknown. Append adds the
// blocks in order.
func NewTable(size int64, blockSize int) *Table { return &Table{Outline: NewOutline(size, blockSize)} }

// NewOutline begins an outline, as NewTable does a table. Add adds the blocks.
func NewOutline(size int64, blockSize int) Outline { return Outline{size: size, blockSize: blockSize} }

// Size is that of the file in bytes, or Unknown.
func (t *Outline) Size() int64 { return t.size }

// BlockSize is in bytes. The last block may be shorter.
func (t *Outline) BlockSize() int { return t.blockSize }

// Blocks is how many blocks the file has; MaxBlocks while its size is Unknown.
func (t *Outline) Blocks() int64 {
	if t.size == Unknown {
		return MaxBlocks
	}
	return Blocks(t.size, t.blockSize)
}

// Blocks is how many blocks size bytes have.
func Blocks(size int64, blockSize int) int64 {
	n := size / int64(blockSize)
	if size%int64(blockSize) != 0 {
		n++
	}
	return n
}

// Len is how many blocks have been appended.
func (t *Outline) Len() int64 { return t.count }

// Sums is how many of them have a sum.
func (t *Outline) Sums() int { return t.n }

// Data is how many bytes are in blocks that are not all zeros. The table is complete.
func (t *Outline) Data() int64 {
	n := int64(t.n) * int64(t.blockSize)
	if last := t.count - 1; t.Index(last) >= 0 {
		n -= t.count*int64(t.blockSize) - t.size
	}
	return n
}

// Bytes is about what the table takes in memory.
func (t *Table) Bytes() int64 { return 32*int64(t.n) + t.Outline.Bytes() }

// Bytes is about what the outline takes in memory.
func (t *Outline) Bytes() int64 { return 8*int64(cap(t.data)) + 4*int64(cap(t.before)) }

// Append adds the next block; false: it is one too many, for the file or for a
// table. The sum of a block of zeros is not looked at.
func (t *Table) Append(sum [32]byte, zero bool) bool {
	if !t.Add(zero) {
		return false
	}
	if !zero {
		t.sums = append(t.sums, sum)
	}
	return true
}

// Add is Append without a sum.
func (t *Outline) Add(zero bool) bool {
	if t.count >= t.Blocks() || !zero && t.n >= MaxSums {
		return false
	}
	if t.count%64 == 0 {
		t.data = append(t.data, 0)
		t.before = append(t.before, uint32(t.n))
	}
	if !zero {
		t.data[t.count/64] |= 1 << (t.count % 64)
		t.n++
	}
	t.count++
	return true
}

// Known says whether block b is all zeros. ok is false if there is no such block.
func (t *Outline) Known(b int64) (zero, ok bool) {
	if b < 0 || b >= t.count {
		return false, false
	}
	return t.data[b/64]&(1<<(b%64)) == 0, true
}

// End gives a table its size once the last block has been appended; false: a file
// of that size has another number of blocks.
func (t *Outline) End(size int64) bool {
	t.size = size
	return t.Complete()
}

// Complete reports whether every block is there.
func (t *Outline) Complete() bool { return t.size >= 0 && t.count == t.Blocks() }

// Sum returns the SHA-256 of block b, or says that it is all zeros. ok is false if
// there is no such block.
func (t *Table) Sum(b int64) (sum [32]byte, zero, ok bool) {
	if b < 0 || b >= t.count {
		return sum, false, false
	}
	if i := t.Index(b); i >= 0 {
		return t.sums[i], false, true
	}
	return sum, true, true
}

// Index counts the blocks with a sum before block b; it is -1 if b has none.
func (t *Outline) Index(b int64) int {
	if b < 0 || b >= t.count {
		return -1
	}
	word, bit := t.data[b/64], uint64(1)<<(b%64)
	if word&bit == 0 {
		return -1
	}
	return int(t.before[b/64]) + bits.OnesCount64(word&(bit-1))
}

// Hasher cuts what is written to it into blocks, and gives emit the SHA-256 of
// each in turn; zero: the block is all zeros.
type Hasher struct {
	size int
	emit func(sum [32]byte, zero bool) error
	hash hash.Hash
	n    int // bytes of the present block
	zero bool
}

// NewHasher begins with a block of size bytes. An error of emit is one of Write.
func NewHasher(size int, emit func(sum [32]byte, zero bool) error) *Hasher {
	return &Hasher{size: size, emit: emit, hash: sha256.New(), zero: true}
}

// Write takes the next bytes of the content.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), h.size-h.n)
		h.hash.Write(p[:k])
		h.zero = h.zero && Zero(p[:k])
		h.n += k
		p = p[k:]
		if h.n == h.size {
			if err := h.Finish(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Zeros takes n zeros.
func (h *Hasher) Zeros(n int64) error {
	zeros := make([]byte, h.size)
	var sum [32]byte
	summed := false
	for n > 0 {
		k := min(n, int64(h.size-h.n))
		if h.n == 0 && k == int64(h.size) {
			if !summed {
				sum, summed = sha256.Sum256(zeros), true
			}
			if err := h.emit(sum, true); err != nil {
				return err
			}
		} else if _, err := h.Write(zeros[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// Finish ends the present block, if one has begun.
func (h *Hasher) Finish() error {
	if h.n == 0 {
		return nil
	}
	err := h.emit([32]byte(h.hash.Sum(nil)), h.zero)
	h.hash.Reset()
	h.n, h.zero = 0, true
	return err
}

// Zero reports whether p is all zeros.
func Zero(p []byte) bool { return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }
