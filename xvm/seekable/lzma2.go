package seekable

import (
	"encoding/binary"
	"io"
)

// LZMA2, the filter of xz: chunks of at most 2 MiB plain and 64 KiB compressed bytes, each stored or LZMA. The xz
// format document describes the chunks by reference to the LZMA SDK's lzma-specification.txt, which this follows.
const (
	lzmaStates   = 12
	lzmaPosMax   = 16 // position states
	lzmaLitMax   = 16 // literal contexts: 2^(lc+lp), which LZMA2 bounds by 2^4
	lzmaTop      = 1 << 24
	lzmaHalf     = 1 << 10 // probability one half
	lzmaSlack    = 64      // more than one symbol can take from the input
	lzmaMinMatch = 2
	lzmaDictMin  = 4 << 10
	lzmaGrow     = 256 << 10 // first size of a dictionary, which doubles as it fills
	lzmaPiece    = 64 << 10
)

type prob = uint16

// lzmaLen is the code of a match length.
type lzmaLen struct {
	choice [2]prob
	low    [lzmaPosMax][8]prob
	mid    [lzmaPosMax][8]prob
	high   [256]prob
}

// lzmaProbs are the adaptive probabilities.
type lzmaProbs struct {
	isMatch   [lzmaStates][lzmaPosMax]prob
	isRep     [lzmaStates]prob
	isRep0    [lzmaStates]prob
	isRep1    [lzmaStates]prob
	isRep2    [lzmaStates]prob
	rep0Long  [lzmaStates][lzmaPosMax]prob
	slot      [4][64]prob
	special   [128]prob
	align     [16]prob
	length    lzmaLen
	repLength lzmaLen
	literal   [lzmaLitMax][0x400]prob // 0x300 are used
}

func (p *lzmaProbs) reset() {
	fill := func(a []prob) {
		for i := range a {
			a[i] = lzmaHalf
		}
	}
	for i := range lzmaStates {
		fill(p.isMatch[i][:])
		fill(p.rep0Long[i][:])
	}
	for _, a := range [][]prob{p.isRep[:], p.isRep0[:], p.isRep1[:], p.isRep2[:], p.special[:], p.align[:]} {
		fill(a)
	}
	for i := range p.slot {
		fill(p.slot[i][:])
	}
	for _, l := range []*lzmaLen{&p.length, &p.repLength} {
		fill(l.choice[:])
		fill(l.high[:])
		for i := range lzmaPosMax {
			fill(l.low[i][:])
			fill(l.mid[i][:])
		}
	}
	for i := range p.literal {
		fill(p.literal[i][:])
	}
}

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
	ended  bool
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
	z.fresh, z.noProp, z.ended, z.primed, z.err = true, true, false, false, nil
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

func (z *lzma2Reader) normalize() {
	if z.rng < lzmaTop {
		z.rng <<= 8
		z.code = z.code<<8 | uint32(z.buf[z.bp])
		z.bp++
	}
}

// bit decodes one bit.
func (z *lzma2Reader) bit(p *prob) uint32 {
	z.normalize()
	bound := z.rng >> 11 * uint32(*p)
	if z.code < bound {
		z.rng = bound
		*p += (2048 - *p) >> 5
		return 0
	}
	z.rng -= bound
	z.code -= bound
	*p -= *p >> 5
	return 1
}

// tree decodes n bits, most significant first; len(p) is 1<<n.
func (z *lzma2Reader) tree(p []prob, n uint) uint32 {
	rng, code, bp, buf := z.rng, z.code, z.bp, z.buf
	m := uint32(1)
	for range n {
		if rng < lzmaTop {
			rng <<= 8
			code = code<<8 | uint32(buf[bp])
			bp++
		}
		v := uint32(p[m])
		bound := rng >> 11 * v
		if code < bound {
			rng = bound
			p[m] = prob(v + (2048-v)>>5)
			m <<= 1
		} else {
			rng -= bound
			code -= bound
			p[m] = prob(v - v>>5)
			m = m<<1 | 1
		}
	}
	z.rng, z.code, z.bp = rng, code, bp
	return m - 1<<n
}

// reverse decodes n bits, least significant first.
func (z *lzma2Reader) reverse(p []prob, n uint) uint32 {
	m, v := uint32(1), uint32(0)
	for i := range n {
		b := z.bit(&p[m])
		m = m<<1 | b
		v |= b << i
	}
	return v
}

// direct decodes n bits of even probability.
func (z *lzma2Reader) direct(n uint) uint32 {
	v := uint32(0)
	for range n {
		z.normalize()
		z.rng >>= 1
		z.code -= z.rng
		under := -(z.code >> 31) // all ones if the bit is 0
		z.code += z.rng & under
		v = v<<1 + under + 1
	}
	return v
}

