package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// mine panics at one offset, in one of its methods.
type mine struct {
	data  []byte
	at    int64
	where string
}

func (m *mine) Fetch(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	if n == store.Unknown {
		n = int64(len(m.data)) - off
	}
	if m.where == "fetch" && off <= m.at && m.at < off+min(n, 512<<10) {
		panic("boom")
	}
	return &mineBody{m, bytes.NewReader(m.data[off : off+n]), off, off + n}, nil
}

type mineBody struct {
	m        *mine
	r        *bytes.Reader
	off, end int64
}

func (b *mineBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.m.where == "read" && b.off <= b.m.at && b.m.at < b.off+int64(n) {
		panic("boom")
	}
	b.off += int64(n)
	return n, err
}

func (b *mineBody) Close() error {
	if b.m.where == "close" && b.off <= b.m.at && b.m.at < b.end {
		panic("boom")
	}
	return nil
}

type mineForward struct{ *mine }

func (m mineForward) Start(off int64) int64 {
	if m.where == "start" && off >= m.at {
		panic("boom")
	}
	return off
}

// TestPanicOfASource: who reads there gets an error, again and again; who reads
// elsewhere notices nothing; and the log has the stack once.
func TestPanicOfASource(t *testing.T) {
	data := truth(4 << 20)
	for _, where := range []string{"fetch", "read", "close", "start"} {
		for _, forward := range []bool{false, true} {
			var log syncBuffer
			m := &mine{data: data, at: 3 << 20, where: where}
			var src source.Source = m
			if forward {
				src = mineForward{m}
			}
			c := newCache(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
			p := make([]byte, 4096)
			for range 3 {
				_, err := f.ReadAt(ctx, p, 3<<20)
				if (where == "fetch" || where == "read") && !errors.Is(err, errPanic) {
					t.Errorf("%s, forward %v: %v", where, forward, err)
				}
				if _, err := f.ReadAt(ctx, p, 1<<20); err != nil || !bytes.Equal(p, data[1<<20:1<<20+4096]) {
					t.Errorf("%s, forward %v: its neighbour: %v", where, forward, err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if n := strings.Count(log.String(), "boom"); n > 1 {
				t.Errorf("%s, forward %v: logged %d times", where, forward, n)
			}
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}
