package cache

import (
	"context"
	"fmt"
	"io"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// endBlock is the flight of those that wait for the end of a file of unknown
// size. No real block has this number.
const endBlock = MaxBlocks

// jump is how many bytes a runner would rather skip to a later start than
// produce.
const jump = 1 << 20

// runner runs a forward source: one goroutine while anyone wants anything,
// which makes passes. A pass begins at some offset and delivers every block
// that it produces, wanted or not.
//
//	idle ──wanted──► pass from Start(target) ──nobody wants more──► idle
//	                  │  ▲
//	                  └──┘ the next target lies behind, or beyond a later start
type runner struct {
	fl       *flights
	source   source.Forward
	maxSize  int64 // Spec.MaxSize
	toTheEnd bool  // Spec.Whole

	running  bool  // guarded by flights.mu
	ahead    int64 // guarded by flights.mu; run on to this block, because a sequential reader comes
	progress int64 // guarded by flights.mu; blocks produced
	end      int64 // guarded by flights.mu; behind the last of them
	doubts   int   // guarded by flights.mu; times that what was produced had to be given up
}

// want sees to it that the runner knows of new flights; mu of the flights is
// held.
func (r *runner) want(fresh []*flight) {
	if len(fresh) > 0 && !r.running {
		if r.running = r.fl.tasks.Run(func(context.Context) { r.run() }); !r.running {
			r.fl.fail(fresh, ErrClosed)
		}
	}
}

// wantAhead lets the runner go on up to block to, if something is missing from
// block from on; mu of the flights is held.
func (r *runner) wantAhead(from, to int64, u source.Urgency) {
	for from < to && r.fl.local.here(from) {
		from++
	}
	if from >= to {
		return
	}
	r.ahead = max(r.ahead, to)
	if !r.running && r.fl.table[from] == nil {
		r.want([]*flight{r.fl.add(from, u)})
	}
}

// target picks what the runner should produce next: what is most urgent, and
// of that what was asked for first; mu of the flights is held.
func (r *runner) target() *flight {
	var t *flight
	for _, f := range r.fl.table {
		if f.buf != nil {
			continue
		}
		if t == nil || f.urgency < t.urgency || f.urgency == t.urgency && f.seq < t.seq {
			t = f
		}
	}
	return t
}

// urgency is for whom the runner works just now.
func (r *runner) urgency() source.Urgency {
	r.fl.mu.Lock()
	defer r.fl.mu.Unlock()
	if t := r.target(); t != nil {
		return t.urgency
	}
	return source.ReadAhead
}

func (r *runner) run() {
	fl, l := r.fl, r.fl.local
	for {
		release := func() {}
		if r.toTheEnd {
			release = r.claimStream()
		}
		fl.mu.Lock()
		t, over := r.target(), fl.over()
		if t == nil || over != nil {
			release()
			r.running = false
			if over != nil {
				fl.failFrom(0, over)
			}
			fl.mu.Unlock()
			return
		}
		first, u := t.b, t.urgency
		// Run on to the end of the region, as with random access, unless more
		// has been asked for ahead of just this place.
		region := max(1, int64(fl.s.opts.Region)/l.bs)
		if a := r.ahead; a < first || a > first+fl.s.opts.ReadAhead/l.bs {
			r.ahead = first/region*region + region
		}
		fl.mu.Unlock()

		// The first whole block at or after the start.
		start := max(0, r.source.Start(first*l.bs))
		from := min((start+l.bs-1)/l.bs, first)
		if l.size.Load() < 0 {
			// The file may end in the block in which the source can begin. A
			// pass that began behind it would take its own place for the end.
			from = min(start/l.bs, first)
		}
		ctx, cancel := context.WithCancelCause(fl.tasks.Context())
		stop := fl.watch(cancel, func() (int, int64) { return r.waiting(), r.progress })
		at, err := r.pass(ctx, from, u)
		stop()
		release()
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(nil)
		if err = r.withdraw(err); err != nil {
			fl.mu.Lock()
			r.ahead = 0
			// What lies before the place of the failure may still be had.
			fl.failFrom(min(at, first), err)
			fl.mu.Unlock()
		}
	}
}

// waiting counts the readers that wait for the runner; mu of the flights is
// held.
func (r *runner) waiting() (n int) {
	for _, f := range r.fl.table {
		n += f.waiters
	}
	return n
}

// pass runs the source from block b on, until there is no reason to go on. It
// returns the block that it did not get, and why.
func (r *runner) pass(ctx context.Context, b int64, u source.Urgency) (int64, error) {
	l := r.fl.local
	body, err := r.source.Fetch(source.WithUrgency(ctx, r.urgency), b*l.bs, store.Unknown, u)
	if err != nil {
		return b, fmt.Errorf("run %q from %d: %w", l.label, b*l.bs, err)
	}
	defer body.Close()
	for ; ; b++ {
		if err := ctx.Err(); err != nil {
			return b, err
		}
		off := b * l.bs
		size := l.size.Load()
		if b >= l.blocks() {
			if size >= 0 {
				return b, nil // the runner goes on with what is wanted before
			}
			return b, r.tooLarge(off)
		}
		f := r.arriving(b)
		buf := r.fl.s.buffers.get(l.blockLen(b))
		n, err := fill(body, buf.data)
		switch err {
		case nil:
		case io.EOF:
			if size >= 0 {
				buf.discard()
				return b, &SizeError{l.label, size, off + int64(n)}
			}
			return b, r.learnSize(f, b, buf, n)
		default:
			buf.discard()
			return b, fmt.Errorf("run %q at %d: %w", l.label, off+int64(n), err)
		}
		if r.maxSize > 0 && off+int64(n) > r.maxSize {
			buf.discard()
			return b, r.tooLarge(off + int64(n))
		}
		if size >= 0 && off+int64(n) == size {
			if err := r.checkEnd(body, size); err != nil {
				buf.discard()
				return b, err
			}
			r.produced(f, buf)
			return b + 1, nil
		}
		r.produced(f, buf)
		if !r.goOn(b + 1) {
			return b + 1, nil
		}
	}
}

// arriving returns the flight of the block that a pass is about to produce. If
// nobody wanted it, it gets one now, so that a reader that wants it next will
// wait; nil if the block is here already.
func (r *runner) arriving(b int64) *flight {
	r.fl.mu.Lock()
	defer r.fl.mu.Unlock()
	f := r.fl.table[b]
	if f == nil {
		if r.fl.local.here(b) {
			return nil
		}
		f = r.fl.add(b, source.ReadAhead)
	}
	f.arrives = true
	return f
}

// produced checks a block and delivers it.
func (r *runner) produced(f *flight, buf *buffer) {
	if f == nil {
		buf.discard()
		return
	}
	bad := r.fl.local.compare(r.fl.tasks.Context(), f.b, buf.data)
	if bad == nil {
		r.fl.publish(f, buf, place{})
		return
	}
	buf.discard()
	r.fl.mu.Lock()
	defer r.fl.mu.Unlock()
	f.arrives = false
	if f.tries++; f.tries > 1 || !mismatch(bad) {
		r.fl.fail([]*flight{f}, bad)
	} // else it stays, and so becomes a target again: once more
}

// goOn decides, before block b, whether the pass continues.
func (r *runner) goOn(b int64) bool {
	r.fl.mu.Lock()
	defer r.fl.mu.Unlock()
	r.progress++
	r.end = max(r.end, b)
	l := r.fl.local
	if r.fl.over() != nil {
		return false
	}
	if r.toTheEnd {
		return l.size.Load() < 0 || l.sf.NextMissing(b) < l.blocks()
	}
	t := r.target()
	if t == nil {
		return b < r.ahead
	}
	if t.b < b {
		return false
	}
	return r.source.Start(t.b*l.bs)-b*l.bs < jump
}

// fill reads until p is full. io.EOF means a clean end, also after some bytes:
// io.ReadFull would call that io.ErrUnexpectedEOF, which is what a source that
// was cut off says.
func fill(r io.Reader, p []byte) (n int, err error) {
	for idle := 0; n < len(p); {
		k, err := r.Read(p[n:])
		if n += k; n == len(p) {
			break
		}
		if err != nil {
			return n, err
		}
		if k > 0 {
			idle = 0
		} else if idle++; idle > 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// checkEnd checks that the source ends where the file does.
func (r *runner) checkEnd(body io.Reader, size int64) error {
	var one [1]byte
	n, err := fill(body, one[:])
	if n == 0 {
		if err == io.EOF {
			return nil
		}
		return fmt.Errorf("run %q at its end: %w", r.fl.local.label, err)
	}
	return r.fl.standing.poison(fmt.Sprintf("its content goes on after the declared size of %d bytes", size))
}

// learnSize ends the first whole pass over a file of unknown size, with the n
// bytes of its last block in buf.
func (r *runner) learnSize(f *flight, b int64, buf *buffer, n int) error {
	l := r.fl.local
	size := b*l.bs + int64(n)
	if r.maxSize > 0 && size > r.maxSize {
		buf.discard()
		return r.tooLarge(size)
	}
	if err := l.setSize(size); err != nil {
		buf.discard()
		return fmt.Errorf("size of %q: %w", l.label, err)
	}
	if n > 0 {
		buf.data = buf.data[:n]
		r.produced(f, buf)
	} else {
		buf.discard()
	}
	r.fl.mu.Lock()
	r.fl.failFrom(l.blocks(), io.EOF)
	r.fl.mu.Unlock()
	if n == 0 && l.complete() {
		r.fl.allHere()
	}
	return nil
}

func (r *runner) tooLarge(n int64) error {
	return fmt.Errorf("%q has at least %d bytes: %w", r.fl.local.label, n, ErrTooLarge)
}
