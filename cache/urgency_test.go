package cache

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// stacked is a forward source that sits on another file of the cache.
type stacked struct{ file *File }

func (s stacked) Start(int64) int64 { return 0 }

func (s stacked) Fetch(ctx context.Context, off, _ int64, _ source.Urgency) (io.ReadCloser, error) {
	r := readerFunc(func(p []byte) (int, error) {
		n, err := s.file.ReadAt(ctx, p[:min(len(p), 20_000)], off)
		off += int64(n)
		return n, err
	})
	return io.NopCloser(r), nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestUrgencyGoesThrough: what a source reads of another file is as urgent as
// what it is read for; completion does not stand back for its own reads.
func TestUrgencyGoesThrough(t *testing.T) {
	for _, background := range []bool{true, false} {
		t.Run(fmt.Sprint("background=", background), func(t *testing.T) {
			data := truth(8 << 20)
			var mu sync.Mutex
			demands := 0
			src := &script{data: data, before: func(_ context.Context, _, _ int64, u source.Urgency) error {
				mu.Lock()
				defer mu.Unlock()
				if u == source.Demand {
					demands++
				}
				return nil
			}}
			c := newCache(t, Options{})
			base := mustOpen(t, c, Spec{Key: testKey(1), Size: int64(len(data)), Source: src})
			f := mustOpen(t, c, Spec{Key: testKey(2), Size: int64(len(data)), Source: stacked{base}, Sums: allSums(data)})
			if background {
				if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
					t.Fatal(err, f.State())
				}
			} else if _, err := f.ReadAt(ctx, make([]byte, 4096), 1<<20); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if background != (demands == 0) {
				t.Errorf("%d urgent fetches", demands)
			}
			if n := src.count(); background && n > 40 {
				t.Errorf("%d fetches of 8 MiB", n)
			}
		})
	}
}
