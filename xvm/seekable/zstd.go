package seekable

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Zstd files are frames of blocks (RFC 8878).
const Zstd Format = "zstd"

const (
	zstdMagic    = 0xfd2fb528
	zstdSkip     = 0x184d2a50 // to 0x184d2a5f
	zstdBlockMax = 128 << 10
)

func beginsZstd(head []byte) bool {
	for skipped := false; ; skipped = true {
		if len(head) < 4 {
			return skipped
		}
		magic := binary.LittleEndian.Uint32(head)
		if magic&^15 != zstdSkip {
			return magic == zstdMagic
		}
		if len(head) < 8 {
			return skipped
		}
		next := 8 + int64(binary.LittleEndian.Uint32(head[4:]))
		if next >= int64(len(head)) {
			return true
		}
		head = head[next:]
	}
}

// A zstdFrame is what a frame header says.
type zstdFrame struct {
	skip     int64 // content bytes of a skippable frame, -1 for others
	size     int64 // plain bytes, -1: not said
	window   int64
	checksum bool
}

// parseZstd reads a frame header from the first bytes of a frame; n is its length, 0 if b is too short for it.
func parseZstd(b []byte) (f zstdFrame, n int, err error) {
	if len(b) < 5 {
		return f, 0, nil
	}
	magic := binary.LittleEndian.Uint32(b)
	if magic&^15 == zstdSkip {
		if len(b) < 8 {
			return f, 0, nil
		}
		return zstdFrame{skip: int64(binary.LittleEndian.Uint32(b[4:]))}, 8, nil
	}
	if magic != zstdMagic {
		return f, 0, corrupt("no zstd frame header")
	}
	d := b[4]
	if d&8 != 0 {
		return f, 0, unsupported("zstd frame header")
	}
	single := d&0x20 != 0
	f = zstdFrame{skip: -1, size: -1, checksum: d&4 != 0}
	dict := [4]int{0, 1, 2, 4}[d&3]
	size := [4]int{0, 2, 4, 8}[d>>6]
	if single && size == 0 {
		size = 1
	}
	n = 5
	if !single {
		n++
	}
	if len(b) < n+dict+size {
		return f, 0, nil
	}
	if !single {
		base := int64(1) << (10 + b[5]>>3)
		f.window = base + base/8*int64(b[5]&7)
	}
	for _, c := range b[n : n+dict] {
		if c != 0 {
			return f, 0, unsupported("zstd dictionary")
		}
	}
	n += dict
	switch p := b[n:]; size {
	case 1:
		f.size = int64(p[0])
	case 2:
		f.size = int64(binary.LittleEndian.Uint16(p)) + 256
	case 4:
		f.size = int64(binary.LittleEndian.Uint32(p))
	case 8:
		v := binary.LittleEndian.Uint64(p)
		if v > maxPlain {
			return f, 0, corrupt("zstd frame size")
		}
		f.size = int64(v)
	}
	if single {
		f.window = f.size
	}
	return f, n + size, nil
}

// readZstd reads a frame header. io.EOF: there is none.
func readZstd(in *input) (head []byte, f zstdFrame, err error) {
	head = make([]byte, 0, 18) // the longest
	for n := 0; n == 0; {
		b, err := in.ReadByte()
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, f, err
		}
		head = append(head, b)
		if f, n, err = parseZstd(head); err != nil {
			return nil, f, err
		}
	}
	return head, f, nil
}

// refuseZstd looks at the header of the first frame that is not skipped.
func refuseZstd(head []byte, maxWindow int64) error {
	for {
		f, n, err := parseZstd(head)
		switch {
		case errors.Is(err, ErrUnsupported):
			return err
		case err != nil || n == 0:
			return nil // what is damaged is found by decoding
		case f.skip < 0 && f.window > maxWindow:
			return limited("zstd window", f.window)
		case f.skip < 0 || f.skip >= int64(len(head)-n):
			return nil
		}
		head = head[int64(n)+f.skip:]
	}
}

// parseZstdBlock reads a block header: the bytes that follow it, and whether it is the last block.
func parseZstdBlock(b []byte) (n int64, last bool, err error) {
	v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	n = int64(v >> 3)
	switch v >> 1 & 3 {
	case 1:
		n = 1
	case 3:
		return 0, false, corrupt("kind of a zstd block")
	}
	if n > zstdBlockMax {
		return 0, false, corrupt("size of a zstd block")
	}
	return n, v&1 != 0, nil
}

