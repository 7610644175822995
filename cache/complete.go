package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vmcastfs/cache/store"
)

// pass is one completion of a file: one walk over its blocks in order, which
// fetches what is missing and computes the sums. So completing is verifying.
//
//	partial ──walk──► all sums match ──► verified    (unverified without sums)
//	           │  └─► a difference ────► corrupt     (for ever; blocks dropped)
//	           └────► an error ────────► partial     (Status has the error)
//
// Its fields are guarded by content.mu.
type pass struct {
	done    chan struct{}
	err     error
	cancel  context.CancelFunc
	users   int  // who waits for it
	eager   int  // ... and does not want it to stand back
	readers int  // ... and is a read under Strict
	tainted bool // a block was fetched again after it had been hashed
}

// completeInBackground completes the file at leisure, once; the caller need
// not hold f.mu.
func (f *content) completeInBackground() {
	f.mu.Lock()
	f.lazy = true
	f.mu.Unlock()
	f.completeAgain()
}

// completeAgain does so once more if it has ended: after a block was found
// damaged on the disk. (Not after an eviction: a cache that is too small would
// fetch for ever.)
func (f *content) completeAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lazy || f.lazyRuns || f.closed || f.corrupt.Load() != nil {
		return
	}
	f.lazyRuns = true
	f.spawn(func() {
		defer func() {
			f.mu.Lock()
			f.lazyRuns = false
			f.mu.Unlock()
		}()
		const first, last = 30 * time.Second, 10 * time.Minute
		for delay := first; ; delay = min(2*delay, last) {
			err := f.complete(f.ctx, nil, false, false)
			if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrTooLarge) || errors.Is(err, store.ErrFull) {
				return
			}
			select {
			case <-f.ctx.Done():
				return
			case <-time.After(delay):
			}
		}
	})
}

// Complete fetches what is missing and checks the whole file. It returns nil
// once the file is verified, or complete with nothing to check it against;
// progress is in Status. ctx ends the waiting, and the work too if nobody else
// wants it.
func (h *File) Complete(ctx context.Context) error {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return ErrClosed
	}
	return h.complete(ctx, false)
}

func (h *File) complete(ctx context.Context, reader bool) error {
	return h.f.complete(ctx, h.closing, true, reader)
}

func (f *content) complete(ctx context.Context, closing <-chan struct{}, eager, reader bool) error {
	f.mu.Lock()
	if bad := f.corrupt.Load(); bad != nil {
		f.mu.Unlock()
		return bad
	}
	if f.finished() {
		f.whole.Store(true)
		f.mu.Unlock()
		return nil
	}
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	p := f.pass
	if p == nil {
		p = &pass{done: make(chan struct{})}
		var run context.Context
		run, p.cancel = context.WithCancel(f.ctx)
		f.pass, f.checked = p, 0
		f.spawn(func() { f.runCompletion(run, p) })
	}
	count := func(n int) {
		p.users += n
		if eager {
			p.eager += n
		}
		if reader {
			p.readers += n
		}
	}
	count(1)
	f.mu.Unlock()
	err := ErrClosed
	select {
	case <-p.done:
		err = p.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
	}
	f.mu.Lock()
	if count(-1); p.users == 0 {
		p.cancel()
		if f.pass == p {
			f.pass = nil // who comes now begins anew
		}
	}
	f.mu.Unlock()
	return err
}

