package cache

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// link is a Source of meaningless bytes behind one shared wire: each request
// costs a round trip, and all streams share the bandwidth in turns.
type link struct {
	size  int64
	rtt   time.Duration
	rate  int64 // bytes per second
	wire  chan struct{}
	some  []byte
	bytes atomic.Int64
	asked atomic.Int64
}

func newLink(size int64, rtt time.Duration, rate int64) *link {
	return &link{size: size, rtt: rtt, rate: rate, wire: make(chan struct{}, 1), some: truth(16 << 10)}
}

func (l *link) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	l.asked.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	s := &linkStream{cancel: cancel, chunks: make(chan []byte, 16)}
	go func() {
		defer close(s.chunks)
		if sleep(ctx, l.rtt) != nil {
			return
		}
		for n > 0 {
			p := l.some[:min(n, 16<<10)]
			select {
			case l.wire <- struct{}{}:
			case <-ctx.Done():
				return
			}
			err := sleep(ctx, time.Duration(int64(len(p))*int64(time.Second)/l.rate))
			<-l.wire
			if err != nil {
				return
			}
			l.bytes.Add(int64(len(p)))
			n -= int64(len(p))
			select {
			case s.chunks <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return s, nil
}

type linkStream struct {
	cancel context.CancelFunc
	chunks chan []byte
	part   []byte
}

func (s *linkStream) Read(p []byte) (int, error) {
	if len(s.part) == 0 {
		part, ok := <-s.chunks
		if !ok {
			return 0, io.EOF
		}
		s.part = part
	}
	n := copy(p, s.part)
	s.part = s.part[n:]
	return n, nil
}

func (s *linkStream) Close() error { s.cancel(); return nil }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// testKey makes a store key of a number.
func testKey(n int) store.Key {
	const hex = "0123456789abcdef"
	k := bytes.Repeat([]byte{'0'}, 64)
	for i := 63; n > 0; i-- {
		k[i] = hex[n%16]
		n /= 16
	}
	return store.Key(k)
}

func newStore(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newCache(t testing.TB, o Options) *Cache {
	t.Helper()
	if o.Store == nil {
		o.Store = newStore(t, store.Options{})
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustOpen(t testing.TB, c *Cache, s Spec) *File {
	t.Helper()
	if s.Key == "" {
		s.Key = testKey(1)
	}
	if s.Label == "" {
		s.Label = "test.img"
	}
	f, err := c.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// truth is pseudo-random content without long zeros.
func truth(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	r.Read(p)
	return p
}

// script is a Source over memory that keeps a record and does what it is told.
type script struct {
	data []byte
	// before is called for each Fetch, outside any lock; an error fails it.
	before func(ctx context.Context, off, n int64, u source.Urgency) error
	// body may replace the stream of one Fetch.
	body func(off, n int64, r io.Reader) io.Reader

	mu      sync.Mutex
	fetches []Extent
	fetched map[int64]int // by 4 KiB page: how often
}

func (s *script) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	s.mu.Lock()
	s.fetches = append(s.fetches, Extent{off, n})
	if s.fetched == nil {
		s.fetched = map[int64]int{}
	}
	for p := off / 4096; n > 0 && p <= (off+n-1)/4096; p++ {
		s.fetched[p]++
	}
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(ctx, off, n, u); err != nil {
			return nil, err
		}
	}
	end := int64(len(s.data))
	if n >= 0 {
		end = min(off+n, end)
	}
	var r io.Reader = bytes.NewReader(s.data[min(off, end):end])
	if s.body != nil {
		r = s.body(off, n, r)
	}
	return io.NopCloser(r), nil
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fetches)
}

// most returns how often the page fetched most often was.
func (s *script) most() (m int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.fetched {
		m = max(m, n)
	}
	return m
}

func newStoreAt(t testing.TB, dir string) *store.Store {
	return newStore(t, store.Options{Dir: dir})
}
