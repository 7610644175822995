package seekable

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"
)

// TestParking: a stream that goes on where another ended uses its decoder, so that every byte is read once.
func TestParking(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20, 6)
	src := &counting{memory: gzipped(t, plain, 6)}
	r, err := Open(Gzip, src, int64(len(src.memory)), Options{Every: 1 << 30, Idle: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for off := int64(0); off < int64(len(plain)); off += 100_000 {
		if s := r.Start(off); s != off {
			t.Fatalf("start of %d is %d", off, s)
		}
		n := min(100_000, int64(len(plain))-off)
		got, err := readFrom(r, off, n)
		if err != nil || !bytes.Equal(got, plain[off:off+n]) {
			t.Fatal(off, err)
		}
	}
	if n := src.total(); n > int64(len(src.memory)) {
		t.Errorf("read %d of %d bytes", n, len(src.memory))
	}
	// Only so many are kept.
	for range 5 {
		a, _ := r.Stream(background, 0)
		b, _ := r.Stream(background, 0)
		c, _ := r.Stream(background, 0)
		for _, s := range []io.ReadCloser{a, b, c} {
			s.Read(make([]byte, 10))
			s.Close()
		}
	}
	if len(r.parked) != 2 {
		t.Errorf("%d decoders parked", len(r.parked))
	}
}

// counting counts what is read.
type counting struct {
	memory
	mu sync.Mutex
	n  int64
}

func (c *counting) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := c.memory.ReadAt(ctx, p, off)
	c.mu.Lock()
	c.n += int64(n)
	c.mu.Unlock()
	return n, err
}

func (c *counting) total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// TestIdle: parked decoders go when nobody comes for them.
func TestIdle(t *testing.T) {
	t.Parallel()
	r := newReader(t, Gzip, gzipped(t, disk(1<<20, 6), 6), Options{Idle: 10 * time.Millisecond})
	if _, err := readFrom(r, 0, 10); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("an idle decoder stays")
	}
}
