package seekable

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
)

// Bzip2 files are one or more streams of blocks. They have no specification but the original program.
const Bzip2 Format = "bzip2"

// decoderBzip2 is what the library takes beside decoderBase: a block, and what sorts it.
const decoderBzip2 = 4 << 20

// beginsBzip2 wants the magic of a block, or of the end of an empty file, behind the header: that alone is four letters.
func beginsBzip2(head []byte) bool {
	return len(head) >= 10 && bzipHeader(head) && (string(head[4:10]) == bzipMagic || string(head[4:10]) == bzipEnd)
}

// bzipHeader looks at the first four bytes of a stream.
func bzipHeader(h []byte) bool { return string(h[:3]) == "BZh" && h[3] >= '1' && h[3] <= '9' }

// What blocks and the end of a stream begin with.
const (
	bzipMagic = "1AY&SY"
	bzipEnd   = "\x17\x72\x45\x38\x50\x90"
)

// A bzipReader decodes the streams of a bzip2 file, one after the other. There are no seek points but the beginning.
type bzipReader struct {
	env
	src   bzipInput
	plain io.Reader
	out   int64
}

// A bzipInput gives the file to the library byte by byte, so that no more is taken than is decoded. Two zeros follow the
// end of the file: the library then judges the end by the same rule as garbage.
type bzipInput struct {
	in    *input
	zeros int // given behind the end
}

func (s *bzipInput) ReadByte() (byte, error) {
	b, err := s.in.ReadByte()
	if err == io.EOF && s.zeros < 2 {
		s.zeros++
		return 0, nil
	}
	return b, err
}

// Read is not called by the library, which reads bytes where it can.
func (s *bzipInput) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

func openBzip2(e env, p point) (decoder, error) {
	if err := e.mem.take(decoderBzip2, nil); err != nil {
		return nil, err
	}
	d := &bzipReader{env: e, src: bzipInput{in: e.open(p.in / 8)}, out: p.out}
	if err := d.header(); err != nil {
		d.close()
		return nil, err
	}
	d.plain = bzip2.NewReader(&d.src)
	return d, nil
}

// header checks the first header, so that what the library says of a header concerns a later one.
func (d *bzipReader) header() error {
	h := make([]byte, 4)
	if err := d.src.in.full(h); err != nil {
		return err
	}
	if !bzipHeader(h) {
		return corrupt("no bzip2 header")
	}
	d.src.in.unread(len(h))
	return nil
}

func (d *bzipReader) close()     { d.src.in.close() }
func (d *bzipReader) pos() int64 { return d.src.in.pos() }

func (d *bzipReader) Read(p []byte) (int, error) {
	n, err := d.plain.Read(p)
	d.out += int64(n)
	var reason bzip2.StructuralError
	switch {
	case err == nil:
		return n, nil
	case !errors.As(err, &reason):
		return n, noEOF(err)
	}
	switch reason {
	case "bad magic value in continuation file":
		return n, d.end(2)
	case "non-Huffman entropy encoding":
		return n, d.end(3)
	case "invalid compression level":
		return n, d.end(4)
	}
	switch {
	case d.src.zeros > 0:
		return n, io.ErrUnexpectedEOF
	case reason == "deprecated randomized files":
		return n, unsupported("randomised bzip2 block")
	}
	return n, corrupt(string(reason))
}

// end judges what follows a stream and is no header, of which the library has taken so many bytes.
func (d *bzipReader) end(taken int) error {
	head := make([]byte, taken-d.src.zeros)
	d.src.in.unread(len(head))
	if err := d.src.in.full(head); err != nil {
		return err
	}
	if d.src.zeros > 0 && bytes.HasPrefix(head, []byte("B")) {
		return io.ErrUnexpectedEOF // in the middle of a header
	}
	if err := trailing(d.src.in, head, []byte(bzipMagic)); err != nil {
		return err
	}
	return d.env.end(d.out)
}
