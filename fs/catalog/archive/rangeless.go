package archive

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
)

// rangelessPause is how long a server that has lost its ranges is asked for none.
const rangelessPause = time.Minute

// rangeless is for an archive that was opened with ranges, and whose server has lost them.
// It is taken once, as one stream, into the file of the cache from which new opens read it
// too. A guest that runs goes on from there.
type rangeless struct {
	whole  *streamed
	run    func(func(context.Context)) bool // Env.Go
	lost   atomic.Int64                     // when it was last found, UnixNano; 0: never
	taking atomic.Bool                      // a goroutine has whole taken to its end
}

// behind is from, and what is left of it once it says remote.ErrNoRanges. Size is that of
// the archive.
func (r *rangeless) behind(from source.Source, size int64) source.Source {
	return source.Func(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		end := off + n
		if n < 0 {
			end = size
		}
		b := &rangelessBody{r: r, ctx: ctx, off: off, end: end, urgency: u}
		if lost := r.lost.Load(); lost == 0 || time.Since(time.Unix(0, lost)) > rangelessPause {
			body, err := from.Fetch(ctx, off, n, u)
			if err == nil {
				b.body = body
				return b, nil
			}
			if !errors.Is(err, remote.ErrNoRanges) {
				return nil, err
			}
			r.lost.Store(time.Now().UnixNano())
		}
		if err := b.turn(); err != nil {
			return nil, err
		}
		return b, nil
	})
}

// takeAll has the archive taken to its end, so that it is asked for once.
func (r *rangeless) takeAll() {
	if !r.taking.CompareAndSwap(false, true) {
		return
	}
	if !r.run(func(ctx context.Context) {
		defer r.taking.Store(false)
		if r.whole.Acquire() != nil {
			return
		}
		defer r.whole.Release()
		if file, err := r.whole.current(); err == nil {
			_ = file.Complete(ctx) // whoever reads hears of an error
		}
	}) {
		r.taking.Store(false)
	}
}

// A rangelessBody is a range of the archive, which goes on from the file of the whole once
// the server has no ranges any more.
type rangelessBody struct {
	r        *rangeless
	ctx      context.Context
	off, end int64
	urgency  source.Urgency
	body     io.ReadCloser
	turned   bool // body is of the file, which is acquired for it
}

// turn goes on from the file.
func (b *rangelessBody) turn() error {
	if b.body != nil {
		_ = b.body.Close() // it is broken
	}
	if err := b.r.whole.Acquire(); err != nil {
		return err
	}
	b.r.takeAll()
	body, err := b.r.whole.Fetch(b.ctx, b.off, b.end-b.off, b.urgency)
	if err != nil {
		b.r.whole.Release()
		return err
	}
	b.body, b.turned = body, true
	return nil
}

func (b *rangelessBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.off += int64(n)
	if b.turned || !errors.Is(err, remote.ErrNoRanges) {
		return n, err
	}
	b.r.lost.Store(time.Now().UnixNano())
	return n, b.turn()
}

func (b *rangelessBody) Close() error {
	err := b.body.Close()
	if b.turned {
		b.turned = false
		b.r.whole.Release()
	}
	return err
}
