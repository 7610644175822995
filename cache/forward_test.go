package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// forwardScript is a script that can begin only at multiples of points
// (0: only at 0).
type forwardScript struct {
	script
	points int64
	park   bool // it can also begin where its last stream was closed

	produced, parked atomic.Int64
}

func (s *forwardScript) Start(off int64) int64 {
	if p := s.parked.Load(); s.park && p <= off {
		return p
	}
	if s.points == 0 {
		return 0
	}
	return off / s.points * s.points
}

func (s *forwardScript) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	body, err := s.script.Fetch(ctx, off, n, u)
	if err != nil {
		return nil, err
	}
	return &forwardStream{body, s, off}, nil
}

type forwardStream struct {
	io.ReadCloser
	s   *forwardScript
	off int64
}

func (r *forwardStream) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.off += int64(n)
	r.s.produced.Add(int64(n))
	return n, err
}

func (r *forwardStream) Close() error {
	r.s.parked.Store(r.off)
	return r.ReadCloser.Close()
}

// starts returns where the passes began.
func (s *forwardScript) starts() (at []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fetches {
		at = append(at, f.Off)
	}
	return at
}

// TestForwardRuns: one pass goes as far as someone wants, holes behind it are
// had from the nearest start, far jumps use a later start.
func TestForwardRuns(t *testing.T) {
	const mib = 1 << 20
	data := truth(32 * mib)
	src := &forwardScript{script: script{data: data}, points: 4 * mib}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	read := func(off int) {
		t.Helper()
		p := make([]byte, 4096)
		if _, err := f.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+4096]) {
			t.Fatalf("read at %d: %v", off, err)
		}
		waitFor(t, func() bool {
			f.e.flights.mu.Lock()
			defer f.e.flights.mu.Unlock()
			return !f.e.flights.runner.running
		})
	}
	read(mib)       // from 0
	read(mib + 100) // there
	read(17 * mib)  // from 16
	read(5 * mib)   // from 4: behind
	read(16 * mib)  // there: produced on the way to 17
	if got := src.starts(); len(got) != 3 || got[0] != 0 || got[1] != 16*mib || got[2] != 4*mib {
		t.Errorf("passes began at %v", got)
	}
	if _, n := f.e.sf.Present(); n > 12*mib {
		t.Errorf("%d bytes produced for a few reads", n)
	}
}

// TestForwardWhole: a server without ranges is read once, to the end, and
// readers wait for their places.
func TestForwardWhole(t *testing.T) {
	data := truth(3<<20 + 77)
	src := &forwardScript{script: script{data: data}}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src, Whole: true, Sums: []sums.Sum{sumOf("sha1", data)}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			off := len(data) * i / 8
			p := make([]byte, 1000)
			if n, err := f.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p[:n], data[off:off+n]) {
				t.Error(off, err)
			}
		})
	}
	wg.Wait()
	waitFor(t, func() bool { _, n := f.e.sf.Present(); return n == int64(len(data)) })
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Error(err, f.State())
	}
	if src.count() != 1 {
		t.Errorf("%d streams", src.count())
	}
}

// TestForwardUnknown: reads work, the size is learned at the end and persists.
func TestForwardUnknown(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 1<<20 + 5} {
		data := truth(size)
		s := newStore(t, store.Options{})
		src := &forwardScript{script: script{data: data}}
		spec := Spec{Size: store.Unknown, Source: src, MaxSize: 1 << 30, Sums: []sums.Sum{sumOf("sha256", data)}}
		c := newCache(t, Options{Store: s, Region: 1})
		f := mustOpen(t, c, spec)
		if f.Status().Size != store.Unknown {
			t.Fatal("size known")
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if n, err := f.WaitSize(ctx); n != int64(size) || err != nil {
					t.Errorf("size %d, %v", n, err)
				}
			})
		}
		wg.Wait()
		if n, err := f.ReadAt(ctx, make([]byte, 10), int64(size)); n != 0 || err != io.EOF {
			t.Error("at the end:", n, err)
		}
		if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
			t.Error(err, f.State())
		}
		c.Close()
		asked := src.count()
		f = mustOpen(t, newCache(t, Options{Store: s}), spec)
		if f.Status().Size != int64(size) || f.State() != store.Verified {
			t.Error("after a restart:", f.Status().Size, f.State())
		}
		p := make([]byte, size)
		if n, err := f.ReadAt(ctx, p, 0); n != size || err != nil || !bytes.Equal(p, data) {
			t.Error("after a restart:", n, err)
		}
		if src.count() != asked {
			t.Error("fetched again after a restart")
		}
	}
}

// TestLastBlockBeforeTheSize: a block that was written when the size had just become known has its
// own length, also for one who asked for the length before.
func TestLastBlockBeforeTheSize(t *testing.T) {
	f := mustOpen(t, newCache(t, Options{}), Spec{Size: store.Unknown, Source: &forwardScript{script: script{data: truth(5)}}})
	l := f.e.local
	if err := errors.Join(l.sf.SetSize(5), l.sf.WriteBlock(0, truth(5))); err != nil {
		t.Fatal(err)
	}
	buf, err := l.stored(0)
	if err != nil || !bytes.Equal(buf.data, truth(5)) {
		t.Fatalf("%d bytes, %v", len(buf.data), err)
	}
	buf.discard()
}

