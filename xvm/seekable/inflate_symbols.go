package seekable

import (
	"encoding/binary"
	"io"
)

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
