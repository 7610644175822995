package cache

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"vmcastfs/cache/source"
)

// job is one range on its way from a source with random access: the flights of
// consecutive blocks, in order. It delivers each as soon as its last byte is
// here, and holds one buffer at a time.
type job struct {
	fl      *flights
	urgency source.Urgency
	left    []*flight     // not delivered yet; used by the job's goroutine only
	patient time.Duration // how long it still waits for other processes; likewise
	piece   span          // which is fetched whole, through a mirror if there is one; empty: left is
	waiters int           // of all its flights; guarded by flights.mu

	ctx      context.Context
	cancel   context.CancelCauseFunc
	progress atomic.Int64 // blocks delivered
	brought  atomic.Int64 // bytes
}

// newJob makes a job of flights that no job has yet; mu is held.
func (fl *flights) newJob(list []*flight, u source.Urgency) *job {
	j := &job{fl: fl, urgency: u, left: list, patient: claimWaits * fl.s.claimWait()}
	j.ctx, j.cancel = context.WithCancelCause(fl.tasks.Context())
	for _, f := range list {
		f.job = j
	}
	return j
}

// start begins a job that a reader waits for. A job of read-ahead needs one of
// the slots, and fails if none is free: so no reader ever joins a range that
// waits for other ranges. mu is held.
func (fl *flights) start(j *job) bool {
	if j.urgency != source.Demand && !fl.s.slots.take(j) {
		j.cancel(errAbandoned)
		fl.fail(j.left, errAbandoned)
		return false
	}
	return fl.startNow(j)
}

// startNow begins a job, slot or none; mu is held.
func (fl *flights) startNow(j *job) bool {
	if fl.tasks.Run(func(context.Context) { j.run() }) {
		return true
	}
	fl.s.slots.give(j)
	j.cancel(ErrClosed)
	fl.fail(j.left, ErrClosed)
	return false
}

func (j *job) run() {
	fl := j.fl
	if j.urgency == source.Demand {
		fl.s.demand.Add(1)
		fl.origin.demand.Add(1)
	}
	stop := fl.watch(j.cancel, func() (int, int64) { return j.waiters, j.progress.Load() })
	err := j.deliver()
	stop()
	if j.urgency == source.Demand {
		fl.s.demand.Add(-1)
		fl.origin.demand.Add(-1)
	}
	fl.s.slots.give(j)
	if cause := context.Cause(j.ctx); err != nil && cause != nil {
		err = cause
	}
	j.cancel(nil)
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if err != nil {
		fl.fail(j.left, err)
	}
	fl.fetchProfile()
}

// watch ends a fetch that has brought nothing for Options.Abandon while nobody
// waited for it. look is called with mu held.
func (fl *flights) watch(cancel context.CancelCauseFunc, look func() (waiters int, progress int64)) (stop func()) {
	var (
		timer *time.Timer
		ended bool
		seen  int64
	)
	fl.mu.Lock()
	defer fl.mu.Unlock()
	timer = time.AfterFunc(fl.s.opts.Abandon, func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		waiters, progress := look()
		switch {
		case ended:
		case waiters == 0 && progress == seen:
			fl.s.count.abandoned.Add(1)
			cancel(errAbandoned)
		default:
			seen = progress
			timer.Reset(fl.s.opts.Abandon)
		}
	})
	return func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		ended = true
		timer.Stop()
	}
}

// deliver fetches what is left, as much at a time as no other process is
// fetching already.
func (j *job) deliver() error {
	for len(j.left) > 0 {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		if j.piece.to > 0 {
			j.copyAll()
		}
		if len(j.left) == 0 || j.copied() {
			continue
		}
		n, claims := j.claim()
		if n == 0 && len(j.left) > 0 { // another process is on the first block
			if j.awaitOther() {
				continue
			}
			if err := j.ctx.Err(); err != nil {
				return err
			}
			n, claims = j.claimAll()
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
	if n == 0 {
		return nil
	}
	fl, l := j.fl, j.fl.local
	off := j.left[0].b * l.bs
	end := j.left[n-1].b*l.bs + int64(l.blockLen(j.left[n-1].b))
	ctx, trial := j.ctx, (*source.Trial)(nil)
	if j.piece.to > 0 {
		off, end = j.piece.from*l.bs, min(j.piece.to*l.bs, l.size.Load())
		ctx, trial = source.WithTrial(ctx)
	}
	begun, at := time.Now(), off
	body, err := fl.source.Fetch(ctx, off, end-off, j.urgency)
	if err != nil {
		return fmt.Errorf("fetch %d bytes of %q at %d: %w", end-off, l.label, off, err)
	}
	m := &metered{ReadCloser: body, n: &j.brought}
	if j.urgency == source.Demand && trial == nil { // a mirror's time is not the origin's
		m.first = func() { fl.origin.trips.add(time.Since(begun)) }
	}
	body = m
	defer body.Close()
	for i := range n {
		f := j.left[0]
		if err := discard(body, f.b*l.bs-at); err != nil {
			return fmt.Errorf("fetch %d bytes of %q at %d: before %d: %w", end-off, l.label, off, f.b*l.bs, err)
		}
		buf := fl.s.buffers.get(l.blockLen(f.b))
		got, err := io.ReadFull(body, buf.data)
		if err != nil {
			buf.discard()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetch %d bytes of %q at %d: after %d: %w", end-off, l.label, off, f.b*l.bs+int64(got)-off, err)
		}
		at = f.b*l.bs + int64(got)
		if i == 0 && j.urgency == source.Demand {
			fl.s.tookTrip(time.Since(begun))
		}
		j.left = j.left[1:]
		j.progress.Add(1)
		bad := l.compare(j.ctx, f.b, buf.data)
		if bad == nil {
			fl.publish(f, buf, place{label: trial.Name()})
			unclaim(claims[i : i+1])
			continue
		}
		buf.discard()
		unclaim(claims[i : i+1])
		j.again(f, trial, bad)
	}
	if j.piece.to > 0 && len(j.left) == 0 {
		_, _ = io.Copy(io.Discard, body) // so that the connection is kept
	}
	return nil
}
