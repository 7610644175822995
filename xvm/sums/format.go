package sums

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// A kept table, all numbers little-endian:
//
//	8 bytes   "VMCSUMS1"
//	8 bytes   size of the file
//	8 bytes   size of a block
//	8 bytes   for each 64 blocks: one bit a block, the lowest first: it has a sum
//	32 bytes  for each of those: its SHA-256
const (
	tableMagic = "VMCSUMS1"
	tableHead  = 24
	maxSize    = 1 << 46
)

var errTable = errors.New("malformed table of block sums")

// Encode writes a complete table.
func (t *Table) Encode() []byte {
	out := make([]byte, 0, tableHead+8*len(t.data)+32*len(t.sums))
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

// Decode reads what Encode wrote. It takes no more memory than b has bytes.
func Decode(b []byte) (*Table, error) {
	if len(b) < tableHead || string(b[:8]) != tableMagic {
		return nil, errTable
	}
	size, bs := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if bs < MinBlockSize || bs > MaxBlockSize || bs&(bs-1) != 0 || size > maxSize {
		return nil, errTable
	}
	t := NewTable(int64(size), int(bs))
	n := t.Blocks()
	words := (n + 63) / 64
	b = b[tableHead:]
	if int64(len(b)) < 8*words {
		return nil, errTable
	}
	count := 0
	for i := range words {
		word := binary.LittleEndian.Uint64(b[8*i:])
		if rest := n - 64*i; rest < 64 && word>>rest != 0 {
			return nil, errTable
		}
		t.before = append(t.before, uint32(count))
		t.data = append(t.data, word)
		count += bits.OnesCount64(word)
	}
	b = b[8*words:]
	if len(b) != 32*count || count > MaxSums {
		return nil, errTable
	}
	t.sums = make([][32]byte, count)
	for i := range t.sums {
		t.sums[i] = [32]byte(b[32*i:])
	}
	t.count, t.n = n, count
	return t, nil
}
