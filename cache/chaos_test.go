package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/store/storetest"
	"vmcastfs/xvm/sums"
)

var errChaos = errors.New("chaos")

// chaos is a script whose fetches fail, break off, or bring wrong bytes, each
// now and then.
func chaos(data []byte, wrong bool) script {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(5, 6))
	dice := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	return script{
		data: data,
		before: func(ctx context.Context, _, _ int64, _ source.Urgency) error {
			if dice(8) == 0 {
				return errChaos
			}
			return sleep(ctx, time.Duration(dice(300))*time.Microsecond)
		},
		body: func(off, n int64, r io.Reader) io.Reader {
			switch dice(8) {
			case 0:
				return io.MultiReader(io.LimitReader(r, int64(dice(100_000))), failing{errChaos})
			case 1:
				if wrong {
					p, _ := io.ReadAll(r)
					p = bytes.Clone(p)
					if len(p) > 0 {
						p[dice(len(p))] ^= 1
					}
					return bytes.NewReader(p)
				}
			}
			return r
		},
	}
}

// TestChaos: whatever happens around a read, it gives right bytes or an error.
func TestChaos(t *testing.T) {
	const bs = 16 << 10
	data := truth(3<<20 + 4321)
	for _, tc := range []struct {
		name string
		spec Spec
		src  source.Source
	}{
		{"random", Spec{}, func() source.Source { s := chaos(data, true); return &s }()},
		{"forward", Spec{}, &forwardScript{script: chaos(data, true), points: 300_000, park: true}},
		{"whole", Spec{Whole: true}, &forwardScript{script: chaos(data, true)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := tc.spec
			spec.Key, spec.Label, spec.Source = testKey(1), "chaos", tc.src
			spec.Size, spec.BlockSize, spec.Blocks = int64(len(data)), bs, sumsOf(data, bs)
			spec.Sums = []sums.Sum{sumOf("sha256", data)}
			c := newCache(t, Options{
				Store:  newStore(t, store.Options{Limit: 2 << 20}),
				Memory: 1 << 20, Region: 128 << 10, Abandon: 5 * time.Millisecond,
			})
			var wg sync.WaitGroup
			good := make([]int, 8)
			for g := range good {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(9, uint64(g)))
					for range 10 {
						f, err := c.Open(spec)
						if err != nil {
							t.Error(err)
							return
						}
						closer := make(chan struct{})
						for i := range 20 {
							wait, cancel := context.WithTimeout(ctx, time.Duration(1+r.IntN(30))*time.Millisecond)
							off := r.Int64N(int64(len(data)))
							p := make([]byte, 1+r.IntN(100_000))
							n, err := f.ReadAt(wait, p, off)
							if !bytes.Equal(p[:n], data[off:off+int64(n)]) {
								t.Errorf("wrong bytes at %d", off)
							}
							var bad *BlockError
							if n < len(p) && err == nil {
								t.Error("short read without an error")
							}
							if err != nil && err != io.EOF && !errors.Is(err, errChaos) && !errors.As(err, &bad) &&
								!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrClosed) {
								t.Error(err)
							}
							if err == nil {
								good[g]++
							}
							if r.IntN(20) == 0 {
								storetest.Lose(t, c.shared.opts.Store, f.e.key, r.Int64N(f.e.local.blocks()))
							}
							if i == 10 && g%2 == 0 {
								go func() { f.Complete(wait); close(closer) }()
								<-closer
							}
							cancel()
						}
						f.Close()
					}
				})
			}
			wg.Wait()
			for g, n := range good {
				if n == 0 {
					t.Errorf("reader %d never read anything", g)
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.entries) != 0 || len(c.handles) != 0 || len(c.shared.slots.jobs) != 0 || c.shared.demand.Load() != 0 {
				t.Error("something is left:", len(c.entries), len(c.handles), len(c.shared.slots.jobs), c.shared.demand.Load())
			}
		})
	}
}