// A zstdReader decodes frames one by one. A point is the beginning of a frame.
type zstdReader struct {
	env
	in    *input
	dec   *zstd.Decoder // nil before the first frame
	out   int64
	first bool
	open  bool // inside a frame
	frame frameReader
	start int64
	size  int64
}

func openZstd(e env, p point) (decoder, error) {
	return &zstdReader{env: e, in: e.open(p.in / 8), out: p.out, first: p.in == 0}, nil
}

func (d *zstdReader) close() {
	d.drop()
	d.in.close()
}

// drop lets go of the library's decoder, which keeps the window.
func (d *zstdReader) drop() {
	if d.dec != nil {
		d.dec.Close()
		d.dec = nil
	}
}

// begin has the library decode a frame.
func (d *zstdReader) begin() (err error) {
	if d.dec != nil {
		return d.dec.Reset(&d.frame)
	}
	d.dec, err = zstd.NewReader(&d.frame, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(max(d.maxWindow, zstd.MinWindowSize))), zstd.WithDecodeBuffersBelow(0))
	return err
}

func (d *zstdReader) pos() int64 { return d.in.pos() }

func (d *zstdReader) Read(p []byte) (int, error) {
	for {
		if !d.open {
			if err := d.header(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := d.dec.Read(p)
		d.out += int64(n)
		if d.size >= 0 && d.out-d.start > d.size {
			return 0, corrupt("zstd frame is longer than it says")
		}
		switch {
		case err == io.EOF:
			d.open = false
			if err := d.frame.rest(); err != nil {
				return n, err
			}
			if d.size >= 0 && d.out-d.start != d.size {
				return n, corrupt("zstd frame is shorter than it says")
			}
		case err != nil:
			return n, d.foreign(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// foreign sorts an error of the decoder: what went wrong in reading the frame comes first.
func (d *zstdReader) foreign(err error) error {
	switch {
	case d.frame.err != nil && d.frame.err != io.EOF:
		return d.frame.err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return limited("zstd window", d.maxWindow)
	}
	return corrupt(err.Error())
}

// header passes a skippable frame, begins another, or finds the end of the file.
func (d *zstdReader) header() error {
	at := d.in.pos()
	head, f, err := readZstd(d.in)
	switch {
	case err == io.EOF && !d.first:
		return d.end(d.out)
	case err != nil:
		return noEOF(err)
	}
	d.first = false
	if err := d.boundary(point{out: d.out, in: at * 8}); err != nil {
		return err
	}
	if f.skip >= 0 {
		return d.in.skip(f.skip)
	}
	if f.window > d.maxWindow {
		return limited("zstd window", f.window)
	}
	if err := d.mem.take(f.window, d.drop); err != nil {
		return err
	}
	d.frame = frameReader{in: d.in, head: head, checksum: f.checksum}
	if err := d.begin(); err != nil {
		return d.foreign(err)
	}
	d.open, d.start, d.size = true, d.out, f.size
	return nil
}

// A frameReader gives the bytes of one frame, and io.EOF behind it.
type frameReader struct {
	in       *input
	head     []byte // bytes to give before those of in
	left     int64  // of the block at hand
	last     bool   // it is the last block
	checksum bool   // one follows the last block
	err      error
}

func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.head) == 0 && f.left == 0 && f.err == nil {
		switch {
		case !f.last:
			b := make([]byte, 3)
			if f.err = f.in.full(b); f.err == nil {
				f.head = b
				f.left, f.last, f.err = parseZstdBlock(b)
			}
		case f.checksum:
			f.left, f.checksum = 4, false
		default:
			f.err = io.EOF
		}
	}
	if f.err != nil {
		return 0, f.err
	}
	if len(f.head) > 0 {
		n := copy(p, f.head)
		f.head = f.head[n:]
		return n, nil
	}
	n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if err != nil {
		f.err = noEOF(err)
	}
	return n, f.err
}

// rest is called when the decoder is satisfied: nothing of the frame may be left.
func (f *frameReader) rest() error {
	n, err := f.Read(make([]byte, 1))
	if n > 0 {
		return corrupt("zstd frame goes on behind its end")
	}
	if err == io.EOF {
		return nil
	}
	return err
}
