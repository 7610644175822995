package seekable

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/bits"
	"testing"
)

// bitWriter writes deflate's bits.
type bitWriter struct {
	b  []byte
	bb uint64
	bn uint
}

func (w *bitWriter) bits(v uint64, n uint) {
	w.bb |= v << w.bn
	for w.bn += n; w.bn >= 8; w.bn -= 8 {
		w.b = append(w.b, byte(w.bb))
		w.bb >>= 8
	}
}

// code writes a prefix code of n bits, which comes first bit first.
func (w *bitWriter) code(v uint64, n uint) { w.bits(bits.Reverse64(v)>>(64-n), n) }

// align fills up the last byte.
func (w *bitWriter) align() {
	if w.bn > 0 {
		w.bits(0, 8-w.bn)
	}
}

// The kinds of blocks that the tests make.
var blockKinds = []string{"stored", "fixed", "match", "dynamic"}

// block writes a deflate block that stands for plain. One of kind match ends in a match of three bytes, which have to
// equal the one before them.
func (w *bitWriter) block(kind string, final bool, plain []byte) {
	if final {
		w.bits(1, 1)
	} else {
		w.bits(0, 1)
	}
	switch kind {
	case "stored":
		w.bits(0, 2)
		w.align()
		w.bits(uint64(len(plain)), 16)
		w.bits(uint64(^uint16(len(plain))), 16)
		w.b = append(w.b, plain...)
	case "fixed", "match":
		w.bits(1, 2)
		n := len(plain)
		if kind == "match" {
			n -= 3
		}
		for _, b := range plain[:n] {
			if b < 144 {
				w.code(0x30+uint64(b), 8)
			} else {
				w.code(0x190+uint64(b)-144, 9)
			}
		}
		if kind == "match" {
			w.code(1, 7) // length 3
			w.code(0, 5) // distance 1
		}
		w.code(0, 7)
	case "dynamic":
		// Bytes 0 to 254 have codes of 8 bits, 255 and the end of the block of 9; there is no distance.
		w.bits(2, 2)
		w.bits(0, 5)
		w.bits(0, 5)
		w.bits(7-4, 4)
		for _, n := range []uint64{0, 0, 0, 2, 1, 0, 2} { // of 16, 17, 18, 0, 8, 7, 9
			w.bits(n, 3)
		}
		for range 255 {
			w.code(0, 1)
		}
		w.code(3, 2)
		w.code(3, 2)
		w.code(2, 2)
		for _, b := range plain {
			if b < 255 {
				w.code(uint64(b), 8)
			} else {
				w.code(0x1fe, 9)
			}
		}
		w.code(0x1ff, 9)
	}
}

// boundaryBlock is the content of the block under test.
var boundaryBlock = []byte("a block that ends near the end of a buffer\xff\x90\x90\x90\x90")

// boundaryFill is what comes before it.
var boundaryFill = disk(4*chunkMin, 1)

// blockAt is a deflate stream whose second block, of one kind, ends in byte end; one of another kind and a final one
// follow.
func blockAt(kind, next string, end int) (data, plain []byte) {
	var alone bitWriter
	alone.block(kind, false, boundaryBlock)
	size := len(alone.b)
	if alone.bn > 0 {
		size++
	}
	var w bitWriter
	plain = boundaryFill[:end]
	for len(w.b) < end-size {
		n := min(end-size-len(w.b)-5, 65535)
		if rest := end - size - len(w.b) - 5 - n; rest > 0 && rest < 5 {
			n -= 5 // each has a header
		}
		w.block("stored", false, plain[len(w.b):][:n])
	}
	plain = nil
	for at := 0; at < len(w.b); {
		n := int(w.b[at+1]) | int(w.b[at+2])<<8
		plain = append(plain, w.b[at+5:at+5+n]...)
		at += 5 + n
	}
	w.block(kind, false, boundaryBlock)
	more := []byte("and what follows it, which is long enough for the fast loop\x80\x80\x80\x80")
	w.block(next, false, more)
	w.block("fixed", true, []byte("end"))
	w.align()
	plain = append(append(append(plain, boundaryBlock...), more...), "end"...)
	return w.b, plain
}

// TestBlockBoundaries: every kind of block ends at every offset near the end of a buffer, and every kind follows it.
func TestBlockBoundaries(t *testing.T) {
	t.Parallel()
	for _, at := range []int{chunkMin, 3 * chunkMin} {
		if at > chunkMin && scale > 2 {
			continue
		}
		for _, kind := range blockKinds {
			for _, next := range blockKinds {
				for d := -16; d <= 16; d++ {
					data, plain := blockAt(kind, next, at+d)
					if want, err := io.ReadAll(flate.NewReader(bytes.NewReader(data))); err != nil || !bytes.Equal(want, plain) {
						t.Fatalf("%s, %s at %d%+d: not what was meant: %v", kind, next, at, d, err)
					}
					for _, limit := range []int{pieceMax, 777} {
						got, err := inflateAll(data, usualChunks, limit)
						if err != nil || !bytes.Equal(got, plain) {
							t.Errorf("%s, %s at %d%+d, limit %d: %v, %s", kind, next, at, d, limit, err, firstDifference(got, plain))
						}
					}
				}
			}
		}
	}
}

// firstDifference tells where two contents part.
func firstDifference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("other bytes from %d of %d", i, len(want))
		}
	}
	return fmt.Sprintf("%d bytes of %d", len(got), len(want))
}
