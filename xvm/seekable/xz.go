package seekable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

// XZ files are streams of blocks, with an index behind them (version 1.2.1, https://tukaani.org/xz/xz-file-format.txt).
const XZ Format = "xz"

func beginsXZ(head []byte) bool { return bytes.HasPrefix(head, xzMagic) }

const (
	xzHeaderLen = 12 // of stream header and of stream footer
	// xzRecordsMax bounds the records of one stream's index, xzIndexesMax the bytes of all indexes that are read
	// from the end. A file with more is still decoded forward.
	xzRecordsMax = 1 << 20
	xzIndexesMax = 16 << 20
)

var (
	xzMagic     = []byte("\xfd7zXZ\x00")
	xzFooter    = []byte("YZ")
	xzCheckSize = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	crc64Table  = crc64.MakeTable(crc64.ECMA)
)

// xzCheck is the hash of a kind of check; nil for none and for kinds nobody has defined, whose bytes are passed over.
func xzCheck(kind uint8) hash.Hash {
	switch kind {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64Table)
	case 10:
		return sha256.New()
	}
	return nil
}

// xzSum is the check as stored: the two CRCs are little-endian, unlike what hash.Hash gives.
func xzSum(h hash.Hash) []byte {
	switch h := h.(type) {
	case hash.Hash64:
		return binary.LittleEndian.AppendUint64(nil, h.Sum64())
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(nil, h.Sum32())
	}
	return h.Sum(nil)
}

// An xzRecord is one block in an index.
type xzRecord struct{ unpadded, plain int64 }

// An xzReader decodes streams of blocks, one after the other. A point is the header of a block (aux: kind of check
// plus one), or the beginning of the file.
type xzReader struct {
	env
	in  *input
	out int64

	stream bool // inside a stream
	whole  bool // the stream was begun at its header
	first  bool // no stream has been seen yet
	check  uint8
	done   []xzRecord // blocks of this stream decoded here

	// The block at hand.
	open   bool
	plain  lzma2Reader
	began  int64 // file offset of its header
	data   int64 // file offset behind the header
	start  int64 // of out
	size   int64 // plain and compressed size by its header, -1 for unknown
	packed int64
	hash   hash.Hash
}

func openXZ(e env, p point) (decoder, error) {
	d := &xzReader{env: e, out: p.out, first: p.in == 0, in: e.open(p.in / 8)}
	if p.in > 0 {
		if p.aux == 0 || p.aux > 16 {
			d.close()
			return nil, corrupt("kind of a seek point")
		}
		d.stream, d.check = true, p.aux-1
	}
	return d, nil
}

func (d *xzReader) close()     { d.in.close() }
func (d *xzReader) pos() int64 { return d.in.pos() }

