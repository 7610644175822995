package seekable

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// chunks are the sizes of the reads of the compressed file. The first is small, since a random access may need no more;
// later ones grow to max. All end at multiples of min. From the second chunk on, the one after it is read ahead while
// the decoder works.
type chunks struct{ min, max int64 }

// The usual sizes: chunkMin is the block size of the usual source.
const (
	chunkMin  = 64 << 10
	chunkMax  = 256 << 10
	inputTail = 64 // bytes that fill may carry over: unread ones, and the last inputBack of those read
	inputBack = 8  // bytes that unread may give back
)

// An input is the compressed file read forward. Decoders take bytes from buf[p:end]; fill gets more. It belongs to
// one goroutine; close must be called.
type input struct {
	ctx  context.Context
	src  ReaderAt
	size int64 // of the file
	by   chunks

	buf []byte
	p   int
	end int
	off int64 // file offset of buf[0]

	at      int64 // file offset of the next chunk to ask for
	want    int64 // its length, before alignment
	spare   []byte
	ahead   chan chunk
	pending bool
	next    chunk                  // that is read ahead, if pending
	stall   *atomic.Pointer[stall] // of the decoder: nil in it while the decoder has input
	lost    time.Duration          // patience, see Budget
	err     error
}

// A stall is a decoder's wait for its input.
type stall struct {
	since time.Time
	lost  time.Duration // patience that it had lost before
	off   int64         // the chunk it waits for
	n     int
}

// end is the patience that is lost once the chunk has come.
func (s *stall) end() time.Duration {
	return max(0, s.now()-time.Duration(s.n)*time.Second/inputPace)
}

// now is the patience that is lost by now.
func (s *stall) now() time.Duration { return s.lost + time.Since(s.since) }

type chunk struct {
	buf []byte // data begins at inputTail
	off int64
	n   int
	err error
}

// newInput begins at file offset off.
func newInput(ctx context.Context, src ReaderAt, size, off int64, by chunks) *input {
	off = min(max(off, 0), size)
	return &input{ctx: ctx, src: src, size: size, by: by, off: off, at: off, want: by.min, ahead: make(chan chunk, 1), stall: new(atomic.Pointer[stall])}
}

// pos is the file offset of the next unread byte.
func (in *input) pos() int64 { return in.off + int64(in.p) }

// unread gives back the last n bytes that were read, at most inputBack. Decoders that read ahead into a register use it:
// what they hold may come from before the last fill.
func (in *input) unread(n int) { in.p -= n }

// fill puts the next chunk behind the unread bytes, of which there may be at most inputTail - inputBack, and keeps the
// last inputBack bytes before them for unread. At the end of the file it gives io.EOF and leaves all where it is.
func (in *input) fill() error {
	if in.err != nil {
		return in.err
	}
	if !in.pending && in.at >= in.size {
		return io.EOF
	}
	c := in.next
	if !in.pending {
		c = in.take()
	}
	wait := &stall{time.Now(), in.lost, c.off, c.n}
	in.stall.Store(wait)
	if in.pending {
		c = <-in.ahead
		in.pending = false
	} else {
		c = in.load(c)
	}
	in.stall.Store(nil)
	in.lost = wait.end()
	if c.err != nil {
		in.err = c.err
		return c.err
	}
	back := min(in.p, inputBack)
	rest := in.buf[in.p-back : in.end]
	start := inputTail - len(rest)
	copy(c.buf[start:], rest)
	if in.buf != nil {
		in.spare = in.buf
	}
	first := in.buf == nil
	in.buf, in.p, in.end, in.off = c.buf, start+back, inputTail+c.n, c.off-inputTail
	if !first && in.at < in.size {
		next := in.take()
		in.next, in.pending = next, true
		go func() { in.ahead <- in.load(next) }()
	}
	return nil
}

// take plans the next chunk.
func (in *input) take() chunk {
	n := in.want
	in.want = min(2*in.want, in.by.max)
	n = min(n-in.at%in.by.min, in.size-in.at)
	c := chunk{buf: in.spare, off: in.at, n: int(n)}
	in.spare = nil
	in.at += n
	return c
}

// load reads a planned chunk. It touches nothing of in that changes.
func (in *input) load(c chunk) chunk {
	if cap(c.buf) < inputTail+c.n {
		size := in.by.max
		if int64(c.n) <= in.by.min {
			size = in.by.min
		}
		c.buf = make([]byte, inputTail+size)
	}
	c.buf = c.buf[:cap(c.buf)]
	n, err := in.src.ReadAt(in.ctx, c.buf[inputTail:inputTail+c.n], c.off)
	switch {
	case n >= c.n:
		err = nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF // the source is shorter than it was said to be
	}
	if err != nil {
		c.err = &readError{err}
	}
	return c
}

// close waits for the chunk under way, which the end of ctx hastens.
func (in *input) close() {
	if in.pending {
		<-in.ahead
		in.pending = false
	}
	in.err = ErrClosed
}

func (in *input) Read(p []byte) (int, error) {
	if in.p == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.p:in.end])
	in.p += n
	return n, nil
}

func (in *input) ReadByte() (byte, error) {
	if in.p == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	b := in.buf[in.p]
	in.p++
	return b, nil
}

// full reads exactly len(p) bytes; a file that ends before gives io.ErrUnexpectedEOF.
func (in *input) full(p []byte) error {
	_, err := io.ReadFull(in, p)
	if err == io.EOF && len(p) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// skip passes over n bytes.
func (in *input) skip(n int64) error {
	for n > 0 {
		if in.p == in.end {
			if err := in.fill(); err != nil {
				return noEOF(err)
			}
		}
		k := min(n, int64(in.end-in.p))
		in.p += int(k)
		n -= k
	}
	return nil
}

// noEOF makes an end of file in the middle of something what it is.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
