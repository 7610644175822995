package seekable

import (
	"encoding/binary"
	"io"
)

// bzip2 has no specification; this follows the format as the original program reads and writes it. Every block is
// independent of those before it but for the combined checksum of the stream, so that each block's first bit is a
// seek point.
const (
	bzipBlock   = 0x314159265359
	bzipEnd     = 0x177245385090
	bzipUnit    = 100_000 // block size of level 1
	bzipGroup   = 50      // symbols coded with one table
	bzipLongest = 20      // bits of a code
	bzipQuick   = 10      // bits looked up at once
	bzipSymbols = 258
	bzipTables  = 6
)

// bzipTable is a prefix code.
type bzipTable struct {
	quick [1 << bzipQuick]uint16 // symbol<<5 | bits, 0: longer than bzipQuick or no code
	limit [bzipLongest + 2]uint32
	first [bzipLongest + 2]uint32
	start [bzipLongest + 2]int
	syms  [bzipSymbols]uint16
}

// build makes the canonical code with these lengths, 1 to bzipLongest; false if there are too many short ones.
func (t *bzipTable) build(lengths []uint8) bool {
	var count [bzipLongest + 2]int
	for _, l := range lengths {
		count[l]++
	}
	clear(t.quick[:])
	code, n := uint32(0), 0
	for l := 1; l <= bzipLongest; l++ {
		t.first[l], t.start[l] = code, n
		for sym, have := range lengths {
			if int(have) != l {
				continue
			}
			t.syms[n] = uint16(sym)
			n++
			if l <= bzipQuick {
				if code >= 1<<l {
					return false
				}
				for k := range uint32(1) << (bzipQuick - l) {
					t.quick[code<<(bzipQuick-l)|k] = uint16(sym)<<5 | uint16(l)
				}
			}
			code++
		}
		if code > 1<<l {
			return false
		}
		t.limit[l] = code
		code <<= 1
	}
	return true
}

// A bzipReader decodes streams of blocks. A point is the beginning of a stream (aux 0) or of a block (aux: level, crc:
// combined checksum so far).
type bzipReader struct {
	site
	in    *input
	bb    uint64 // its low bn bits are the next of the input
	bn    uint
	out   int64
	first bool

	level    int // of the stream; 0 between streams
	combined uint32
	table    *[256]uint32 // of the checksum

	// The block at hand. tt holds its bytes before the first run-length coding, linked in order.
	tt   []uint32
	next uint32
	left int // bytes of it not yet taken
	want uint32
	crc  uint32
	last int // last byte, -1 at the beginning
	run  int // how often it came
	rep  int // repeats still to give
	open bool

	codes     [bzipTables]bzipTable
	selectors []uint8
}

func openBzip2(s site, p point) (decoder, error) {
	d := &bzipReader{site: s, in: s.open(p.in / 8), out: p.out, first: p.in == 0, table: bzipSums}
	if p.aux > 9 {
		d.close()
		return nil, corrupt("level of a seek point")
	}
	if _, err := d.bits(uint(p.in % 8)); err != nil {
		d.close()
		return nil, err
	}
	d.level, d.combined = int(p.aux), p.crc
	return d, nil
}

// bzipSums is a compiled table: CRC-32 with the most significant bit first.
var bzipSums = func() *[256]uint32 {
	t := new([256]uint32)
	for i := range t {
		c := uint32(i) << 24
		for range 8 {
			c = c<<1 ^ 0x04c11db7&-(c>>31)
		}
		t[i] = c
	}
	return t
}()

func (d *bzipReader) close()     { d.in.close() }
func (d *bzipReader) pos() int64 { return d.in.pos() - int64(d.bn/8) }
func (d *bzipReader) bit() int64 { return d.in.pos()*8 - int64(d.bn) }

// refill gets at least 48 bits into bb, or all there are.
func (d *bzipReader) refill() error {
	in := d.in
	if in.end-in.p < 8 {
		if err := in.fill(); err != nil && err != io.EOF {
			return err
		}
	}
	if in.end-in.p >= 8 && d.bn <= 16 {
		d.bb = d.bb<<48 | binary.BigEndian.Uint64(in.buf[in.p:])>>16
		in.p += 6
		d.bn += 48
		return nil
	}
	for d.bn <= 48 && in.p < in.end {
		d.bb = d.bb<<8 | uint64(in.buf[in.p])
		in.p++
		d.bn += 8
	}
	return nil
}

// bits takes n ≤ 48 bits.
func (d *bzipReader) bits(n uint) (uint64, error) {
	if d.bn < n {
		if err := d.refill(); err != nil {
			return 0, err
		}
		if d.bn < n {
			return 0, io.ErrUnexpectedEOF
		}
	}
	d.bn -= n
	return d.bb >> d.bn & (1<<n - 1), nil
}

