package seekable

import (
	"bytes"
	"io"
)

// A decoder produces the plain bytes of a file from some point on. Read gives io.EOF only at the proven end of the
// file. It calls index.pass at the points it goes through.
type decoder interface {
	Read(p []byte) (int, error)
	pos() int64 // where it is in the compressed file, in bytes
	close()
}

// An env is what a decoder works on.
type env struct {
	open      func(off int64) *input // reads the file from this byte on
	x         *index
	run       *run
	maxWindow int64
	mem       *share // asked before the window or dictionary is made
}

// boundary shows the index a point between parts, if it has to see one there.
func (e *env) boundary(p point) error {
	if p.out == 0 || !e.x.mustPass(e.run, p.out, false) {
		return nil
	}
	return e.x.pass(e.run, p)
}

// end is io.EOF, if the file may end at plain offset out.
func (e *env) end(out int64) error {
	if err := e.x.finish(e.run, out); err != nil {
		return err
	}
	return io.EOF
}

// trailingMax is the most garbage behind the end that is ignored.
const trailingMax = 64 << 10

// trailing judges what follows the end of a gzip or bzip2 file and begins with head, which is no header. Zeros of any
// length are padding. Other bytes are ignored if they are few and hold no header: a damaged header in the middle of
// a file must not pass for its end.
func trailing(in *input, head, magic []byte) error {
	junk := bytes.Clone(head)
	for {
		if in.p == in.end {
			if err := in.fill(); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		b := in.buf[in.p:in.end]
		in.p = in.end
		if len(bytes.Trim(junk, "\x00")) == 0 {
			// Only padding so far.
			junk = junk[:0]
			b = bytes.TrimLeft(b, "\x00")
		}
		if junk = append(junk, b...); len(junk) > trailingMax {
			return corrupt("no header where the next part should begin")
		}
	}
	if bytes.Contains(junk, magic) {
		return corrupt("a damaged header before another part")
	}
	return nil
}
