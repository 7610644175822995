package seekable

import (
	"encoding/binary"
	"io"
)

const (
	windowSize = 32 << 10
	pieceMax   = 128 << 10 // most plain bytes of one piece
	matchMax   = 258
	outSlack   = matchMax + 8*3 // written behind a piece by its last match and by copies in steps of eight
	outStep    = matchMax + 3   // most plain bytes of one turn of the fast loop
	inStep     = 24             // compressed bytes that one turn of the fast loop may look at
)

type blockState uint8

const (
	blockNone   blockState = iota // before the header of a block
	blockStored                   // left bytes of a stored block follow
	blockCoded                    // in a block of prefix codes
	blockDone                     // behind the final block
)

// An inflater decodes one deflate stream (RFC 1951). It stops only between two symbols, so that its state there is
// small: the position in the input, the header of the block, and the last 32 KiB of output.
type inflater struct {
	in *input
	// bb holds the next bn bits of the input, whose bytes are before in.p, and may have been there before the last fill.
	// Outside the fast loop bits above bn are 0.
	bb uint64
	bn uint

	state blockState
	final bool  // this is the last block
	head  int64 // bit offset of its header
	left  int   // stored bytes not yet copied

	// w[base:pos] is the history that matches may use; w[pos:] is free.
	w    []byte
	base int
	pos  int

	lit  [litSpace]uint32
	dist [distSpace]uint32
	pre  [preSpace]uint32
}

// reset begins a deflate stream at the next byte of the input.
func (z *inflater) reset(in *input) {
	z.in, z.bb, z.bn = in, 0, 0
	z.state, z.final, z.left = blockNone, false, 0
	if z.w == nil {
		z.w = make([]byte, windowSize+pieceMax+outSlack)
	}
	z.base, z.pos = 0, 0
}

// bit is the offset of the next bit of the input.
func (z *inflater) bit() int64 { return z.in.pos()*8 - int64(z.bn) }

// align drops the bits up to the next byte boundary and gives whole bytes back to the input.
func (z *inflater) align() {
	z.in.unread(int(z.bn >> 3))
	z.bb, z.bn = 0, 0
}