func (d *bzipReader) Read(p []byte) (int, error) {
	for {
		if !d.open {
			next := d.streamHeader
			if d.level > 0 {
				next = d.blockHeader
			}
			if err := next(); err != nil {
				return 0, err
			}
			continue
		}
		n := d.plain(p)
		d.out += int64(n)
		if d.left == 0 && d.rep == 0 {
			d.open = false
			if ^d.crc != d.want {
				return n, corrupt("checksum of a bzip2 block")
			}
			d.combined = (d.combined<<1 | d.combined>>31) ^ d.want
		}
		if n > 0 {
			return n, nil
		}
	}
}

// plain undoes the first run-length coding: four equal bytes are followed by how often the byte comes again.
func (d *bzipReader) plain(p []byte) int {
	n, crc, next, sums := 0, d.crc, d.next, d.table
	for n < len(p) {
		if d.rep > 0 {
			b := byte(d.last)
			for ; d.rep > 0 && n < len(p); d.rep-- {
				p[n] = b
				n++
				crc = crc<<8 ^ sums[byte(crc>>24)^b]
			}
			continue
		}
		if d.left == 0 {
			break
		}
		d.left--
		next = d.tt[next]
		b := byte(next)
		next >>= 8
		if d.run == 4 {
			d.rep, d.run = int(b), 0
			continue
		}
		if int(b) == d.last {
			d.run++
		} else {
			d.run, d.last = 1, int(b)
		}
		p[n] = b
		n++
		crc = crc<<8 ^ sums[byte(crc>>24)^b]
	}
	d.crc, d.next = crc, next
	return n
}

// streamHeader reads one, or finds the end of the file.
func (d *bzipReader) streamHeader() error {
	if err := d.refill(); err != nil {
		return err
	}
	at := d.bit()
	have := int(d.bn / 8)
	if have == 0 && !d.first {
		if err := d.x.finish(d.site.run, d.out); err != nil {
			return err
		}
		return io.EOF
	}
	var h [4]byte
	for i := range min(have, 4) {
		v, _ := d.bits(8)
		h[i] = byte(v)
	}
	if string(h[:min(have, 3)]) == "BZh"[:min(have, 3)] {
		if have < 4 {
			return io.ErrUnexpectedEOF
		}
		if h[3] >= '1' && h[3] <= '9' {
			if d.out > 0 && d.x.wanted(d.site.run, d.out, false) {
				if err := d.x.pass(d.site.run, point{out: d.out, in: at}); err != nil {
					return err
				}
			}
			d.level, d.combined, d.first = int(h[3]-'0'), 0, false
			return nil
		}
	}
	if d.first {
		if have < 4 {
			return io.ErrUnexpectedEOF
		}
		return corrupt("no bzip2 header")
	}
	junk := h[:min(have, 4)]
	for d.bn >= 8 {
		v, _ := d.bits(8)
		junk = append(junk, byte(v))
	}
	if err := trailing(d.in, junk, []byte("1AY&SY")); err != nil {
		return err
	}
	if err := d.x.finish(d.site.run, d.out); err != nil {
		return err
	}
	return io.EOF
}

// blockHeader decodes a block, or reads what ends a stream.
func (d *bzipReader) blockHeader() error {
	at := d.bit()
	magic, err := d.bits(48)
	if err != nil {
		return err
	}
	sum, err := d.bits(32)
	if err != nil {
		return err
	}
	switch magic {
	case bzipEnd:
		if uint32(sum) != d.combined {
			return corrupt("checksum of a bzip2 stream")
		}
		d.bn -= d.bn % 8
		d.level = 0
		return nil
	case bzipBlock:
	default:
		return corrupt("no bzip2 block")
	}
	if d.out > 0 && d.x.wanted(d.site.run, d.out, false) {
		if err := d.x.pass(d.site.run, point{out: d.out, in: at, aux: uint8(d.level), crc: d.combined}); err != nil {
			return err
		}
	}
	d.want = uint32(sum)
	origin, err := d.bits(25)
	if err != nil {
		return err
	}
	if origin>>24 != 0 {
		return unsupported("randomised bzip2 block")
	}
	if d.tt == nil || cap(d.tt) < d.level*bzipUnit {
		d.tt = make([]uint32, d.level*bzipUnit)
	}
	n, count, err := d.symbols()
	if err != nil {
		return err
	}
	if origin >= uint64(n) {
		return corrupt("origin of a bzip2 block")
	}
	// Undo the Burrows-Wheeler transform: link each byte to the one before which it stood.
	sumTo := uint32(0)
	for i, c := range count {
		count[i] = sumTo
		sumTo += c
	}
	tt := d.tt[:n]
	for i := range tt {
		b := byte(tt[i])
		tt[count[b]] |= uint32(i) << 8
		count[b]++
	}
	d.next, d.left = tt[origin]>>8, n
	d.crc, d.last, d.run, d.rep, d.open = ^uint32(0), -1, 0, 0, true
	return nil
}