func (f *content) runCompletion(ctx context.Context, p *pass) {
	defer p.cancel()
	var err error
	for range 3 { // again if a block was lost behind our back
		var d *digests
		var learned *SumTable
		if d, learned, err = f.walk(ctx, p); err != nil {
			break
		}
		var again bool
		if again, err = f.conclude(ctx, p, d, learned); !again {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pass == p {
		f.pass = nil
	}
	if err != nil {
		f.failed(err)
	}
	p.err = err
	close(p.done)
}

// walk makes every block present, in order, and returns the digests of them;
// of single blocks too, if somebody wants to keep those. A block that does not
// match its own sum does not keep it from the others.
func (f *content) walk(ctx context.Context, p *pass) (_ *digests, _ *SumTable, err error) {
	f.mu.Lock()
	p.tainted, f.checked = false, 0
	f.mu.Unlock()
	d := newDigests(f.spec.Sums)
	pipes := []*pipe{newPipe(f.bs, func(p []byte) { d.Write(p) })}
	learn := f.newLearner()
	if learn != nil {
		pipes = append(pipes, newPipe(f.bs, learn.block))
	}
	finish := func() {
		for _, p := range pipes {
			p.close()
		}
	}
	defer func() {
		finish()
		if err != nil {
			learn.drop()
		}
	}()
	var wrong error
	reached := int64(0)
	for b := int64(0); b < f.blocks(); b++ {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if len(d.list) == 0 && learn == nil && f.size.Load() >= 0 {
			// Nothing to compute: only what is missing matters.
			if b = f.sf.NextMissing(b); b >= f.blocks() {
				break
			}
		}
		if f.zero(b) {
			if !f.sf.Has(b) {
				if err := f.sf.WriteZeros(b, f.zeroRun(b)); err != nil && !errors.Is(err, store.ErrFull) {
					return nil, nil, fmt.Errorf("complete %q: %w", f.spec.Label, err)
				}
			}
			for _, p := range pipes {
				p.zeros(f.blockLen(b))
			}
		} else {
			buf, err := f.load(ctx, p, b, &reached)
			if err == io.EOF {
				break
			}
			var bad *BlockError
			if errors.As(err, &bad) {
				wrong = err
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			for range len(pipes) - 1 {
				buf.ref()
			}
			for _, p := range pipes {
				p.feed(buf)
			}
		}
		f.mu.Lock()
		f.checked = min(b*f.bs+f.bs, max(f.size.Load(), b*f.bs))
		f.mu.Unlock()
	}
	finish()
	// The last blocks were handed over before they were written.
	f.mu.Lock()
	var late []*entry
	for _, e := range f.flight {
		if e.buf != nil {
			late = append(late, e)
		}
	}
	f.mu.Unlock()
	for _, e := range late {
		<-e.gone
	}
	if wrong != nil {
		return nil, nil, wrong
	}
	return d, learn.table(), nil
}

// load returns block b with a reference, fetching it and some more if need be.
func (f *content) load(ctx context.Context, p *pass, b int64, reached *int64) (*buffer, error) {
	for b < f.blocks() {
		buf := f.c.buffers.get(f.blockLen(b))
		_, err := f.sf.ReadBlock(b, buf.data)
		if err == nil {
			buf.publish(blockKey(f.id, b), 1)
			return buf, nil
		}
		buf.discard()
		if !errors.Is(err, store.ErrAbsent) {
			return nil, fmt.Errorf("check %q at %d: %w", f.spec.Label, b*f.bs, err)
		}
		if bad := f.corrupt.Load(); bad != nil {
			return nil, bad
		}
		u, ahead, err := f.standBack(ctx, p)
		if err != nil {
			return nil, err
		}
		*reached = max(*reached, b)
		if to := b + ahead/f.bs; to-*reached >= rangeLen/f.bs || *reached == b {
			*reached = f.fetchAhead(*reached, to, u)
		}
		for _, e := range f.acquire(b, b, u, false) {
			buf, err := f.wait(ctx, nil, e)
			if err == nil {
				return buf, nil
			}
			if !errors.Is(err, errAbandoned) {
				return nil, err
			}
		}
	}
	return nil, io.EOF // the size has just become known
}

// standBack waits until readers leave room for completion, and says how
// urgently and how far ahead to fetch then.
func (f *content) standBack(ctx context.Context, p *pass) (Urgency, int64, error) {
	const poll = 50 * time.Millisecond
	for begun := time.Now(); ; {
		f.mu.Lock()
		eager, readers := p.eager > 0, p.readers > 0
		f.mu.Unlock()
		waited := time.Since(begun)
		quiet := time.Duration(time.Now().UnixNano() - f.c.lastMiss.Load())
		busy := f.c.demand.Load() > 0
		switch {
		case readers:
			return ReadAhead, f.c.opts.ReadAhead, nil
		case eager && (!busy || waited > time.Second):
			return Background, f.c.opts.ReadAhead, nil
		case !busy && quiet >= f.c.opts.Quiet, waited > 15*f.c.opts.Quiet:
			return Background, min(4<<20, f.c.opts.ReadAhead), nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(poll):
		}
	}
}

// conclude gives the verdict on a walk. again: it has to be repeated.
func (f *content) conclude(ctx context.Context, p *pass, d *digests, learned *SumTable) (again bool, err error) {
	kept := false
	defer func() {
		if !kept {
			f.forgetTable(learned)
		}
	}()
	ok, matched, mismatch := d.check(f.spec.Sums)
	state, note := store.Verified, ""
	switch {
	case f.spec.Judge != nil:
		if state, note = f.spec.Judge(ctx, ok); state == store.Corrupt {
			mismatch = note
		}
	case mismatch != "":
		state = store.Corrupt
	case len(matched) == 0 && !f.allBlocksKnown():
		state = store.Unverified
	case len(matched) == 0:
		note = "every block matches its own sum"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if bad := f.corrupt.Load(); bad != nil {
		return false, bad
	}
	if state == store.Corrupt {
		return false, f.poison(mismatch)
	}
	if state == store.Partial {
		return false, fmt.Errorf("%q cannot be checked now: %s", f.spec.Label, note)
	}
	if f.pass != p {
		return false, context.Canceled // nobody wants it any more
	}
	if state == store.Verified && !p.tainted && (learned != nil || f.allBlocksKnown()) {
		// Also where the disk did not take all of it: what is fetched again has to be the same.
		if learned != nil {
			f.forgetTable(f.learned.Swap(learned))
			kept = true
			f.spec.Learned(learned)
		}
		f.vouched.Store(true)
	}
	if b := f.sf.NextMissing(0); b < f.blocks() {
		return false, fmt.Errorf("%q was fetched and matches, but its block %d could not be kept: %w", f.spec.Label, b, store.ErrFull)
	}
	if p.tainted {
		return true, fmt.Errorf("check %q: blocks keep being lost from the cache", f.spec.Label)
	}
	f.checked = f.size.Load()
	if err := f.sf.SetState(state, note); err != nil {
		return false, fmt.Errorf("note that %q is %s: %w", f.spec.Label, state, err)
	}
	f.sums = matched
	f.whole.Store(true)
	f.changed(state)
	return false, nil
}

// changed tells the owner of the file; f.mu may be held.
func (f *content) changed(s store.FileState) {
	if f.spec.Changed != nil {
		f.spec.Changed(s)
	}
}

// allBlocksKnown reports whether every block has a sum of its own.
func (f *content) allBlocksKnown() bool {
	if f.blockSums() == nil {
		return false
	}
	for b := range f.blocks() {
		if !f.known(b) {
			return false
		}
	}
	return true
}
