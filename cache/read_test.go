package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
	"vmcastfs/xvm/sums"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

var ctx = context.Background()

// TestReadEdges reads at and around every border, by handles that find nothing,
// everything, or a part on disk.
func TestReadEdges(t *testing.T) {
	const bs = 4096
	s := newStore(t, store.Options{})
	key := 0
	for _, size := range []int{0, 1, bs - 1, bs, bs + 1, 2 * bs, 3*bs + 500} {
		for _, mode := range []string{"random", "forward", "unknown"} {
			t.Run(fmt.Sprintf("%s %d", mode, size), func(t *testing.T) {
				data := truth(size)
				key++
				spec := Spec{Key: testKey(key), Size: int64(size), BlockSize: bs, Source: &script{data: data}}
				if mode != "random" {
					spec.Source = &forwardScript{script: script{data: data}}
				}
				if mode == "unknown" {
					spec.Size = store.Unknown
				}
				c := newCache(t, Options{Store: s, Memory: 1 << 20, Region: 2 * bs})
				f := mustOpen(t, c, spec)
				edges := []int{0, 1, bs - 1, bs, bs + 1, 2 * bs, 3*bs + 500, 4 * bs}
				for range 2 {
					for _, off := range edges {
						for _, n := range edges {
							p := make([]byte, n)
							got, err := f.ReadAt(ctx, p, int64(off))
							want := data[min(off, size):min(off+n, size)]
							if got != len(want) || !bytes.Equal(p[:got], want) {
								t.Fatalf("read %d at %d: %d bytes, expected %d", n, off, got, len(want))
							}
							if got < n && err != io.EOF || got == n && err != nil && err != io.EOF {
								t.Fatalf("read %d at %d: error %v", n, off, err)
							}
						}
					}
				}
				if _, err := f.ReadAt(ctx, make([]byte, 1), -1); err == nil {
					t.Error("negative offset accepted")
				}
				if n, err := f.WaitSize(ctx); n != int64(size) || err != nil {
					t.Errorf("size %d, %v", n, err)
				}
			})
		}
	}
}

// TestRandomReads compares many concurrent readers with a memory truth, and
// counts what was asked of the source.
func TestRandomReads(t *testing.T) {
	data := truth(5<<20 + 12345)
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprint("forward ", forward), func(t *testing.T) {
			src := &script{data: data}
			spec := Spec{Size: int64(len(data)), BlockSize: 16 << 10, Source: src}
			if forward {
				spec.Source = &forwardScript{script: script{data: data}, points: 1 << 20}
			}
			c := newCache(t, Options{Memory: 1 << 20, Region: 128 << 10})
			var wg sync.WaitGroup
			for g := range 16 {
				f := mustOpen(t, c, spec)
				wg.Go(func() {
					r := rand.New(rand.NewPCG(1, uint64(g)))
					for range 150 {
						off := r.Int64N(int64(len(data)))
						p := make([]byte, 1+r.IntN(200<<10)>>r.IntN(8))
						n, err := f.ReadAt(ctx, p, off)
						if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:off+int64(n)]) {
							t.Errorf("read %d at %d: %d bytes, %v", len(p), off, n, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if !forward && src.most() != 1 { // blocks share no page
				t.Errorf("a page was fetched %d times", src.most())
			}
		})
	}
}

// TestOneFetch has many readers wait for one block.
func TestOneFetch(t *testing.T) {
	data := truth(1 << 20)
	gate := make(chan struct{})
	src := &script{data: data, before: func(context.Context, int64, int64, source.Urgency) error { <-gate; return nil }}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			p := make([]byte, 4096)
			if _, err := f.ReadAt(ctx, p, int64(i)*512); err != nil || !bytes.Equal(p, data[i*512:i*512+4096]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	for waiting := 0; waiting < 50; time.Sleep(time.Millisecond) {
		f.e.flights.mu.Lock()
		waiting = 0
		for _, e := range f.e.flights.table {
			waiting += e.waiters
		}
		f.e.flights.mu.Unlock()
	}
	close(gate)
	wg.Wait()
	if src.most() != 1 {
		t.Errorf("fetched %d times", src.most())
	}
}

// TestFailure: a failed fetch wakes everyone once and leaves the block absent.
func TestFailure(t *testing.T) {
	data := truth(256 << 10)
	boom := errors.New("no route to host")
	var fails atomic.Int32
	fails.Store(1)
	gate := make(chan struct{})
	src := &script{data: data, before: func(context.Context, int64, int64, source.Urgency) error {
		<-gate
		if fails.Add(-1) >= 0 {
			return boom
		}
		return nil
	}}
	c := newCache(t, Options{Region: 1})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	errs := make(chan error)
	for range 10 {
		go func() {
			_, err := f.ReadAt(ctx, make([]byte, 100), 0)
			errs <- err
		}()
	}
	waitFor(t, func() bool { return waitingNow(f) == 10 })
	close(gate)
	for range 10 {
		if err := <-errs; !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
	}
	if src.count() != 1 {
		t.Errorf("%d fetches for one failure", src.count())
	}
	if s := f.Status(); s.LastError == "" || s.CachedBytes != 0 {
		t.Errorf("status %+v", s)
	}
	if _, err := f.ReadAt(ctx, make([]byte, 100), 0); err != nil {
		t.Errorf("second try: %v", err)
	}
}

func waitingNow(h *File) (n int) {
	fl := h.e.flights
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, f := range fl.table {
		n += f.waiters
	}
	return n
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, "what the test waits for", time.Minute, ok)
}

// TestShortBody: blocks that arrived before a break are served and kept.
func TestShortBody(t *testing.T) {
	data := truth(512 << 10)
	var once atomic.Bool
	src := &script{data: data, body: func(off, n int64, r io.Reader) io.Reader {
		if once.CompareAndSwap(false, true) {
			return io.LimitReader(r, 100<<10)
		}
		return r
	}}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	p := make([]byte, len(data))
	n, err := f.ReadAt(ctx, p, 0)
	if n != 64<<10 || !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(p[:n], data[:n]) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if n, err = f.ReadAt(ctx, p, 0); n != len(p) || err != nil || !bytes.Equal(p, data) {
		t.Fatalf("again: %d bytes, %v", n, err)
	}
	if src.fetched[0] != 1 {
		t.Error("the first block was fetched again")
	}
}

// TestStreaming: the demanded block is served while its range is still stuck.
func TestStreaming(t *testing.T) {
	data := truth(512 << 10)
	gate := make(chan struct{})
	src := &script{data: data, body: func(off, n int64, r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, 64<<10), gated{gate}, r)
	}}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	if _, err := f.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := f.ReadAt(short, make([]byte, 4096), 64<<10); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a stuck block: %v", err)
	}
	close(gate)
	if _, err := f.ReadAt(ctx, make([]byte, 4096), 64<<10); err != nil {
		t.Fatal(err)
	}
	if src.count() != 1 {
		t.Errorf("%d ranges", src.count())
	}
}