func (d *xzReader) Read(p []byte) (int, error) {
	for {
		if !d.open {
			next := d.streamHeader
			if d.stream {
				next = d.blockHeader
			}
			if err := next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := d.plain.Read(p)
		d.out += int64(n)
		if d.hash != nil {
			d.hash.Write(p[:n])
		}
		if d.size >= 0 && d.out-d.start > d.size || d.packed >= 0 && d.in.pos()-d.data > d.packed {
			return 0, corrupt("xz block is longer than it says")
		}
		switch {
		case err == io.EOF:
			if err := d.blockEnd(); err != nil {
				return n, err
			}
		case err != nil:
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// streamHeader reads one, or finds the end of the file. Before it there may be padding.
func (d *xzReader) streamHeader() error {
	var h [xzHeaderLen]byte
	for {
		n, err := io.ReadFull(d.in, h[:4])
		if err == io.EOF && !d.first {
			if err := d.x.finish(d.run, d.out); err != nil {
				return err
			}
			return io.EOF
		}
		if err != nil {
			if !d.first && bytes.Count(h[:n], []byte{0}) == n {
				return corrupt("xz stream padding is not of four bytes")
			}
			return noEOF(err)
		}
		if d.first || h[0] != 0 || h[1] != 0 || h[2] != 0 || h[3] != 0 {
			break
		}
	}
	if err := d.in.full(h[4:]); err != nil {
		return err
	}
	check, err := parseXZHeader(h[:])
	if err != nil {
		return err
	}
	d.stream, d.whole, d.first, d.check, d.done = true, true, false, check, d.done[:0]
	return nil
}

func parseXZHeader(h []byte) (check uint8, err error) {
	if !bytes.Equal(h[:6], xzMagic) {
		return 0, corrupt("no xz header")
	}
	if crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return 0, corrupt("xz header checksum")
	}
	return parseXZFlags(h[6:8])
}

func parseXZFlags(f []byte) (uint8, error) {
	if f[0] != 0 || f[1]&0xf0 != 0 {
		return 0, unsupported("xz stream flags")
	}
	return f[1], nil
}

// vli takes a variable-length integer off b: at most 63 bits in nine bytes, no longer than needed.
func vli(b []byte) (v int64, rest []byte, ok bool) {
	for i, c := range b {
		if i == 9 {
			break
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, b[i+1:], c != 0 || i == 0
		}
	}
	return 0, nil, false
}

// blockHeader begins a block, or reads the index that follows the last one.
func (d *xzReader) blockHeader() error {
	began := d.in.pos()
	first, err := d.in.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if first == 0 {
		return d.index()
	}
	h := make([]byte, (int(first)+1)*4)
	h[0] = first
	if err := d.in.full(h[1:]); err != nil {
		return err
	}
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(h)-4:]) {
		return corrupt("xz block header checksum")
	}
	flags, b, ok := body[1], body[2:], true
	if flags&0x3c != 0 {
		return unsupported("xz block flags")
	}
	d.packed, d.size = -1, -1
	if flags&0x40 != 0 {
		if d.packed, b, ok = vli(b); !ok || d.packed == 0 {
			return corrupt("xz block header")
		}
	}
	if flags&0x80 != 0 {
		if d.size, b, ok = vli(b); !ok {
			return corrupt("xz block header")
		}
	}
	id, b, ok := vli(b)
	if flags&3 != 0 || ok && id != 0x21 {
		return unsupported("xz filter other than LZMA2")
	}
	n, b, ok2 := vli(b)
	if !ok || !ok2 || n != 1 || len(b) < 1 || len(bytes.Trim(b[1:], "\x00")) != 0 {
		return corrupt("xz block header")
	}
	if b[0] > 40 {
		return corrupt("xz dictionary size")
	}
	dict := min(int64(2|b[0]&1)<<(b[0]/2+11), 1<<32-1)
	if dict > d.maxWindow && (d.size < 0 || d.size > d.maxWindow) {
		return limited("xz dictionary", dict)
	}
	if d.size >= 0 {
		dict = min(dict, d.size) // more would stay empty
	}
	p := point{out: d.out, in: began * 8, aux: d.check + 1}
	if d.out > 0 && d.x.wanted(d.run, d.out, false) {
		if err := d.x.pass(d.run, p); err != nil {
			return err
		}
	}
	d.began, d.data, d.start, d.hash = began, d.in.pos(), d.out, xzCheck(d.check)
	if err := d.mem.take(dict, func() { d.plain.ring = nil }); err != nil {
		return err
	}
	d.open = true
	d.plain.reset(d.in, dict)
	return nil
}

// blockEnd checks the block that has ended.
func (d *xzReader) blockEnd() error {
	d.open = false
	packed := d.in.pos() - d.data
	if d.size >= 0 && d.size != d.out-d.start || d.packed >= 0 && d.packed != packed {
		return corrupt("size of an xz block")
	}
	var tail [3 + 64]byte
	pad := int(-packed & 3)
	size := xzCheckSize[d.check]
	if err := d.in.full(tail[:pad+size]); err != nil {
		return err
	}
	if len(bytes.Trim(tail[:pad], "\x00")) != 0 {
		return corrupt("padding of an xz block")
	}
	if d.hash != nil && !bytes.Equal(xzSum(d.hash), tail[pad:pad+size]) {
		return corrupt("check of an xz block")
	}
	if len(d.done) == xzRecordsMax {
		return limited("xz blocks", int64(len(d.done))+1)
	}
	d.done = append(d.done, xzRecord{d.data - d.began + packed + int64(size), d.out - d.start})
	return nil
}

// index reads the index behind the last block, whose first byte has been taken, and the footer. The blocks decoded
// have to be its last ones, or all.
func (d *xzReader) index() error {
	began := d.in.pos() - 1
	sum := crc32.Update(0, crc32.IEEETable, []byte{0})
	number := func() (int64, error) {
		var b [9]byte
		for i := range b {
			c, err := d.in.ReadByte()
			if err != nil {
				return 0, noEOF(err)
			}
			b[i] = c
			if c < 0x80 {
				sum = crc32.Update(sum, crc32.IEEETable, b[:i+1])
				if v, _, ok := vli(b[:i+1]); ok {
					return v, nil
				}
				break
			}
		}
		return 0, corrupt("number in the xz index")
	}
	n, err := number()
	if err != nil {
		return err
	}
	skipped := n - int64(len(d.done))
	if skipped < 0 || d.whole && skipped != 0 {
		return corrupt("number of blocks in the xz index")
	}
	for i := range n {
		var r xzRecord
		if r.unpadded, err = number(); err != nil {
			return err
		}
		if r.plain, err = number(); err != nil {
			return err
		}
		if i >= skipped && r != d.done[i-skipped] {
			return corrupt("xz index does not fit the blocks")
		}
	}
	var b [3 + 4 + xzHeaderLen]byte
	pad := int(-(d.in.pos() - began) & 3)
	if err := d.in.full(b[:pad+4]); err != nil {
		return err
	}
	sum = crc32.Update(sum, crc32.IEEETable, b[:pad])
	if len(bytes.Trim(b[:pad], "\x00")) != 0 || sum != binary.LittleEndian.Uint32(b[pad:]) {
		return corrupt("xz index checksum")
	}
	size := d.in.pos() - began
	if err := d.in.full(b[:xzHeaderLen]); err != nil {
		return err
	}
	check, back, err := parseXZFooter(b[:xzHeaderLen])
	if err != nil {
		return err
	}
	if check != d.check || back != size {
		return corrupt("xz footer does not fit")
	}
	d.stream = false
	return nil
}

// parseXZFooter gives the kind of check and the size of the index before it.
func parseXZFooter(f []byte) (check uint8, index int64, err error) {
	if !bytes.Equal(f[10:], xzFooter) || crc32.ChecksumIEEE(f[4:10]) != binary.LittleEndian.Uint32(f) {
		return 0, 0, corrupt("xz footer")
	}
	check, err = parseXZFlags(f[8:10])
	return check, (int64(binary.LittleEndian.Uint32(f[4:])) + 1) * 4, err
}
