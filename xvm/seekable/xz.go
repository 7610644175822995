package seekable

import (
	"bytes"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"slices"
)

// XZ files are streams of blocks, with an index behind them (version 1.2.1, https://tukaani.org/xz/xz-file-format.txt).
const XZ Format = "xz"

func beginsXZ(head []byte) bool { return bytes.HasPrefix(head, xzMagic) }

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
	open  bool
	lzma  lzma2Reader
	plain io.Reader // its content, behind the filters
	block xzBlock
	began int64 // file offset of its header
	data  int64 // file offset behind the header
	start int64 // of out
	hash  hash.Hash
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
		if d.block.size >= 0 && d.out-d.start > d.block.size || d.block.packed >= 0 && d.in.pos()-d.data > d.block.packed {
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
			return d.end(d.out)
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
	b, err := parseXZBlock(h)
	if err != nil {
		return err
	}
	if err := b.fits(d.maxWindow); err != nil {
		return err
	}
	if b.size >= 0 {
		b.dict = min(b.dict, b.size) // more would stay empty
	}
	if err := d.boundary(point{out: d.out, in: began * 8, aux: d.check + 1}); err != nil {
		return err
	}
	d.began, d.data, d.start, d.hash = began, d.in.pos(), d.out, xzCheck(d.check)
	if err := d.mem.take(b.dict, func() { d.lzma.ring = nil }); err != nil {
		return err
	}
	d.open, d.block = true, b
	d.lzma.reset(d.in, b.dict)
	d.plain = &d.lzma
	for _, f := range slices.Backward(b.filters) {
		d.plain = &filtered{filter: f, src: d.plain}
	}
	return nil
}

// blockEnd checks the block that has ended.
func (d *xzReader) blockEnd() error {
	d.open = false
	packed := d.in.pos() - d.data
	if d.block.size >= 0 && d.block.size != d.out-d.start || d.block.packed >= 0 && d.block.packed != packed {
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
