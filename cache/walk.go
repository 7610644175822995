package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// walk makes every block present, in order, and returns the digests of them;
// of single blocks too, if somebody wants to keep those. A block that does not
// match its own sum does not keep it from the others.
func (cp *completion) walk(ctx context.Context, p *pass, r *review) (_ sums.Digests, _ *sums.Table, err error) {
	l := cp.local
	d := sums.NewDigests(cp.sums)
	var pipes []*pipe // none if there is nothing to compute: they take memory
	if len(d) > 0 {
		pipes = append(pipes, newPipe(l.bs, func(p []byte) { d.Write(p) }))
	}
	var learn *learner
	if cp.learned != nil && l.sums() == nil {
		learn = &learner{local: l}
		pipes = append(pipes, newPipe(l.bs, learn.block))
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
	for b := int64(0); b < l.blocks(); b++ {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if len(d) == 0 && learn == nil && l.size.Load() >= 0 {
			// Nothing to compute: only what is missing matters.
			if b = l.sf.NextMissing(b); b >= l.blocks() {
				break
			}
		}
		if l.zero(b) {
			if !l.sf.Has(b) {
				if err := l.sf.WriteZeros(b, l.zeroRun(b)); err != nil && !errors.Is(err, store.ErrFull) {
					return nil, nil, fmt.Errorf("complete %q: %w", l.label, err)
				}
			}
			for _, p := range pipes {
				p.zeros(l.blockLen(b))
			}
		} else {
			buf, err := cp.load(ctx, p, b, &reached)
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
			for _, p := range pipes {
				buf.ref()
				p.feed(buf)
			}
			buf.release()
		}
		cp.standing.seen(r, min(b*l.bs+l.bs, max(l.size.Load(), b*l.bs)))
	}
	finish()
	for _, f := range cp.flights.landing() { // the last blocks were handed over before they were written
		<-f.gone
	}
	if wrong != nil {
		return nil, nil, wrong
	}
	return d, learn.done(), nil
}

// load returns block b with a reference, fetching it and some more if need be.
func (cp *completion) load(ctx context.Context, p *pass, b int64, reached *int64) (*buffer, error) {
	l := cp.local
	for b < l.blocks() {
		buf, err := l.stored(b)
		if err == nil {
			buf.publish(blockKey(l.id, b), 1)
			return buf, nil
		}
		if !errors.Is(err, store.ErrAbsent) {
			return nil, fmt.Errorf("check %q at %d: %w", l.label, b*l.bs, err)
		}
		if bad := cp.standing.corrupt.Load(); bad != nil {
			return nil, bad
		}
		t, err := cp.turn(ctx, p, b)
		if err != nil {
			return nil, err
		}
		if t.came {
			continue
		}
		*reached = max(*reached, b)
		if to := b + t.ahead/l.bs; to-*reached >= rangeLen/l.bs || *reached == b {
			*reached = cp.flights.fetchAhead(*reached, to, t.urgency)
		}
		for _, f := range cp.flights.acquire(b, b, want{urgency: t.urgency}) {
			buf, err := cp.flights.wait(ctx, nil, f)
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

// turn is what a walk does about a missing block: it goes on, as the block has
// come, or it fetches that block and some ahead.
type turn struct {
	came    bool
	urgency source.Urgency
	ahead   int64 // bytes
}

// turn waits until block b has come, or until readers leave room to fetch it.
func (cp *completion) turn(ctx context.Context, p *pass, b int64) (turn, error) {
	const poll = 50 * time.Millisecond
	s := cp.local.s
	for begun := time.Now(); ; {
		came := cp.flights.notify(b)
		if cp.local.here(b) {
			return turn{came: true}, nil
		}
		pause, waited := poll, time.Since(begun)
		quiet := time.Duration(time.Now().UnixNano() - s.lastMiss.Load())
		busy := s.demand.Load() > 0
		switch cp.most(p) {
		case reading:
			return turn{urgency: source.ReadAhead, ahead: s.opts.ReadAhead}, nil
		case eager:
			if !busy || waited > time.Second {
				return turn{urgency: source.Background, ahead: s.opts.ReadAhead}, nil
			}
		case leisure:
			if !busy && quiet >= s.opts.Quiet || waited > 15*s.opts.Quiet {
				return turn{urgency: source.Background, ahead: min(4<<20, s.opts.ReadAhead)}, nil
			}
		case follow:
			pause = 5 * time.Second // another process may have brought it
		}
		select {
		case <-ctx.Done():
			return turn{}, ctx.Err()
		case <-came:
		case <-p.wake:
		case <-time.After(pause):
		}
	}
}
