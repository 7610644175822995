package seekable

// LZMA, as the chunks of LZMA2 hold it: a range coder whose probabilities adapt, and matches of bytes in a ring.
const (
	lzmaStates   = 12
	lzmaPosMax   = 16 // position states
	lzmaLitMax   = 16 // literal contexts: 2^(lc+lp), which LZMA2 bounds by 2^4
	lzmaTop      = 1 << 24
	lzmaHalf     = 1 << 10 // probability one half
	lzmaMinMatch = 2
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
