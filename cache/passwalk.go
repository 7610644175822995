package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

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
func (f *content) standBack(ctx context.Context, p *pass) (source.Urgency, int64, error) {
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
			return source.ReadAhead, f.c.opts.ReadAhead, nil
		case eager && (!busy || waited > time.Second):
			return source.Background, f.c.opts.ReadAhead, nil
		case !busy && quiet >= f.c.opts.Quiet, waited > 15*f.c.opts.Quiet:
			return source.Background, min(4<<20, f.c.opts.ReadAhead), nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(poll):
		}
	}
}
