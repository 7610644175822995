package cache

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"vmcastfs/cache/source"
)

// job is one range on its way from a source with random access: the entries of
// consecutive blocks, in order. It delivers each as soon as its last byte is
// here, and holds one buffer at a time.
type job struct {
	f       *content
	urgency source.Urgency
	left    []*entry // not delivered yet; used by the job's goroutine only
	slot    bool     // it holds one of Cache.slots
	waiters int      // of all its entries; guarded by content.mu

	ctx      context.Context
	cancel   context.CancelCauseFunc
	progress atomic.Int64 // blocks delivered
}

// newJob makes a job of entries that no job has yet; f.mu is held.
func (f *content) newJob(entries []*entry, u source.Urgency) *job {
	j := &job{f: f, urgency: u, left: entries}
	j.ctx, j.cancel = context.WithCancelCause(f.ctx)
	for _, e := range entries {
		e.job = j
	}
	return j
}

// start begins a job, or fails it if it needs one of the slots and none is
// free: so no reader ever joins a range that waits for other ranges; f.mu is
// held.
func (f *content) start(j *job) bool {
	err := errAbandoned
	if f.closed {
		err = ErrClosed
	} else if j.urgency == source.Demand {
		f.spawn(j.run)
		return true
	} else {
		select {
		case f.c.slots <- struct{}{}:
			j.slot = true
			f.spawn(j.run)
			return true
		default:
		}
	}
	j.cancel(err)
	f.fail(j.left, err)
	return false
}

func (j *job) run() {
	f := j.f
	if j.urgency == source.Demand {
		f.c.demand.Add(1)
	}
	stop := f.watch(j.cancel, func() (int, int64) { return j.waiters, j.progress.Load() })
	err := j.deliver()
	stop()
	if j.urgency == source.Demand {
		f.c.demand.Add(-1)
	}
	if j.slot {
		<-f.c.slots
	}
	if cause := context.Cause(j.ctx); err != nil && cause != nil {
		err = cause
	}
	j.cancel(nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.fail(j.left, err)
	}
	f.fetchProfile()
}

// watch ends a fetch that has brought nothing for Options.Abandon while nobody
// waited for it. look is called with f.mu held.
func (f *content) watch(cancel context.CancelCauseFunc, look func() (waiters int, progress int64)) (stop func()) {
	var (
		timer *time.Timer
		ended bool
		seen  int64
	)
	f.mu.Lock()
	defer f.mu.Unlock()
	timer = time.AfterFunc(f.c.opts.Abandon, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		waiters, progress := look()
		switch {
		case ended:
		case waiters == 0 && progress == seen:
			f.c.count.abandoned.Add(1)
			cancel(errAbandoned)
		default:
			seen = progress
			timer.Reset(f.c.opts.Abandon)
		}
	})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		ended = true
		timer.Stop()
	}
}

// deliver fetches what is left, as much at a time as no other process is
// fetching already.
func (j *job) deliver() error {
	f := j.f
	for len(j.left) > 0 {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		if j.copied() {
			continue
		}
		n, claims := j.claim()
		if n == 0 {
			// Another process is on the first block. It will be here then, or
			// the claim is free. If neither comes about, we do without.
			if len(j.left) == 0 {
				break
			}
			ctx, cancel := context.WithTimeout(j.ctx, f.c.opts.ClaimWait)
			err := f.sf.WaitClaim(ctx, j.left[0].b)
			cancel()
			if err == nil {
				j.fromDisk()
				continue
			}
			if j.ctx.Err() != nil {
				return err
			}
			n, claims = 1, make([]func(), 1)
		}
		err := j.stream(n, claims)
		unclaim(claims)
		if err != nil {
			return err
		}
	}
	return nil
}

// stream fetches the first n of what is left in one range. A block that does
// not match its sum is fetched once more by a job of its own.
func (j *job) stream(n int, claims []func()) error {
	f := j.f
	off := j.left[0].b * f.bs
	end := j.left[n-1].b*f.bs + int64(f.blockLen(j.left[n-1].b))
	body, err := f.spec.Source.Fetch(j.ctx, off, end-off, j.urgency)
	if err != nil {
		return fmt.Errorf("fetch %d bytes of %q at %d: %w", end-off, f.spec.Label, off, err)
	}
	defer body.Close()
	for i := range n {
		e := j.left[0]
		buf := f.c.buffers.get(f.blockLen(e.b))
		got, err := io.ReadFull(body, buf.data)
		if err != nil {
			buf.discard()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetch %d bytes of %q at %d: after %d: %w", end-off, f.spec.Label, off, e.b*f.bs+int64(got)-off, err)
		}
		j.left = j.left[1:]
		j.progress.Add(1)
		bad := f.check(e.b, buf.data)
		if bad == nil {
			f.publish(e, buf, place{})
			unclaim(claims[i : i+1])
			continue
		}
		buf.discard()
		unclaim(claims[i : i+1])
		f.mu.Lock()
		if e.tries++; e.tries > 1 {
			f.fail([]*entry{e}, bad)
		} else {
			j.waiters -= e.waiters
			again := f.newJob([]*entry{e}, e.urgency)
			again.waiters = e.waiters
			f.start(again)
		}
		f.mu.Unlock()
	}
	return nil
}
