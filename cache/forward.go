package cache

import (
	"context"
	"fmt"
	"io"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// endBlock is the entry of those who wait for the end of a file of unknown
// size. No real block has this number.
const endBlock = MaxBlocks

// jump is how many bytes a runner would rather skip to a later start than
// produce.
const jump = 1 << 20

// forward is the runner of a forward source: one goroutine while anyone wants
// anything, which makes passes. A pass begins at some offset and delivers every
// block that it produces, wanted or not.
//
//	idle ──wanted──► pass from Start(target) ──nobody wants more──► idle
//	                  │  ▲
//	                  └──┘ the next target lies behind, or beyond a later start
//
// Its fields are guarded by content.mu.
type forward struct {
	running  bool
	ahead    int64 // run on to this block, because a sequential reader comes
	progress int64 // blocks produced
	end      int64 // behind the last of them
	doubts   int   // times that what was produced had to be given up
}

// wantForward sees to it that the runner knows of new entries; f.mu is held.
func (f *content) wantForward(fresh []*entry) {
	if len(fresh) == 0 {
		return
	}
	if !f.forward.running {
		f.forward.running = true
		f.spawn(f.runForward)
	}
}

// aheadForward lets the runner go on up to block to, if something is missing
// from block from on; f.mu is held.
func (f *content) aheadForward(from, to int64, u source.Urgency) {
	for from < to && f.here(from) {
		from++
	}
	if from >= to {
		return
	}
	f.forward.ahead = max(f.forward.ahead, to)
	if !f.forward.running && f.flight[from] == nil {
		f.wantForward([]*entry{f.newEntry(from, u)})
	}
}

// target picks what the runner should produce next: what is most urgent, and
// of that what was asked for first; f.mu is held.
func (f *content) target() *entry {
	var t *entry
	for _, e := range f.flight {
		if e.buf != nil {
			continue
		}
		if t == nil || e.urgency < t.urgency || e.urgency == t.urgency && e.seq < t.seq {
			t = e
		}
	}
	return t
}

func (f *content) runForward() {
	for {
		release := func() {}
		if f.spec.Whole {
			release = f.claimRunner()
		}
		f.mu.Lock()
		t, over := f.target(), f.over()
		if t == nil || over != nil {
			release()
			f.forward.running = false
			if over != nil {
				f.failFrom(0, over)
			}
			f.mu.Unlock()
			return
		}
		first, u := t.b, t.urgency
		// Run on to the end of the region, as with random access, unless more
		// has been asked for ahead of just this place.
		region := max(1, int64(f.c.opts.Region)/f.bs)
		if a := f.forward.ahead; a < first || a > first+f.c.opts.ReadAhead/f.bs {
			f.forward.ahead = first/region*region + region
		}
		f.mu.Unlock()

		// The first whole block at or after the start.
		start := max(0, f.fwd.Start(first*f.bs))
		from := min((start+f.bs-1)/f.bs, first)
		if f.size.Load() < 0 {
			// The file may end in the block in which the source can begin, and
			// a pass that began behind it would take its own place for the end.
			from = min(start/f.bs, first)
		}
		ctx, cancel := context.WithCancelCause(f.ctx)
		stop := f.watch(cancel, func() (int, int64) { return f.waiting(), f.forward.progress })
		at, err := f.runPass(ctx, from, u)
		stop()
		release()
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(nil)
		if err = f.withdraw(err); err != nil {
			f.mu.Lock()
			f.forward.ahead = 0
			// What lies before the place of the failure may still be had.
			f.failFrom(min(at, first), err)
			f.mu.Unlock()
		}
	}
}

// waiting counts the readers that wait for the runner; f.mu is held.
func (f *content) waiting() (n int) {
	for _, e := range f.flight {
		n += e.waiters
	}
	return n
}

// failFrom fails all entries from block b on; f.mu is held.
func (f *content) failFrom(b int64, err error) {
	var list []*entry
	for _, e := range f.flight {
		if e.b >= b {
			list = append(list, e)
		}
	}
	f.fail(list, err)
}

// runPass runs the source from block b on, until there is no reason to go on.
// It returns the block that it did not get, and why.
func (f *content) runPass(ctx context.Context, b int64, u source.Urgency) (int64, error) {
	body, err := f.fwd.Fetch(withUrgency(ctx, f.runnerUrgency), b*f.bs, store.Unknown, u)
	if err != nil {
		return b, fmt.Errorf("run %q from %d: %w", f.spec.Label, b*f.bs, err)
	}
	defer body.Close()
	for ; ; b++ {
		if err := ctx.Err(); err != nil {
			return b, err
		}
		off := b * f.bs
		size := f.size.Load()
		if b >= f.blocks() {
			if size >= 0 {
				return b, nil // the runner goes on with what is wanted before
			}
			return b, f.tooLarge(off)
		}
		e := f.arriving(b)
		buf := f.c.buffers.get(f.blockLen(b))
		n, err := fill(body, buf.data)
		switch err {
		case nil:
		case io.EOF:
			if size >= 0 {
				buf.discard()
				return b, &SizeError{f.spec.Label, size, off + int64(n)}
			}
			return b, f.learnSize(e, b, buf, n)
		default:
			buf.discard()
			return b, fmt.Errorf("run %q at %d: %w", f.spec.Label, off+int64(n), err)
		}
		if limit := f.spec.MaxSize; limit > 0 && off+int64(n) > limit {
			buf.discard()
			return b, f.tooLarge(off + int64(n))
		}
		if size >= 0 && off+int64(n) == size {
			if err := f.passEnd(body, size); err != nil {
				buf.discard()
				return b, err
			}
			f.produced(e, buf)
			return b + 1, nil
		}
		f.produced(e, buf)
		f.mu.Lock()
		f.forward.progress++
		f.forward.end = max(f.forward.end, b+1)
		on := f.goOn(b + 1)
		f.mu.Unlock()
		if !on {
			return b + 1, nil
		}
	}
}

// arriving returns the entry of the block that a pass is about to produce. If
// nobody wanted it, it gets one now, so that who wants it next will wait; nil if
// the block is here already.
func (f *content) arriving(b int64) *entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.flight[b]
	if e == nil {
		if f.here(b) {
			return nil
		}
		e = f.newEntry(b, source.ReadAhead)
	}
	e.arrives = true
	return e
}

