package cache

import (
	"context"
	"errors"
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
