package cache

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// SumTable holds the SHA-256 of every block of a file: 32 bytes for each that
// is not all zeros. It is a [BlockSums]. Once complete it is immutable.
type SumTable struct {
	size      int64
	blockSize int
	count     int64      // blocks appended so far
	data      []uint64   // one bit a block: it has a sum
	before    []uint32   // blocks with a sum before each word of data
	sums      [][32]byte // of those, in order
	room      int64      // bytes of Cache.tables it takes
}

// Bytes is about what the table takes in memory.
func (t *SumTable) Bytes() int64 { return 32*int64(len(t.sums)) + 12*int64(len(t.data)) }

// maxTableSums bounds the sums of a table: 128 MiB.
const maxTableSums = 4 << 20

// NewSumTable begins a table; Append adds the blocks in order.
func NewSumTable(size int64, blockSize int) *SumTable {
	return &SumTable{size: size, blockSize: blockSize}
}

// Size is that of the file in bytes.
func (t *SumTable) Size() int64 { return t.size }

// BlockSize is in bytes.
func (t *SumTable) BlockSize() int { return t.blockSize }

// Blocks is how many blocks the file has.
func (t *SumTable) Blocks() int64 { return (t.size + int64(t.blockSize) - 1) / int64(t.blockSize) }

// Append adds the next block; false if there is no room for more.
func (t *SumTable) Append(sum [32]byte, zero bool) bool {
	if t.count >= t.Blocks() || !zero && len(t.sums) >= maxTableSums {
		return false
	}
	if t.count%64 == 0 {
		t.data = append(t.data, 0)
		t.before = append(t.before, uint32(len(t.sums)))
	}
	if !zero {
		t.data[t.count/64] |= 1 << (t.count % 64)
		t.sums = append(t.sums, sum)
	}
	t.count++
	return true
}

// Sum is for [BlockSums].
func (t *SumTable) Sum(b int64) (sum [32]byte, zero, ok bool) {
	if b < 0 || b >= t.count {
		return sum, false, false
	}
	word, bit := t.data[b/64], uint64(1)<<(b%64)
	if word&bit == 0 {
		return sum, true, true
	}
	return t.sums[int(t.before[b/64])+bits.OnesCount64(word&(bit-1))], false, true
}

// complete reports whether every block is there.
func (t *SumTable) complete() bool { return t.count == t.Blocks() }

const tableMagic = "VMCSUMS1"

// Encode writes a complete table: magic, size and block size (8 bytes each,
// little-endian), one bit a block in words of 8 bytes, the sums.
func (t *SumTable) Encode() []byte {
	out := make([]byte, 0, 24+8*len(t.data)+32*len(t.sums))
	out = append(out, tableMagic...)
	out = binary.LittleEndian.AppendUint64(out, uint64(t.size))
	out = binary.LittleEndian.AppendUint64(out, uint64(t.blockSize))
	for _, word := range t.data {
		out = binary.LittleEndian.AppendUint64(out, word)
	}
	for i := range t.sums {
		out = append(out, t.sums[i][:]...)
	}
	return out
}

var errTable = errors.New("malformed table of block sums")

// DecodeSumTable reads what Encode wrote.
func DecodeSumTable(b []byte) (*SumTable, error) {
	if len(b) < 24 || string(b[:8]) != tableMagic {
		return nil, errTable
	}
	size, bs := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if bs < MinBlockSize || bs > MaxBlockSize || bs&(bs-1) != 0 || size > 1<<46 {
		return nil, errTable
	}
	t := NewSumTable(int64(size), int(bs))
	n := t.Blocks()
	words := (n + 63) / 64
	b = b[24:]
	if int64(len(b)) < 8*words {
		return nil, errTable
	}
	sums := 0
	for i := range words {
		word := binary.LittleEndian.Uint64(b[8*i:])
		if rest := n - 64*i; rest < 64 && word>>rest != 0 {
			return nil, errTable
		}
		t.before = append(t.before, uint32(sums))
		t.data = append(t.data, word)
		sums += bits.OnesCount64(word)
	}
	b = b[8*words:]
	if len(b) != 32*sums || sums > maxTableSums {
		return nil, errTable
	}
	t.sums = make([][32]byte, sums)
	for i := range t.sums {
		t.sums[i] = [32]byte(b[32*i:])
	}
	t.count = n
	return t, nil
}