// TestForwardEnds: sources that end where they should not.
func TestForwardEnds(t *testing.T) {
	data := truth(300 << 10)
	cut := errors.New("connection cut")
	broken := func(off, n int64, r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, 200<<10-off), failing{cut})
	}
	truncated := func(off, n int64, r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, 200<<10-off), failing{io.ErrUnexpectedEOF})
	}
	var size *SizeError
	for _, tc := range []struct {
		name string
		spec Spec
		body func(off, n int64, r io.Reader) io.Reader
		is   func(error) bool
	}{
		{"early", Spec{Size: 400 << 10}, nil, func(err error) bool { return errors.As(err, &size) && size.Got == 300<<10 }},
		{"late", Spec{Size: 250 << 10}, nil, func(err error) bool { return errors.Is(err, ErrCorrupt) }},
		{"cut", Spec{Size: 300 << 10}, broken, func(err error) bool { return errors.Is(err, cut) }},
		{"cut, size unknown", Spec{Size: store.Unknown}, broken, func(err error) bool { return errors.Is(err, cut) }},
		{"truncated, size unknown", Spec{Size: store.Unknown}, truncated, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"bomb", Spec{Size: store.Unknown, MaxSize: 100 << 10}, nil, func(err error) bool { return errors.Is(err, ErrTooLarge) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Source = &forwardScript{script: script{data: data, body: tc.body}}
			c := newCache(t, Options{})
			f := mustOpen(t, c, tc.spec)
			if _, err := f.ReadAt(ctx, make([]byte, 100), 0); err != nil {
				t.Fatal("first block:", err)
			}
			if err := f.Complete(ctx); !tc.is(err) {
				t.Errorf("complete: %v", err)
			}
			if st := f.State(); st == store.Verified || st == store.Unverified {
				t.Errorf("state %v", st)
			}
			if tc.spec.Size < 0 {
				if f.Status().Size != store.Unknown {
					t.Errorf("learned size %d", f.Status().Size)
				}
				if _, err := f.WaitSize(ctx); !tc.is(err) {
					t.Errorf("size: %v", err)
				}
			}
		})
	}
}

// TestForwardCorrupt: once a file has been found corrupt nobody waits for a
// block of it, and its runner does not go on.
func TestForwardCorrupt(t *testing.T) {
	for _, during := range []bool{false, true} {
		data := truth(300 << 10)
		begun, stuck := make(chan bool, 1), make(chan bool)
		src := &forwardScript{script: script{data: data, before: func(context.Context, int64, int64, source.Urgency) error {
			if during {
				begun <- true
				<-stuck
			}
			return nil
		}}}
		c := newCache(t, Options{})
		f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
		poison := func() {
			f.e.standing.poison("a test says so")
		}
		if !during {
			poison()
		}
		var entries []*flight
		for _, b := range []int64{3, 1} { // a pass for the first leaves the other behind
			entries = append(entries, f.e.flights.acquire(b, b, want{urgency: source.Demand})...)
		}
		if during {
			<-begun
			poison()
			close(stuck)
		}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		for _, e := range entries {
			var bad *CorruptError
			if _, err := f.e.flights.wait(short, nil, e); !errors.As(err, &bad) {
				t.Errorf("found corrupt while a pass runs: %t; block %d: %v", during, e.b, err)
			}
		}
		cancel()
		waitFor(t, func() bool {
			f.e.flights.mu.Lock()
			defer f.e.flights.mu.Unlock()
			return !f.e.flights.runner.running
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestForwardSequential: a reader that keeps pace with the source has every
// byte produced once.
func TestForwardSequential(t *testing.T) {
	data := truth(24 << 20)
	src := &forwardScript{script: script{data: data}, park: true}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	p := make([]byte, 128<<10)
	for off := 0; off < len(data); off += len(p) {
		if _, err := f.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+len(p)]) {
			t.Fatal(off, err)
		}
	}
	if n := src.produced.Load(); n != int64(len(data)) {
		t.Errorf("%d of %d bytes produced in %d passes", n, len(data), src.count())
	}
}

// TestForwardTwoProcesses: of two caches over one directory, which is what two
// processes are to each other, one runs a server without ranges.
func TestForwardTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	data := truth(2<<20 + 5)
	gate := make(chan struct{})
	src := &forwardScript{script: script{data: data, before: func(context.Context, int64, int64, source.Urgency) error {
		<-gate
		return nil
	}}}
	spec := Spec{Size: int64(len(data)), Source: src, Whole: true}
	var wg sync.WaitGroup
	for range 2 {
		s := newStore(t, store.Options{Dir: dir, SyncEvery: 5 * time.Millisecond})
		f := mustOpen(t, newCache(t, Options{Store: s, patience: time.Hour}), spec)
		wg.Go(func() {
			p := make([]byte, len(data))
			if _, err := f.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p, data) {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if src.count() != 1 {
		t.Errorf("%d streams", src.count())
	}
}

// TestForwardSizeAfterBrokenEnd: a source that can begin within the last block
// does not make that block a whole one.
func TestForwardSizeAfterBrokenEnd(t *testing.T) {
	data := truth(3<<16 + 77)
	broken := true
	src := &forwardScript{park: true, script: script{data: data, body: func(_, _ int64, r io.Reader) io.Reader {
		if broken {
			broken = false
			return io.MultiReader(r, iotest.ErrReader(errors.New("cut off")))
		}
		return r
	}}}
	f := mustOpen(t, newCache(t, Options{}), Spec{Size: store.Unknown, Source: src})
	if _, err := f.WaitSize(ctx); err == nil {
		t.Fatal("the first pass does not fail")
	}
	if n, err := f.WaitSize(ctx); err != nil || n != int64(len(data)) {
		t.Fatalf("size is %d, %v; want %d", n, err, len(data))
	}
	p := make([]byte, len(data))
	if _, err := f.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p, data) {
		t.Error(err)
	}
}