// literal decodes a byte. After a match, match is the byte that would have followed it, otherwise it is not used.
func (z *lzma2Reader) literal(p *[0x400]prob, match uint32, matched bool) byte {
	rng, code, bp, buf := z.rng, z.code, z.bp, z.buf
	m := uint32(1)
	offset := uint32(0)
	if matched {
		offset = 0x100
	}
	for m < 0x100 {
		if rng < lzmaTop {
			rng <<= 8
			code = code<<8 | uint32(buf[bp])
			bp++
		}
		match <<= 1
		want := match & offset
		q := &p[(offset+want+m)&0x3ff]
		v := uint32(*q)
		bound := rng >> 11 * v
		// The bits of literals are hard to guess, so this does without a branch: zero is all ones for the bit 0.
		zero := uint32(int64(uint64(code)-uint64(bound)) >> 63)
		rng = bound&zero | (rng-bound)&^zero
		code -= bound &^ zero
		*q = prob(int32(v) + (int32(zero&(2048-31)+31)-int32(v))>>5)
		m = m<<1 + 1 + zero
		offset &= want ^ zero
	}
	z.rng, z.code, z.bp = rng, code, bp
	return byte(m)
}

// length decodes the length of a match.
func (z *lzma2Reader) length(l *lzmaLen, pos uint32) int {
	if z.bit(&l.choice[0]) == 0 {
		return lzmaMinMatch + int(z.tree(l.low[pos][:], 3))
	}
	if z.bit(&l.choice[1]) == 0 {
		return lzmaMinMatch + 8 + int(z.tree(l.mid[pos][:], 3))
	}
	return lzmaMinMatch + 16 + int(z.tree(l.high[:], 8))
}

// distance decodes the distance, minus one, of a match of this length.
func (z *lzma2Reader) distance(length int) uint32 {
	slot := z.tree(z.probs.slot[min(length-lzmaMinMatch, 3)][:], 6)
	if slot < 4 {
		return slot
	}
	n := uint(slot>>1 - 1)
	d := (2 | slot&1) << n
	if slot < 14 {
		// The trees of the slots lie one behind the other; each begins at index 1.
		return d + z.reverse(z.probs.special[d-slot:], n)
	}
	return d + z.direct(n-4)<<4 + z.reverse(z.probs.align[:], 4)
}

// decode decodes LZMA up to ring[stop], which is at most the end of the ring.
func (z *lzma2Reader) decode(stop int) error {
	p := &z.probs
	for z.pos < stop {
		if z.match > 0 {
			z.copyMatch(stop)
			continue
		}
		if z.bp > z.end {
			return corrupt("LZMA chunk is too short")
		}
		pos := z.total & z.pbMask
		if z.bit(&p.isMatch[z.state][pos]) == 0 {
			prev := uint32(0)
			if z.full > 0 {
				prev = uint32(z.back(0))
			}
			lits := &p.literal[(z.total&z.lpMask)<<z.lc|prev>>(8-z.lc)]
			var b byte
			if z.state >= 7 {
				b = z.literal(lits, uint32(z.back(z.rep[0])), true)
			} else {
				b = z.literal(lits, 0, false)
			}
			switch {
			case z.state < 4:
				z.state = 0
			case z.state < 10:
				z.state -= 3
			default:
				z.state -= 6
			}
			z.ring[z.pos] = b
			z.pos++
			z.advance(1)
			continue
		}
		z.match = z.matched(pos)
		if uint64(z.rep[0]) >= uint64(z.full) {
			return corrupt("distance beyond the dictionary")
		}
	}
	return nil
}

// matched decodes the rest of a match: it gives the length, and puts the distance into rep[0].
func (z *lzma2Reader) matched(pos uint32) int {
	p, state := &z.probs, z.state
	next := func(early, late uint32) {
		if state < 7 {
			z.state = early
		} else {
			z.state = late
		}
	}
	if z.bit(&p.isRep[state]) == 0 {
		length := z.length(&p.length, pos)
		z.rep = [4]uint32{z.distance(length), z.rep[0], z.rep[1], z.rep[2]}
		next(7, 10)
		return length
	}
	r := &z.rep
	switch {
	case z.bit(&p.isRep0[state]) == 0:
		if z.bit(&p.rep0Long[state][pos]) == 0 {
			next(9, 11)
			return 1
		}
	case z.bit(&p.isRep1[state]) == 0:
		r[0], r[1] = r[1], r[0]
	case z.bit(&p.isRep2[state]) == 0:
		r[0], r[1], r[2] = r[2], r[0], r[1]
	default:
		r[0], r[1], r[2], r[3] = r[3], r[0], r[1], r[2]
	}
	next(8, 11)
	return z.length(&p.repLength, pos)
}

// back is the byte before the last n ones; n is less than full.
func (z *lzma2Reader) back(n uint32) byte {
	i := z.pos - int(n) - 1
	if i < 0 {
		i += len(z.ring)
	}
	return z.ring[i]
}

// copyMatch copies of the match at hand what fits before stop.
func (z *lzma2Reader) copyMatch(stop int) {
	n := min(z.match, stop-z.pos)
	z.match -= n
	z.advance(n)
	from := z.pos - int(z.rep[0]) - 1
	if from < 0 {
		from += len(z.ring)
	}
	ring, pos := z.ring, z.pos
	if pos-from >= n {
		copy(ring[pos:pos+n], ring[from:])
		z.pos += n
		return
	}
	for ; n > 0; n-- {
		ring[pos] = ring[from]
		pos++
		if from++; from == len(ring) {
			from = 0
		}
	}
	z.pos = pos
}

// advance counts n plain bytes.
func (z *lzma2Reader) advance(n int) {
	z.total += uint32(n)
	z.full = min(z.full+n, z.size)
}
