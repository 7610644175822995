package seekable

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Gzip files (RFC 1952) are one or more members, each a deflate stream (RFC 1951) with a CRC-32 and its length behind.
const Gzip Format = "gzip"

func beginsGzip(head []byte) bool { return bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}) }

// memberLimit bounds each of the optional strings of a gzip header; longer ones are no gzip file of this world.
const memberLimit = 1 << 20

// A gzipReader decodes gzip members (RFC 1952), one after the other.
type gzipReader struct {
	env
	in *input
	z  inflater

	out    int64 // plain offset behind what the inflater has given
	start  int64 // of out, where the member began
	crc    uint32
	inside bool   // of a member
	first  bool   // no member has been seen yet
	due    int64  // next plain offset to stop at
	piece  []byte // decoded, not yet read
	err    error  // follows piece
}

func openGzip(e env, p point) (decoder, error) {
	if err := e.mem.take(0, nil); err != nil {
		return nil, err
	}
	g := &gzipReader{env: e, out: p.out, start: p.start, crc: p.crc, first: p.in == 0}
	if !p.inside() {
		g.in = e.open(p.in / 8)
		return g, nil
	}
	if err := g.resume(p); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// resume puts the inflater into the state of a point inside a member.
func (g *gzipReader) resume(p point) error {
	window, err := unpackWindow(p.window)
	if err != nil || int64(len(window)) != min(windowSize, p.out-p.start) {
		return corrupt("window of a seek point")
	}
	z := &g.z
	at := p.in
	if p.state == blockCoded {
		at = p.head // the tables come from the block's header, which lies before the point, mostly near it
	}
	if err := g.seek(at); err != nil {
		return err
	}
	switch p.state {
	case blockCoded:
		if err := z.header(); err != nil {
			return err
		}
		gap := p.in - z.bit()
		if z.state != blockCoded || z.final != p.final || gap < 0 {
			return corrupt("block of a seek point")
		}
		if gap > chunkMax*8 {
			g.in.close()
			tables := z.head
			if err := g.seek(p.in); err != nil {
				return err
			}
			z.state, z.final, z.head = blockCoded, p.final, tables
			break
		}
		n := min(gap, int64(z.bn))
		z.drop(uint(n))
		if gap -= n; gap > 0 { // no bits are left over from the header
			if err := g.in.skip(gap / 8); err != nil {
				return err
			}
			if err := z.need(uint(gap % 8)); err != nil {
				return err
			}
			z.drop(uint(gap % 8))
		}
	case blockStored:
		if p.in%8 != 0 {
			return corrupt("place of a seek point")
		}
		fallthrough
	default:
		z.state, z.final, z.left = p.state, p.final, int(p.left)
	}
	z.pos = copy(z.w, window)
	z.base = 0
	g.inside = true
	return nil
}

// seek puts the inflater at a bit of the file.
func (g *gzipReader) seek(bit int64) error {
	g.in = g.open(bit / 8)
	g.z.reset(g.in)
	if err := g.z.need(uint(bit % 8)); err != nil {
		return err
	}
	g.z.drop(uint(bit % 8))
	return nil
}

func (g *gzipReader) close() {
	if g.in != nil {
		g.in.close()
	}
}

func (g *gzipReader) pos() int64 { return g.in.pos() }

func (g *gzipReader) Read(p []byte) (int, error) {
	for len(g.piece) == 0 {
		if g.err != nil {
			return 0, g.err
		}
		g.err = g.step()
	}
	n := copy(p, g.piece)
	g.piece = g.piece[n:]
	return n, nil
}

// step goes on by a piece, a member header or a trailer.
func (g *gzipReader) step() error {
	if !g.inside {
		return g.header()
	}
	if g.due <= g.out {
		g.due = g.x.nextStop(g.out)
	}
	piece, err := g.z.next(int(min(pieceMax, g.due-g.out)))
	g.piece = piece
	g.out += int64(len(piece))
	g.crc = crc32.Update(g.crc, crc32.IEEETable, piece)
	if err == io.EOF {
		return g.trailer()
	}
	if err == nil && g.out >= g.due && g.x.mustPass(g.run, g.out, true) {
		err = g.mark()
	}
	return err
}

// mark shows the index a point inside a member.
func (g *gzipReader) mark() error {
	z := &g.z
	w, err := packWindow(z.w[max(z.base, z.pos-windowSize):z.pos])
	if err != nil {
		return err
	}
	p := point{out: g.out, in: z.bit(), start: g.start, state: z.state, final: z.final, crc: g.crc, window: w}
	switch z.state {
	case blockCoded:
		p.head = z.head
	case blockStored:
		p.left = int64(z.left)
	}
	return g.x.pass(g.run, p)
}

// header reads a member header, or finds the end of the file.
func (g *gzipReader) header() error {
	at := g.in.pos()
	var h [10]byte
	n, err := io.ReadFull(g.in, h[:2])
	switch {
	case g.first && n == 0 && err == io.EOF:
		return io.ErrUnexpectedEOF // an empty file is no gzip file
	case n == 0 && err == io.EOF:
		return g.end(g.out)
	case n == 1 && err == io.ErrUnexpectedEOF && h[0] != 0x1f && !g.first:
		return g.end(g.out)
	case err != nil:
		return noEOF(err)
	case h[0] != 0x1f || h[1] != 0x8b:
		if g.first {
			return corrupt("no gzip header")
		}
		if err := trailing(g.in, h[:2], []byte{0x1f, 0x8b, 8}); err != nil {
			return err
		}
		return g.end(g.out)
	}
	if err := g.in.full(h[2:]); err != nil {
		return err
	}
	flags := h[3]
	if h[2] != 8 || flags&0xe0 != 0 {
		return corrupt("gzip method or flags")
	}
	sum := crc32.ChecksumIEEE(h[:])
	next := func(b []byte) error {
		if err := g.in.full(b); err != nil {
			return err
		}
		sum = crc32.Update(sum, crc32.IEEETable, b)
		return nil
	}
	if flags&4 != 0 { // FEXTRA
		var n [2]byte
		if err := next(n[:]); err != nil {
			return err
		}
		if err := next(make([]byte, binary.LittleEndian.Uint16(n[:]))); err != nil {
			return err
		}
	}
	for _, flag := range []byte{8, 16} { // FNAME, FCOMMENT
		for n := 0; flags&flag != 0; n++ {
			var b [1]byte
			if err := next(b[:]); err != nil {
				return err
			}
			if b[0] == 0 {
				break
			}
			if n == memberLimit {
				return corrupt("gzip header too long")
			}
		}
	}
	if flags&2 != 0 { // FHCRC
		want := uint16(sum)
		var b [2]byte
		if err := g.in.full(b[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(b[:]) != want {
			return corrupt("gzip header checksum")
		}
	}
	if err := g.boundary(point{out: g.out, in: at * 8, start: g.out}); err != nil {
		return err
	}
	g.z.reset(g.in)
	g.first, g.inside, g.start, g.crc, g.due = false, true, g.out, 0, 0
	return nil
}

// trailer checks the member that has ended.
func (g *gzipReader) trailer() error {
	var t [8]byte
	if err := g.in.full(t[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(t[:4]) != g.crc {
		return corrupt("checksum of a gzip member")
	}
	if binary.LittleEndian.Uint32(t[4:]) != uint32(g.out-g.start) {
		return corrupt("size of a gzip member")
	}
	g.inside = false
	return nil
}