// produced checks block b and delivers it.
func (f *content) produced(e *entry, buf *buffer) {
	if e == nil {
		buf.discard()
		return
	}
	bad := f.check(e.b, buf.data)
	if bad == nil {
		f.publish(e, buf, place{})
		return
	}
	buf.discard()
	f.mu.Lock()
	defer f.mu.Unlock()
	e.arrives = false
	if e.tries++; e.tries > 1 {
		f.fail([]*entry{e}, bad)
	} // else it stays, and so becomes a target again: once more
}

// goOn decides, before block b, whether the pass continues; f.mu is held.
func (f *content) goOn(b int64) bool {
	if f.over() != nil {
		return false
	}
	if f.spec.Whole {
		return f.size.Load() < 0 || f.sf.NextMissing(b) < f.blocks()
	}
	t := f.target()
	if t == nil {
		return b < f.forward.ahead
	}
	if t.b < b {
		return false
	}
	start := f.fwd.Start(t.b * f.bs)
	return start-b*f.bs < jump
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

// passEnd checks that the source ends where the file does.
func (f *content) passEnd(body io.Reader, size int64) error {
	var one [1]byte
	n, err := fill(body, one[:])
	if n == 0 {
		if err == io.EOF {
			return nil
		}
		return fmt.Errorf("run %q at its end: %w", f.spec.Label, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.poison(fmt.Sprintf("its content goes on after the declared size of %d bytes", size))
}

// learnSize ends the first whole pass over a file of unknown size, with the n
// bytes of its last block in buf.
func (f *content) learnSize(e *entry, b int64, buf *buffer, n int) error {
	size := b*f.bs + int64(n)
	if limit := f.spec.MaxSize; limit > 0 && size > limit {
		buf.discard()
		return f.tooLarge(size)
	}
	f.mu.Lock()
	err := f.setSize(size)
	f.mu.Unlock()
	if err != nil {
		buf.discard()
		return fmt.Errorf("size of %q: %w", f.spec.Label, err)
	}
	if n > 0 {
		buf.data = buf.data[:n]
		f.produced(e, buf)
	} else {
		buf.discard()
	}
	f.mu.Lock()
	f.failFrom(f.blocks(), io.EOF)
	f.mu.Unlock()
	return nil
}

func (f *content) tooLarge(n int64) error {
	return fmt.Errorf("%q has at least %d bytes: %w", f.spec.Label, n, ErrTooLarge)
}
