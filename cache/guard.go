package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"vmcastfs/cache/source"
)

// errPanic is what a fetch fails with when its source panicked.
var errPanic = errors.New("internal error")

// guard returns src with panics made errors. Sources decode what came from the
// network, in goroutines of the cache: a fault in one of them must fail its
// fetch, and not the process that serves all the other files.
func (s *shared) guard(src source.Source) source.Source {
	if fwd, ok := src.(source.Forward); ok {
		src = source.NewForward(fwd.Fetch, func(off int64) (at int64) {
			var err error
			defer s.recovered(&err)
			return fwd.Start(off)
		})
	}
	return source.Wrap(src, func(ctx context.Context, off, n int64, u source.Urgency) (body io.ReadCloser, err error) {
		defer s.recovered(&err)
		if body, err = src.Fetch(ctx, off, n, u); err != nil {
			return nil, err
		}
		return &guardedBody{body, s}, nil
	})
}

type guardedBody struct {
	body io.ReadCloser
	s    *shared
}

func (b *guardedBody) Read(p []byte) (n int, err error) {
	defer b.s.recovered(&err)
	return b.body.Read(p)
}

func (b *guardedBody) Close() (err error) {
	defer b.s.recovered(&err)
	return b.body.Close()
}

// recovered is deferred: it makes an error of a panic. The stack is logged once
// per process, as one bad file may be read for ever.
func (s *shared) recovered(err *error) {
	p := recover()
	if p == nil {
		return
	}
	*err = fmt.Errorf("%w: %v", errPanic, p)
	if s.count.panics.Add(1) == 1 {
		s.log.Error("panic while fetching; the fetch fails and the mount lives on", "panic", p, "stack", string(debug.Stack()))
	}
}
