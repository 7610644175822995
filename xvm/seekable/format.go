package seekable

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The form of saved seek points, version 2. Numbers are unsigned varints unless noted:
//
//	"vmcseek2"
//	format as length and bytes, stored size, plain size + 1 (0: not known), number of points
//	per point: plain offset (difference to the one before), bit offset (difference), flags byte, and by flags
//	  inside a gzip member: plain offset - start of member, state byte, [bit offset - header], [left],
//	                        checksum (4 bytes), length and bytes of the deflated window
//	  boundary:             aux byte
//	SHA-256 of all before
//
// Version 1 is dropped: its points may have been made by an inflater that lost bytes at the end of a chunk.
const (
	pointsMagic = "vmcseek2"
	pointsMax   = 64 << 20 // longest data taken
	pointLeast  = 4        // bytes of the shortest point
	windowMax   = windowSize + windowSize/8
	flagInside  = 1
	flagFinal   = 2
)

// encode gives the data, and whether it changed since the last call.
func (x *index) encode() ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := append([]byte(nil), pointsMagic...)
	num := func(n int64) { b = binary.AppendUvarint(b, uint64(n)) }
	num(int64(len(x.format)))
	b = append(b, x.format...)
	num(x.stored)
	num(x.size + 1)
	num(int64(len(x.points)))
	var last point
	for _, p := range x.points {
		num(p.out - last.out)
		num(p.in - last.in)
		last = p
		flags := byte(0)
		if p.inside() {
			flags |= flagInside
		}
		if p.final {
			flags |= flagFinal
		}
		b = append(b, flags)
		if p.inside() {
			num(p.out - p.start)
			b = append(b, byte(p.state))
			switch p.state {
			case blockCoded:
				num(p.in - p.head)
			case blockStored:
				num(p.left)
			}
		}
		if p.inside() {
			b = binary.LittleEndian.AppendUint32(b, p.crc)
			num(int64(len(p.window)))
			b = append(b, p.window...)
		} else {
			b = append(b, p.aux)
		}
	}
	sum := sha256.Sum256(b)
	changed := x.dirty
	x.dirty = false
	return append(b, sum[:]...), changed
}

// A cursor takes numbers off saved data; bad stays set after the first that is not there or out of range.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int64) []byte {
	if c.bad || n < 0 || n > int64(len(c.b)) {
		c.bad = true
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

// num is at most limit.
func (c *cursor) num(limit int64) int64 {
	v, n := binary.Uvarint(c.b)
	if c.bad || n <= 0 || limit < 0 || v > uint64(limit) {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return int64(v)
}

func (c *cursor) byte() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if p := c.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

// decode takes in the points of data that fit between those there.
func (x *index) decode(data []byte) error {
	refuse := func(reason string) error { return fmt.Errorf("%w: %s", ErrPoints, reason) }
	if len(data) > pointsMax {
		return refuse("too long")
	}
	if len(data) < len(pointsMagic)+sha256.Size || string(data[:len(pointsMagic)]) != pointsMagic {
		return refuse("not of this version")
	}
	body := data[:len(data)-sha256.Size]
	if sum := sha256.Sum256(body); string(sum[:]) != string(data[len(body):]) {
		return refuse("checksum")
	}
	c := &cursor{b: body[len(pointsMagic):]}
	if string(c.take(c.num(16))) != string(x.format) || c.num(maxStored) != x.stored || c.bad {
		return refuse("of another file")
	}
	size := c.num(maxPlain) - 1
	count := c.num(int64(len(c.b) / pointLeast))
	var points []point
	var last point
	for i := int64(0); i < count && !c.bad; i++ {
		p := x.decodePoint(c, last)
		if size >= 0 && p.out > size {
			c.bad = true
		}
		points = append(points, p)
		last = p
	}
	if c.bad || len(c.b) != 0 {
		return refuse("malformed")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.size < 0 && size >= 0 {
		x.size, x.trust = size, restored
	}
	for _, p := range points {
		if i := x.countTo(p.out); x.spaced(i, p.out, p.inside()) {
			x.insert(i, p)
		}
	}
	x.dirty = false
	return nil
}

// maxPlain bounds plain offsets in saved data.
const maxPlain = 1 << 60

func (x *index) decodePoint(c *cursor, last point) point {
	p := point{trust: restored}
	p.out = last.out + c.num(maxPlain-last.out)
	p.in = last.in + c.num(x.stored*8-last.in)
	if p.out <= last.out {
		c.bad = true
	}
	flags := c.byte()
	p.final = flags&flagFinal != 0
	if flags&flagInside == 0 {
		p.aux = c.byte()
		if flags != 0 || p.in%8 != 0 || x.format == Bzip2 || x.format == Gzip && p.aux != 0 {
			c.bad = true
		}
		if x.format == Gzip {
			p.start = p.out
		}
		return p
	}
	if flags&^(flagInside|flagFinal) != 0 || x.format != Gzip {
		c.bad = true
	}
	p.start = p.out - c.num(p.out)
	p.state = blockState(c.byte())
	switch p.state {
	case blockCoded:
		p.head = p.in - c.num(p.in)
	case blockStored:
		p.left = c.num(65535)
	case blockNone, blockDone:
	default:
		c.bad = true
	}
	p.crc = c.uint32()
	p.window = string(c.take(c.num(windowMax)))
	if p.window == "" {
		c.bad = true
	}
	return p
}
