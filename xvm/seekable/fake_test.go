package seekable

import (
	"context"
	"errors"
	"hash/crc32"
	"sync/atomic"
)

func crcOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

type key struct{}

// gate is a source that waits to be opened.
type gate struct {
	memory
	open  chan struct{}
	calls atomic.Int64
	value atomic.Value
}

func (g *gate) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if v := ctx.Value(key{}); v != nil {
		g.value.Store(v)
	}
	g.calls.Add(1)
	select {
	case <-g.open:
		return g.memory.ReadAt(ctx, p, off)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

var errFlaky = errors.New("the network is down")

// flaky is a source one of whose reads fails.
type flaky struct {
	memory
	calls atomic.Int64
	fail  int64
}

func (f *flaky) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f.calls.Add(1) == f.fail {
		return 0, errFlaky
	}
	return f.memory.ReadAt(ctx, p, off)
}
