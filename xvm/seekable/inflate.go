package seekable

import "io"

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
