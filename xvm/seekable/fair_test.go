package seekable

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// dripping is a source that gives little at a time, and never stands still.
type dripping struct {
	memory
	free  int64 // bytes at the beginning that come at once
	every time.Duration
	drops atomic.Int64
}

func (s *dripping) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off >= s.free {
		select {
		case <-time.After(s.every):
			s.drops.Add(1)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return s.memory.ReadAt(ctx, p, off)
}

// TestDrippingYields: files of a server that drips, which together have all of the memory, hold up another server's
// file for as long as their patience lasts, not for as long as they take. They go on by themselves.
func TestDrippingYields(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20, 3)
	data := command(t, plain, "xz", "-T1", "--lzma2=preset=0,dict=1MiB")
	b := NewBudget(2 * (decoderBase + 1<<20))
	b.patience = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	var drips []*dripping
	ended := make(chan error)
	for range 2 {
		// Each chunk of 128 bytes is worth 2 ms of patience and costs ten: it would go on for minutes.
		src := &dripping{memory: data, free: int64(len(data)) / 2, every: 10 * time.Millisecond}
		drips = append(drips, src)
		r, err := Open(XZ, src, int64(len(data)), Options{Budget: b, Origin: "drips", chunks: chunks{128, 128}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s, err := r.Stream(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		go func() {
			_, err := io.Copy(io.Discard, s)
			ended <- err
		}()
	}
	for _, src := range drips {
		for src.drops.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for range 3 {
		honest := newReader(t, XZ, data, Options{Budget: b, Origin: "honest"})
		if got, err := readFrom(honest, 0, -1); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("beside a dripping server: %v, %s", err, firstDifference(got, plain))
		}
		honest.Close()
	}
	for _, src := range drips {
		before := src.drops.Load()
		for src.drops.Load() == before {
			time.Sleep(time.Millisecond)
		}
	}
	select {
	case err := <-ended:
		t.Errorf("a dripping file ended: %v", err)
	default:
	}
	cancel()
	<-ended
	<-ended
}

// TestBudgetTurns: whose turn it is.
func TestBudgetTurns(t *testing.T) {
	t.Parallel()
	b := NewBudget(10)
	order := make(chan string)
	wait := func(origin string, n int64) *claim {
		c := b.claim(origin, n)
		go func() {
			<-c.got
			order <- origin
		}()
		return c
	}
	next := func(want string) {
		t.Helper()
		if got := <-order; got != want {
			t.Fatalf("it is %s's turn, not %s's", got, want)
		}
	}
	a1 := wait("a", 5)
	next("a")
	a2 := wait("a", 5)
	next("a")
	a3, a4 := wait("a", 5), wait("a", 5)
	b1 := wait("b", 10) // comes before them, and waits for all of it
	c1 := b.claim("c", 1)
	b.release("a", a1)
	b.release("c", c1) // gives up
	select {
	case got := <-order:
		t.Fatalf("%s does not wait for the one whose turn it is", got)
	default:
	}
	b.release("a", a2)
	next("b")
	b.release("b", b1)
	next("a")
	next("a")
	b.release("a", a3)
	b.release("a", a4)
	if b.free != 10 || len(b.origins) != 0 || len(b.queue) != 0 {
		t.Errorf("%d free, %d origins, %d wait", b.free, len(b.origins), len(b.queue))
	}
}
