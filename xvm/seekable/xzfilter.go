package seekable

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Filters of xz stand before LZMA2: the encoder makes the plain bytes easier to compress, say by turning the relative
// targets of calls into absolute ones (BCJ), and the decoder undoes that. Each works on one block, from its first byte.

// A filter undoes its work on the first bytes of b, which lie at block offset at, in place. It returns how many of them
// are done; fewer than len(b) if it has to see what follows. What it leaves at the end of the block stays as it is.
type filter interface {
	undo(b []byte, at uint32) int
}

const xzLZMA2 = 0x21

// xzFilters names the filters there are; make is nil for those not decoded here, and gives nil for bad properties.
var xzFilters = map[int64]struct {
	name string
	make func(properties []byte) filter
}{
	0x03:    {"delta", newDelta},
	0x04:    {"x86", func(p []byte) filter { return newBranch(p, 1, new(x86)) }},
	0x05:    {"PowerPC", nil},
	0x06:    {"IA-64", nil},
	0x07:    {"ARM", nil},
	0x08:    {"ARM-Thumb", nil},
	0x09:    {"SPARC", nil},
	0x0a:    {"ARM64", func(p []byte) filter { return newBranch(p, 4, arm64{}) }},
	0x0b:    {"RISC-V", nil},
	xzLZMA2: {"LZMA2 before another", nil},
}

// newFilter makes the filter of this id.
func newFilter(id int64, properties []byte) (filter, error) {
	f, known := xzFilters[id]
	switch {
	case !known:
		return nil, unsupported(fmt.Sprintf("xz filter %#x", id))
	case f.make == nil:
		return nil, unsupported("xz filter " + f.name)
	}
	made := f.make(properties)
	if made == nil {
		return nil, corrupt("properties of the xz filter " + f.name)
	}
	return made, nil
}

// newBranch takes the properties of a filter for branches: nothing, or the offset at which the block is taken to begin,
// a multiple of align.
func newBranch(properties []byte, align uint32, f filter) filter {
	switch len(properties) {
	case 0:
		return f
	case 4:
		if start := binary.LittleEndian.Uint32(properties); start%align == 0 {
			return shifted{f, start}
		}
	}
	return nil
}

// shifted is a filter whose block does not begin at 0.
type shifted struct {
	filter
	start uint32
}

func (s shifted) undo(b []byte, at uint32) int { return s.filter.undo(b, s.start+at) }

// delta adds to each byte the one that lies distance bytes before it.
type delta struct {
	distance int
	before   [256]byte // the last ones of the block, by offset modulo 256
}

func newDelta(properties []byte) filter {
	if len(properties) != 1 {
		return nil
	}
	return &delta{distance: int(properties[0]) + 1}
}

func (d *delta) undo(b []byte, at uint32) int {
	for i := range b {
		k := at + uint32(i)
		b[i] += d.before[byte(k-uint32(d.distance))]
		d.before[byte(k)] = b[i]
	}
	return len(b)
}

// x86 undoes the targets of CALL and JMP (E8 and E9), four bytes each. The encoder has to guess which bytes are opcodes,
// so it takes only those whose target is near: whose highest byte is 00 or FF. near has a bit for each of the last
// three bytes that looked like an opcode and was left alone (bit 0 is the byte just before), and four bits higher one if
// its target was near too.
type x86 struct{ near uint32 }

func (x *x86) undo(b []byte, at uint32) int {
	const size = 5
	i := 0
	for i+size <= len(b) {
		op := b[i : i+size]
		if op[0]&^1 != 0xe8 {
			x.near = x.near << 1 & 0x77
			i++
			continue
		}
		// Of the three bytes before, one may have looked like an opcode, but not with a near target.
		if old := x.near; !isSign(op[4]) || old&^7 != 0 || old&(old-1) != 0 {
			x.near = x.near<<1&0x77 | 1
			if isSign(op[4]) {
				x.near |= 0x10
			}
			i++
			continue
		}
		next := at + uint32(i) + size
		v := binary.LittleEndian.Uint32(op[1:]) - next
		if n := 8 * bits.Len32(x.near); n > 0 && isSign(byte(v>>(24-n))) {
			// To a decoder that took the byte before for an opcode, its target would now look near. The encoder has
			// avoided that by turning the lower bits round.
			v = v ^ (1<<(32-n) - 1) - next
		}
		binary.LittleEndian.PutUint32(op[1:], uint32(int32(v<<7)>>7))
		i += size
		x.near = 0
	}
	return i
}

func isSign(b byte) bool { return b == 0 || b == 0xff }

// arm64 undoes the targets of BL, in units of four bytes, and of ADRP within 512 MiB, in pages of 4 KiB.
type arm64 struct{}

func (arm64) undo(b []byte, at uint32) int {
	i := 0
	for ; i+4 <= len(b); i += 4 {
		op, pc := binary.LittleEndian.Uint32(b[i:]), at+uint32(i)
		switch {
		case op>>26 == 0x25:
			op = 0x25<<26 | (op-pc>>2)&(1<<26-1)
		case op&0x9f000000 == 0x90000000:
			page := op>>29&3 | op>>3&0x1ffffc
			if (page+1<<17)&(7<<18) != 0 {
				continue
			}
			page = page - pc>>12
			page = page&(1<<18-1) | -(page>>17&1)&(7<<18) // the sign again in all bits above
			op = op&0x9000001f | page&3<<29 | page>>2<<5
		}
		binary.LittleEndian.PutUint32(b[i:], op)
	}
	return i
}

// A filtered reader undoes one filter of a block.
type filtered struct {
	filter
	src  io.Reader
	buf  []byte
	from int    // buf[from:done] is to be read
	done int    // buf[:done] has been undone, buf[done:end] not yet
	end  int    //
	at   uint32 // block offset of buf[0]
	err  error  // behind buf[:end]
}

// filterBuffer is more than any filter has to see at once.
const filterBuffer = 16 << 10

func (f *filtered) Read(p []byte) (int, error) {
	for f.from == f.done {
		if f.err == io.EOF && f.done < f.end {
			f.done = f.end
			break
		}
		if f.err != nil {
			return 0, f.err
		}
		if f.buf == nil {
			f.buf = make([]byte, filterBuffer)
		}
		f.end = copy(f.buf, f.buf[f.done:f.end])
		f.at += uint32(f.done)
		f.from, f.done = 0, 0
		var n int
		n, f.err = f.src.Read(f.buf[f.end:])
		f.end += n
		f.done = f.undo(f.buf[:f.end], f.at)
	}
	n := copy(p, f.buf[f.from:f.done])
	f.from += n
	return n, nil
}