// refill gets at least 56 bits into bb, or all there are.
func (z *inflater) refill() error {
	in := z.in
	for in.end-in.p < 8 {
		if err := in.fill(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	for z.bn < 56 && in.p < in.end {
		z.bb |= uint64(in.buf[in.p]) << z.bn
		in.p++
		z.bn += 8
	}
	return nil
}

// need makes n ≤ 48 bits available.
func (z *inflater) need(n uint) error {
	if z.bn < n {
		if err := z.refill(); err != nil {
			return err
		}
		if z.bn < n {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

func (z *inflater) drop(n uint) {
	z.bb >>= n
	z.bn -= n
}

// next decodes until limit (1 to pieceMax) or a little more plain bytes are there, exactly limit in stored blocks. The
// piece is valid until the following call. With io.EOF the stream has ended; other errors too come with what was
// decoded before them.
func (z *inflater) next(limit int) ([]byte, error) {
	if z.pos+limit > len(z.w)-outSlack {
		shift := z.pos - windowSize
		copy(z.w, z.w[shift:z.pos])
		z.pos = windowSize
		z.base = max(0, z.base-shift)
	}
	from, stop := z.pos, z.pos+limit
	var err error
	for z.pos < stop && err == nil {
		switch z.state {
		case blockNone:
			err = z.header()
		case blockStored:
			err = z.stored(stop)
		case blockCoded:
			if err = z.symbols(stop); err == nil && z.state == blockCoded && z.pos < stop {
				err = z.symbol()
			}
		case blockDone:
			z.align()
			err = io.EOF
		}
	}
	return z.w[from:z.pos], err
}

// endBlock is what follows a block.
func (z *inflater) endBlock() {
	z.state = blockNone
	if z.final {
		z.state = blockDone
	}
}

// header reads a block header and builds its tables.
func (z *inflater) header() error {
	if err := z.need(3); err != nil {
		return err
	}
	head := z.bit()
	final := z.bb&1 != 0
	kind := z.bb >> 1 & 3
	z.drop(3)
	switch kind {
	case 0:
		z.align()
		if err := z.need(32); err != nil {
			return err
		}
		n := z.bb & 0xffff
		if n^z.bb>>16&0xffff != 0xffff {
			return corrupt("length of a stored block")
		}
		z.drop(32)
		z.align()
		z.left = int(n)
		z.state = blockStored
	case 1:
		var lengths [288 + 32]uint8
		for i := range lengths {
			switch {
			case i < 144:
				lengths[i] = 8
			case i < 256:
				lengths[i] = 9
			case i < 280:
				lengths[i] = 7
			case i < 288:
				lengths[i] = 8
			default:
				lengths[i] = 5
			}
		}
		buildTable(z.lit[:], litBits, lengths[:288], symbolTable.lit[:])
		buildTable(z.dist[:], distBits, lengths[288:], symbolTable.dist[:])
		z.state = blockCoded
	case 2:
		if err := z.dynamic(); err != nil {
			return err
		}
		z.state = blockCoded
	default:
		return corrupt("kind of a deflate block")
	}
	z.head, z.final = head, final
	if z.state == blockStored && z.left == 0 {
		z.endBlock()
	}
	return nil
}

// codeOrder is the order in which a header gives the lengths of the code-length code.
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the prefix codes of a block.
func (z *inflater) dynamic() error {
	if err := z.need(14); err != nil {
		return err
	}
	nlit, ndist, npre := int(z.bb&31)+257, int(z.bb>>5&31)+1, int(z.bb>>10&15)+4
	z.drop(14)
	if nlit > 286 || ndist > 30 {
		return corrupt("too many deflate codes")
	}
	var pre [19]uint8
	for _, i := range codeOrder[:npre] {
		if err := z.need(3); err != nil {
			return err
		}
		pre[i] = uint8(z.bb & 7)
		z.drop(3)
	}
	if !buildTable(z.pre[:], preBits, pre[:], symbolTable.pre[:]) {
		return corrupt("code-length code")
	}
	var lengths [286 + 30]uint8
	for i := 0; i < nlit+ndist; {
		if z.bn < 14 {
			if err := z.refill(); err != nil {
				return err
			}
		}
		e := z.pre[z.bb&(preSpace-1)]
		if n := uint(e & 15); n > z.bn {
			return io.ErrUnexpectedEOF
		} else if e&entrySpecial != 0 || n == 0 {
			if z.bn < preBits {
				return io.ErrUnexpectedEOF
			}
			return corrupt("code length")
		} else {
			z.drop(n)
		}
		sym := uint8(e >> 16)
		if sym < 16 {
			lengths[i] = sym
			i++
			continue
		}
		extra, repeat, value := uint(7), 11, uint8(0)
		switch sym {
		case 16:
			if i == 0 {
				return corrupt("repeat of no code length")
			}
			extra, repeat, value = 2, 3, lengths[i-1]
		case 17:
			extra, repeat = 3, 3
		}
		if z.bn < extra {
			return io.ErrUnexpectedEOF
		}
		repeat += int(z.bb & (1<<extra - 1))
		z.drop(extra)
		if i+repeat > nlit+ndist {
			return corrupt("too many code lengths")
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	if !buildTable(z.lit[:], litBits, lengths[:nlit], symbolTable.lit[:]) {
		return corrupt("literal code")
	}
	if !buildTable(z.dist[:], distBits, lengths[nlit:nlit+ndist], symbolTable.dist[:]) {
		return corrupt("distance code")
	}
	return nil
}

// stored copies from a stored block, up to stop.
func (z *inflater) stored(stop int) error {
	for z.left > 0 && z.pos < stop {
		if z.in.p == z.in.end {
			if err := z.in.fill(); err != nil {
				return noEOF(err)
			}
		}
		n := copy(z.w[z.pos:min(stop, z.pos+z.left)], z.in.buf[z.in.p:z.in.end])
		z.in.p += n
		z.pos += n
		z.left -= n
	}
	if z.left == 0 {
		z.endBlock()
	}
	return nil
}

// symbols is the fast loop: it decodes while there are inStep bytes of input at hand and room for outStep bytes before
// stop, so that nothing has to be checked inside but the data itself.
func (z *inflater) symbols(stop int) error {
	in := z.in
	src := in.buf[:in.end]
	inEnd, outEnd := in.end-inStep, stop-outStep
	p, pos, base := in.p, z.pos, z.base
	if p > inEnd || pos > outEnd {
		return nil
	}
	w := z.w
	bb, bn := z.bb, z.bn
	lit, dist := &z.lit, &z.dist
	var err error
loop:
	for p <= inEnd && pos <= outEnd {
		bb |= binary.LittleEndian.Uint64(src[p:]) << (bn & 63)
		p += int((63 - bn) >> 3)
		bn |= 56
		e := lit[bb&(1<<litBits-1)]
		if e&entryLiteral != 0 {
			// Up to three literals take at most 33 of the 56 bits.
			w[pos] = byte(e >> 16)
			pos++
			bb >>= e & 63
			bn -= uint(e & 63)
			e = lit[bb&(1<<litBits-1)]
			if e&entryLiteral != 0 {
				w[pos] = byte(e >> 16)
				pos++
				bb >>= e & 63
				bn -= uint(e & 63)
				e = lit[bb&(1<<litBits-1)]
				if e&entryLiteral != 0 {
					w[pos] = byte(e >> 16)
					pos++
					bb >>= e & 63
					bn -= uint(e & 63)
					continue
				}
			}
			bb |= binary.LittleEndian.Uint64(src[p:]) << (bn & 63)
			p += int((63 - bn) >> 3)
			bn |= 56
		}
		if e&entrySpecial != 0 {
			if e&entryLink != 0 {
				bb >>= litBits
				bn -= litBits
				e = lit[(e>>16+uint32(bb)&(1<<(e>>8&15)-1))&(litSpace-1)]
				if e&entryLiteral != 0 {
					w[pos] = byte(e >> 16)
					pos++
					bb >>= e & 63
					bn -= uint(e & 63)
					continue
				}
			}
			if e&entrySpecial != 0 {
				if e&entryEnd == 0 {
					err = corrupt("literal or length")
					break
				}
				bb >>= e & 63
				bn -= uint(e & 63)
				z.endBlock()
				break
			}
		}
		// A length takes at most 20 bits, a distance 28.
		length := int(e>>16) + int(bb&(1<<(e&63)-1)>>(e>>8&15))
		bb >>= e & 63
		bn -= uint(e & 63)
		d := dist[bb&(1<<distBits-1)]
		if d&entrySpecial != 0 {
			if d&entryLink != 0 {
				bb >>= distBits
				bn -= distBits
				d = dist[(d>>16+uint32(bb)&(1<<(d>>8&15)-1))&(distSpace-1)]
			}
			if d&entrySpecial != 0 {
				err = corrupt("distance code")
				break
			}
		}
		back := int(d>>16) + int(bb&(1<<(d&63)-1)>>(d>>8&15))
		bb >>= d & 63
		bn -= uint(d & 63)
		from, end := pos-back, pos+length
		if from < base {
			err = corrupt("distance beyond the beginning")
			break
		}
		switch {
		case back >= 8:
			if back >= length && length > 32 {
				copy(w[pos:end], w[from:from+length])
				break
			}
			for {
				binary.LittleEndian.PutUint64(w[pos:], binary.LittleEndian.Uint64(w[from:]))
				pos += 8
				from += 8
				if pos >= end {
					break
				}
			}
		case back == 1:
			run := uint64(w[from]) * 0x0101010101010101
			for {
				binary.LittleEndian.PutUint64(w[pos:], run)
				pos += 8
				if pos >= end {
					break
				}
			}
		default:
			for pos < end {
				w[pos] = w[from]
				pos++
				from++
			}
		}
		pos = end
		continue loop
	}
	// Whole bytes that were looked at go back to the input.
	in.p = p
	in.unread(int(bn >> 3))
	z.bn = bn & 7
	z.bb = bb & (1<<z.bn - 1)
	z.pos = pos
	return err
}

// symbol decodes one literal, match or end of block, with every check. Nothing is taken if the input ends in it.
func (z *inflater) symbol() error {
	if z.bn < 48 {
		if err := z.refill(); err != nil {
			return err
		}
	}
	bb, used := z.bb, uint(0)
	e := z.lit[bb&(1<<litBits-1)]
	if e&entryLink != 0 && e&entrySpecial != 0 {
		bb >>= litBits
		used = litBits
		e = z.lit[(e>>16+uint32(bb)&(1<<(e>>8&15)-1))&(litSpace-1)]
	}
	// Bits that are not there read as zeros: a code that needs them ends the input, whatever it would mean.
	used += uint(e & 63)
	if used > z.bn || (e&entrySpecial != 0 && e&entryEnd == 0 && z.bn < 15) {
		return io.ErrUnexpectedEOF
	}
	switch {
	case e&entryLiteral != 0:
		z.drop(used)
		z.w[z.pos] = byte(e >> 16)
		z.pos++
		return nil
	case e&entrySpecial != 0:
		if e&entryEnd == 0 {
			return corrupt("literal or length")
		}
		z.drop(used)
		z.endBlock()
		return nil
	}
	length := int(e>>16) + int(bb&(1<<(e&63)-1)>>(e>>8&15))
	bb >>= e & 63
	d := z.dist[bb&(1<<distBits-1)]
	if d&entryLink != 0 && d&entrySpecial != 0 {
		bb >>= distBits
		used += distBits
		d = z.dist[(d>>16+uint32(bb)&(1<<(d>>8&15)-1))&(distSpace-1)]
	}
	used += uint(d & 63)
	if used > z.bn || (d&entrySpecial != 0 && z.bn < used+15) && z.in.p == z.in.end {
		return io.ErrUnexpectedEOF
	}
	if d&entrySpecial != 0 {
		return corrupt("distance code")
	}
	back := int(d>>16) + int(bb&(1<<(d&63)-1)>>(d>>8&15))
	if back > z.pos-z.base {
		return corrupt("distance beyond the beginning")
	}
	z.drop(used)
	for range length {
		z.w[z.pos] = z.w[z.pos-back]
		z.pos++
	}
	return nil
}
