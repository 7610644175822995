package seekable

import (
	"encoding/binary"
	"io"
)

// LZMA2, the filter of xz: chunks of at most 2 MiB plain and 64 KiB compressed bytes, each stored or LZMA. The xz
// format document describes the chunks by reference to the LZMA SDK's lzma-specification.txt, which this follows.
const (
	lzmaSlack   = 64 // more than one symbol can take from the input
	lzmaDictMin = 4 << 10
	lzmaGrow    = 256 << 10 // first size of a dictionary, which doubles as it fills
	lzmaPiece   = 64 << 10
)

// An lzma2Reader decodes the LZMA2 data of one block. The dictionary is a ring that serves as output buffer too.
type lzma2Reader struct {
	in   *input
	size int // of the dictionary

	ring []byte
	from int // ring[from:pos] has been decoded and not read
	pos  int
	full int // bytes of history, at most size

	left   int  // plain bytes to come of the chunk
	stored bool // it is a stored chunk
	match  int  // bytes to come of the match at hand
	fresh  bool // no chunk has reset the dictionary yet
	noProp bool // no chunk has set the properties since
	err    error

	// Range coder: buf holds the chunk, and lzmaSlack zeros.
	buf  []byte
	bp   int
	end  int
	rng  uint32
	code uint32

	lc      uint
	lpMask  uint32
	pbMask  uint32
	total   uint32 // plain bytes since the dictionary was reset: position for the contexts
	state   uint32
	rep     [4]uint32 // last distances, minus one
	primed  bool      // state has been reset once
	probs   lzmaProbs
	control [6]byte
}

// reset begins a block whose dictionary has size bytes.
func (z *lzma2Reader) reset(in *input, size int64) {
	z.in, z.size = in, int(max(size, lzmaDictMin))
	if len(z.ring) > z.size || len(z.ring) == 0 {
		z.ring = make([]byte, min(z.size, lzmaGrow))
	}
	if z.buf == nil {
		z.buf = make([]byte, 64<<10+lzmaSlack)
	}
	z.from, z.pos, z.full, z.left, z.match = 0, 0, 0, 0, 0
	z.fresh, z.noProp, z.primed, z.err = true, true, false, nil
}

// Read gives io.EOF behind the end of the data.
func (z *lzma2Reader) Read(p []byte) (int, error) {
	for z.from == z.pos {
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.step()
	}
	n := copy(p, z.ring[z.from:z.pos])
	z.from += n
	return n, nil
}

// step decodes a piece, or begins the next chunk.
func (z *lzma2Reader) step() error {
	if z.left == 0 {
		return z.chunk()
	}
	if z.pos == len(z.ring) {
		if len(z.ring) < z.size {
			bigger := make([]byte, min(z.size, 2*len(z.ring)))
			copy(bigger, z.ring)
			z.ring = bigger
		} else {
			z.from, z.pos = 0, 0
		}
	}
	n := min(z.left, len(z.ring)-z.pos, lzmaPiece)
	before := z.pos
	var err error
	if z.stored {
		err = z.in.full(z.ring[z.pos : z.pos+n])
		if err == nil {
			z.pos += n
			z.advance(n)
		}
	} else {
		err = z.decode(z.pos + n)
	}
	n = z.pos - before
	z.left -= n
	if err == nil && z.left == 0 && !z.stored {
		z.normalize()
		if z.match != 0 || z.bp != z.end || z.code != 0 {
			err = corrupt("end of an LZMA chunk")
		}
	}
	return err
}

// chunk reads a chunk header, and the whole of an LZMA chunk.
func (z *lzma2Reader) chunk() error {
	h := z.control[:]
	if err := z.in.full(h[:1]); err != nil {
		return err
	}
	c := h[0]
	if c == 0 {
		return io.EOF
	}
	if c == 1 || c >= 0xe0 {
		z.full, z.total, z.fresh = 0, 0, false
		z.noProp = true
	}
	if z.fresh || c > 2 && c < 0x80 {
		return corrupt("kind of an LZMA2 chunk")
	}
	if c < 0x80 {
		if err := z.in.full(h[:2]); err != nil {
			return err
		}
		z.left, z.stored = int(binary.BigEndian.Uint16(h))+1, true
		return nil
	}
	if err := z.in.full(h[:4]); err != nil {
		return err
	}
	z.stored = false
	left := (int(c&0x1f)<<16 | int(h[0])<<8 | int(h[1])) + 1
	packed := int(binary.BigEndian.Uint16(h[2:])) + 1
	reset := c >> 5 & 3
	if reset >= 2 {
		if err := z.in.full(h[:1]); err != nil {
			return err
		}
		b := h[0]
		lc, lp, pb := b%9, b/9%5, b/45
		if pb > 4 || lc+lp > 4 {
			return corrupt("LZMA properties")
		}
		z.lc, z.lpMask, z.pbMask = uint(lc), 1<<lp-1, 1<<pb-1
		z.noProp = false
	} else if z.noProp {
		return corrupt("LZMA chunk without properties")
	}
	if reset >= 1 {
		z.state, z.rep, z.primed = 0, [4]uint32{}, true
		z.probs.reset()
	} else if !z.primed {
		return corrupt("LZMA chunk without a state")
	}
	if packed < 5 {
		return corrupt("size of an LZMA chunk")
	}
	if err := z.in.full(z.buf[:packed]); err != nil {
		return err
	}
	clear(z.buf[packed : packed+lzmaSlack])
	if z.buf[0] != 0 {
		return corrupt("beginning of an LZMA chunk")
	}
	z.left, z.match = left, 0
	z.rng, z.code, z.bp, z.end = ^uint32(0), binary.BigEndian.Uint32(z.buf[1:]), 5, packed
	return nil
}

// advance counts n plain bytes.
func (z *lzma2Reader) advance(n int) {
	z.total += uint32(n)
	z.full = min(z.full+n, z.size)
}
