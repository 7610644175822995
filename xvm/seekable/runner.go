package seekable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// A runner is a live decoder: one goroutine decodes into two buffers in turn, so that decoding overlaps with reading
// the file and with what the consumer does. It outlives the Stream that started it, and the end of that Stream's
// context; parked, it blocks with its buffers full until it is used again or closed.
type runner struct {
	r      *Reader
	run    *run
	ctx    *runnerContext
	cancel context.CancelCauseFunc
	full   chan piece
	free   chan []byte
	mem    share
	stall  atomic.Pointer[stall] // the wait for input that the decoder is in
	after  atomic.Pointer[stall] // the one that it had to yield in

	// The following belong to the Stream that has the runner, or to the pool when it is parked.
	off   int64  // plain offset of rest
	rest  []byte // decoded, not yet taken
	buf   []byte // the buffer rest lies in
	err   error  // what follows rest: the runner has ended
	since time.Time
}

type piece struct {
	b   []byte
	err error
}

const (
	pieceBuffers = 2
	pieceBuffer  = 128 << 10
)

// runnerContext lives as long as the runner, and has the values of the context that uses it now.
type runnerContext struct {
	context.Context
	user atomic.Pointer[context.Context]
}

func (c *runnerContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	if user := c.user.Load(); user != nil {
		return context.WithoutCancel(*user).Value(key)
	}
	return nil
}

// errYielded is why a runner ends whose memory others needed while it had no input. Its stream starts another.
var errYielded = errors.New("decoder has yielded")

// start makes a runner at point p, which takes no memory before the input of after (nil: none) is there; r.mu is held.
func (r *Reader) start(ctx context.Context, p point, after *stall) *runner {
	r.wg.Add(1)
	life, cancel := context.WithCancelCause(context.Background())
	w := &runner{
		r: r, run: r.x.begin(p), ctx: &runnerContext{Context: life}, cancel: cancel,
		full: make(chan piece, 1), free: make(chan []byte, pieceBuffers), off: p.out,
	}
	w.mem.b, w.mem.ctx, w.mem.origin = r.o.Budget, w.ctx, r.o.Origin
	w.ctx.user.Store(&ctx)
	for range pieceBuffers {
		w.free <- nil
	}
	go w.decode(p, after)
	r.used[w] = true
	return w
}

// slowest is the decoder with memory that has lost most patience, and how much; nil and 0: none waits for input.
func (r *Reader) slowest() (slowest *runner, lost time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.used {
		if s := w.stall.Load(); s != nil && w.mem.held.Load() && s.now() > lost {
			slowest, lost = w, s.now()
		}
	}
	return slowest, lost
}

// yield ends a decoder that waits for input. Its stream begins another once that input is here.
func (w *runner) yield() {
	if s := w.stall.Load(); s != nil {
		w.r.o.Logger.Debug("a decoder with slow input makes room for others", "format", w.r.codec.format, "stored", s.off)
		w.after.Store(s)
		w.cancel(errYielded)
	}
}

// decode is the goroutine.
func (w *runner) decode(p point, after *stall) {
	defer w.r.wg.Done()
	defer w.cancel(nil)
	out, pos := p.out, func() int64 { return p.in / 8 }
	var dec decoder
	defer func() {
		if dec != nil {
			dec.close()
		}
		w.mem.release()
	}()
	e := env{
		open: func(off int64) *input {
			in := newInput(w.ctx, w.r.src, w.r.stored, off, w.r.o.chunks)
			in.stall = &w.stall
			return in
		},
		x: w.r.x, run: w.run, maxWindow: w.r.o.MaxWindow, mem: &w.mem,
	}
	step := func() (b []byte, err error) {
		// zstd is decoded by a library, and no input may take the process down.
		defer func() {
			if e := recover(); e != nil {
				err = corrupt(fmt.Sprint(e))
			}
		}()
		select {
		case b = <-w.free:
		case <-w.ctx.Done():
			return nil, ErrClosed
		}
		if b == nil {
			b = make([]byte, pieceBuffer)
		}
		if after != nil {
			if _, err = w.r.src.ReadAt(w.ctx, make([]byte, after.n), after.off); err != nil && err != io.EOF {
				return nil, err
			}
			after = nil
		}
		if dec == nil {
			if dec, err = w.r.codec.open(e, p); err != nil {
				return nil, err
			}
			pos = dec.pos
		}
		b = b[:cap(b)]
		n := 0
		for n < len(b) && err == nil {
			var k int
			k, err = dec.Read(b[n:])
			n += k
		}
		out += int64(n)
		if err == nil && out > w.r.limit {
			err = fmt.Errorf("%w: more than %d plain bytes", ErrLimit, w.r.limit)
		}
		if err == nil {
			err = w.r.x.beyond(w.run, out)
		}
		return b[:n], err
	}
	for {
		b, err := step()
		switch {
		case err == nil || err == io.EOF:
		case context.Cause(w.ctx) == errYielded:
			err = errYielded
		default:
			err = w.blame(err, pos(), out)
		}
		select {
		case w.full <- piece{b, err}:
		case <-w.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// blame gives an error its place, and asks whether a false seek point may be the cause.
func (w *runner) blame(err error, stored, plain int64) error {
	e := &Error{Format: w.r.codec.format, Stored: stored, Plain: plain, Err: err}
	if e.AtFault() || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrLimit) {
		e.Err = w.r.x.failed(w.run, err)
	}
	return e
}

// more waits for the next piece if there is nothing left of this one. An error is the runner's end; that of ctx is not.
func (w *runner) more(ctx context.Context) error {
	if len(w.rest) > 0 {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	if w.r.x.stale(w.run) {
		w.err = &Error{Format: w.r.codec.format, Plain: w.off, Err: ErrPoints}
		return w.err
	}
	if w.buf != nil {
		w.free <- w.buf
		w.buf = nil
	}
	select {
	case p := <-w.full:
		w.buf, w.rest, w.err = p.b, p.b, p.err
		if len(w.rest) == 0 {
			return w.err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ctx.Done():
		// It ends after its last piece, which may lie there.
		select {
		case p := <-w.full:
			w.buf, w.rest, w.err = p.b, p.b, p.err
		default:
			w.err = ErrClosed
			if context.Cause(w.ctx) == errYielded {
				w.err = errYielded
			}
		}
		if len(w.rest) == 0 {
			return w.err
		}
		return nil
	}
}

// take copies what is there to p, or passes over len(p) bytes of it.
func (w *runner) take(p []byte) int {
	n := copy(p, w.rest)
	w.skip(n)
	return n
}

func (w *runner) skip(n int) {
	w.rest = w.rest[n:]
	w.off += int64(n)
}
