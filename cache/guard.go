package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"vmcastfs/cache/source"
)

// errPanic is what a fetch fails with whose source panicked.
var errPanic = errors.New("internal error")

// guard returns s with panics made errors. Sources decode what came from
// the network, in goroutines of the cache: a fault in one of them must fail its
// fetch, and not the process that serves all the other files.
func (c *Cache) guard(s source.Source) source.Source {
	if fwd, ok := s.(source.Forward); ok {
		s = source.NewForward(fwd.Fetch, func(off int64) (at int64) {
			var err error
			defer c.recovered(&err)
			return fwd.Start(off)
		})
	}
	return source.Wrap(s, func(ctx context.Context, off, n int64, u source.Urgency) (body io.ReadCloser, err error) {
		defer c.recovered(&err)
		if body, err = s.Fetch(ctx, off, n, u); err != nil {
			return nil, err
		}
		return &guardedBody{body, c}, nil
	})
}

type guardedBody struct {
	body io.ReadCloser
	c    *Cache
}

func (b *guardedBody) Read(p []byte) (n int, err error) {
	defer b.c.recovered(&err)
	return b.body.Read(p)
}

func (b *guardedBody) Close() (err error) {
	defer b.c.recovered(&err)
	return b.body.Close()
}

// recovered is deferred: it makes an error of a panic. The stack is logged once
// per process, as one bad file may be read for ever.
func (c *Cache) recovered(err *error) {
	p := recover()
	if p == nil {
		return
	}
	*err = fmt.Errorf("%w: %v", errPanic, p)
	if c.count.panics.Add(1) == 1 {
		c.log.Error("panic while fetching; the fetch fails and the mount lives on", "panic", p, "stack", string(debug.Stack()))
	}
}