// gated is a reader of nothing that waits first.
type gated struct{ gate <-chan struct{} }

func (g gated) Read([]byte) (int, error) { <-g.gate; return 0, io.EOF }

// TestCloseWakes: Close ends waiting reads and stuck fetches.
func TestCloseWakes(t *testing.T) {
	src := &script{data: truth(1 << 20), before: func(ctx context.Context, _, _ int64, _ source.Urgency) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: 1 << 20, Source: src})
	got := make(chan error)
	go func() {
		_, err := f.ReadAt(ctx, make([]byte, 1), 0)
		got <- err
	}()
	waitFor(t, func() bool { return waitingNow(f) == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := f.ReadAt(ctx, make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Open(Spec{Key: testKey(1), Source: src}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// TestAbandon: a stuck fetch ends when nobody waits for it any more, and the
// next reader starts afresh.
func TestAbandon(t *testing.T) {
	data := truth(1 << 20)
	var stuck atomic.Bool
	begun := make(chan bool)
	src := &script{data: data, before: func(ctx context.Context, _, _ int64, _ source.Urgency) error {
		if stuck.Load() {
			begun <- true
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	for _, forward := range []bool{false, true} {
		stuck.Store(true)
		c := newCache(t, Options{Abandon: 20 * time.Millisecond})
		spec := Spec{Size: 1 << 20, Source: src}
		if forward {
			spec.Source = &forwardScript{script: script{data: data, before: src.before}}
		}
		f := mustOpen(t, c, spec)
		short, cancel := context.WithCancel(ctx)
		gone := make(chan error)
		go func() {
			_, err := f.ReadAt(short, make([]byte, 1), 0)
			gone <- err
		}()
		<-begun
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return c.Stats().Abandoned > 0 })
		stuck.Store(false)
		if _, err := f.ReadAt(ctx, make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
		if s := f.Status(); s.LastError != "" {
			t.Error(s.LastError)
		}
	}
}

// TestZeros: what Data leaves out is never fetched.
func TestZeros(t *testing.T) {
	data := make([]byte, 20*4096+100)
	copy(data[3*4096+10:], truth(5000))
	copy(data[20*4096:], truth(50))
	ext := []Extent{{20 * 4096, 1 << 40}, {3*4096 + 10, 4000}, {4*4096 - 100, 1120}, {1, 0}, {-5, 2}}
	src := &script{data: data}
	c := newCache(t, Options{Region: 1 << 20})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), BlockSize: 4096, Source: src, Data: ext,
		Sums: []sums.Sum{sumOf("sha256", data)}})
	p := make([]byte, len(data))
	if _, err := f.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p, data) {
		t.Fatal(err)
	}
	for page := range src.fetched {
		if page != 3 && page != 4 && page != 20 {
			t.Errorf("page %d was fetched", page)
		}
	}
	for _, tc := range []struct{ off, data, hole int64 }{
		{0, 3*4096 + 10, 0},
		{3*4096 + 10, 3*4096 + 10, 4*4096 + 1020},
		{4*4096 + 1020, 20 * 4096, 4*4096 + 1020},
		{20*4096 + 99, 20*4096 + 99, 20*4096 + 100},
	} {
		if got, err := f.SeekData(tc.off); got != tc.data || err != nil {
			t.Errorf("data from %d: %d, %v", tc.off, got, err)
		}
		if got, err := f.SeekHole(tc.off); got != tc.hole || err != nil {
			t.Errorf("hole from %d: %d, %v", tc.off, got, err)
		}
	}
	for _, off := range []int64{-1, int64(len(data)), 1 << 40} {
		if _, err := f.SeekData(off); err == nil {
			t.Errorf("data from %d", off)
		}
		if _, err := f.SeekHole(off); err == nil {
			t.Errorf("hole from %d", off)
		}
	}
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Fatal(err, f.State())
	}
}

func sumOf(algo string, p []byte) sums.Sum {
	d := sums.NewDigest(sums.Sum{Algo: algo})
	d.Write(p)
	return sums.Sum{Algo: algo, Hex: d.Got()}
}