// symbols undoes the prefix codes, the second run-length coding and move-to-front, into tt. It gives the number of
// bytes, and how often each value comes.
func (d *bzipReader) symbols() (int, [256]uint32, error) {
	var count [256]uint32
	fail := func(err error) (int, [256]uint32, error) { return 0, count, err }
	front, used, err := d.alphabet()
	if err != nil {
		return fail(err)
	}
	if err := d.tables(used + 2); err != nil {
		return fail(err)
	}
	size := d.level * bzipUnit
	tt := d.tt[:size]
	n, group, left := 0, 0, 0
	repeat, power := 0, 1
	var table *bzipTable
	end := uint32(used + 1)
	for {
		if left == 0 {
			if group == len(d.selectors) {
				return fail(corrupt("too few selectors in a bzip2 block"))
			}
			table = &d.codes[d.selectors[group]]
			group++
			left = bzipGroup
		}
		left--
		if d.bn < bzipLongest {
			if err := d.refill(); err != nil {
				return fail(err)
			}
		}
		var sym uint32
		if d.bn >= bzipLongest {
			if e := table.quick[d.bb>>(d.bn-bzipQuick)&(1<<bzipQuick-1)]; e != 0 {
				d.bn -= uint(e & 31)
				sym = uint32(e >> 5)
			} else if sym, err = d.slow(table); err != nil {
				return fail(err)
			}
		} else if sym, err = d.slow(table); err != nil {
			return fail(err)
		}
		if sym < 2 {
			repeat += power << sym
			power <<= 1
			if repeat > size {
				return fail(corrupt("run in a bzip2 block"))
			}
			continue
		}
		if repeat > 0 {
			if repeat > size-n {
				return fail(corrupt("bzip2 block is too long"))
			}
			b := uint32(front[0])
			for i := range tt[n : n+repeat] {
				tt[n+i] = b
			}
			count[b] += uint32(repeat)
			n += repeat
			repeat, power = 0, 1
		}
		if sym == end {
			return n, count, nil
		}
		if n == size {
			return fail(corrupt("bzip2 block is too long"))
		}
		i := sym - 1
		b := front[i]
		if i < 16 {
			for ; i > 0; i-- {
				front[i] = front[i-1]
			}
		} else {
			copy(front[1:i+1], front[:i])
		}
		front[0] = b
		tt[n] = uint32(b)
		count[b]++
		n++
	}
}

// slow decodes a symbol bit by bit.
func (d *bzipReader) slow(t *bzipTable) (uint32, error) {
	for l := uint(1); l <= bzipLongest; l++ {
		if l > d.bn {
			return 0, io.ErrUnexpectedEOF
		}
		code := uint32(d.bb >> (d.bn - l) & (1<<l - 1))
		if code < t.limit[l] && code >= t.first[l] {
			d.bn -= l
			return uint32(t.syms[t.start[l]+int(code-t.first[l])]), nil
		}
	}
	return 0, corrupt("code in a bzip2 block")
}

// alphabet reads which bytes occur.
func (d *bzipReader) alphabet() (front [256]uint8, used int, err error) {
	rows, err := d.bits(16)
	for i := range 16 {
		if err != nil {
			return front, 0, err
		}
		if rows>>(15-i)&1 == 0 {
			continue
		}
		var row uint64
		row, err = d.bits(16)
		for j := range 16 {
			if row>>(15-j)&1 != 0 {
				front[used] = uint8(16*i + j)
				used++
			}
		}
	}
	if err == nil && used == 0 {
		err = corrupt("empty alphabet of a bzip2 block")
	}
	return front, used, err
}

// tables reads the selectors and the codes of so many symbols.
func (d *bzipReader) tables(symbols int) error {
	v, err := d.bits(18)
	if err != nil {
		return err
	}
	tables, selectors := int(v>>15), int(v&0x7fff)
	if tables < 2 || tables > bzipTables || selectors == 0 {
		return corrupt("tables of a bzip2 block")
	}
	front := [bzipTables]uint8{0, 1, 2, 3, 4, 5}
	d.selectors = d.selectors[:0]
	for range selectors {
		k := 0
		for {
			b, err := d.bits(1)
			if err != nil {
				return err
			}
			if b == 0 {
				break
			}
			if k++; k == tables {
				return corrupt("selector of a bzip2 block")
			}
		}
		t := front[k]
		copy(front[1:k+1], front[:k])
		front[0] = t
		d.selectors = append(d.selectors, t)
	}
	var lengths [bzipSymbols]uint8
	for t := range tables {
		v, err := d.bits(5)
		if err != nil {
			return err
		}
		l := int(v)
		for i := range symbols {
			for {
				if l < 1 || l > bzipLongest {
					return corrupt("code length in a bzip2 block")
				}
				b, err := d.bits(1)
				if err != nil {
					return err
				}
				if b == 0 {
					break
				}
				if b, err = d.bits(1); err != nil {
					return err
				}
				l += 1 - 2*int(b)
			}
			lengths[i] = uint8(l)
		}
		if !d.codes[t].build(lengths[:symbols]) {
			return corrupt("code of a bzip2 block")
		}
	}
	return nil
}
