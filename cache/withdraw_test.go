package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// doubtful is a forward source whose place in the middle is false, until it has
// found that out behind block turns.
type doubtful struct {
	forwardScript
	at, turns int64
	err       error
	found     atomic.Bool
}

func (s *doubtful) Start(off int64) int64 {
	if s.found.Load() || off < s.at {
		return 0
	}
	return s.at
}

func (s *doubtful) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	body, err := s.forwardScript.Fetch(ctx, off, n, u)
	if err != nil || off < s.at || s.found.Load() {
		return body, err
	}
	return &doubtfulStream{body, s, off}, nil
}

type doubtfulStream struct {
	io.ReadCloser
	s   *doubtful
	off int64
}

func (r *doubtfulStream) Read(p []byte) (int, error) {
	if r.off >= r.s.turns {
		r.s.found.Store(true)
		return 0, fmt.Errorf("a test says so: %w", r.s.err)
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.s.turns-r.off)])
	for i := range p[:n] {
		p[i] ^= 1
	}
	r.off += int64(n)
	return n, err
}

// TestWithdraw: what a source gave that says of itself that it was wrong is not
// served any more, from the disk or from memory, and is asked for again if the
// source has mended itself. Blocks with sums of their own stay.
func TestWithdraw(t *testing.T) {
	const bs = 64 << 10 // the false place is farther off than a pass goes on
	for _, c := range []struct {
		name  string
		err   error
		sums  bool
		after error // of a read of what was wrong
	}{
		{"doubt", source.ErrDoubt, false, nil},
		{"corrupt", source.ErrCorrupt, false, ErrCorrupt},
		{"doubt with sums", source.ErrDoubt, true, nil},
		{"corrupt with sums", source.ErrCorrupt, true, nil},
		{"another error", errors.New("of the network"), false, nil},
	} {
		for _, size := range []int64{64 * bs, store.Unknown} {
			if c.sums && size < 0 {
				continue // sums tell the size
			}
			t.Run(fmt.Sprint(c.name, " ", size), func(t *testing.T) {
				data := truth(64 * bs)
				src := &doubtful{forwardScript: forwardScript{script: script{data: data}}, at: 32 * bs, turns: 40 * bs, err: c.err}
				var told []store.FileState
				spec := Spec{Size: size, BlockSize: bs, Source: src, Changed: func(s store.FileState) { told = append(told, s) }}
				if c.sums {
					table := sums.NewTable(int64(len(data)), bs)
					for b := 0; b < len(data); b += bs {
						table.Append(sha256.Sum256(data[b:b+bs]), false)
					}
					spec.Blocks = TableSums(table)
				}
				cache := newCache(t, Options{Memory: 8 << 20, Region: bs, ReadAhead: bs})
				f := mustOpen(t, cache, spec)
				p := make([]byte, 100)
				if _, err := f.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p, data[:100]) {
					t.Fatal(err)
				}
				wrong := func() bool {
					_, err := f.ReadAt(ctx, p, 33*bs)
					if c.after != nil && errors.Is(err, c.after) {
						return false
					}
					if err != nil {
						var block *BlockError
						return !errors.As(err, &block)
					}
					return !bytes.Equal(p, data[33*bs:33*bs+100])
				}
				if !wrong() && !c.sums {
					t.Fatal("the false place gave the right bytes: the test tests nothing")
				}
				_, err := f.ReadAt(ctx, p, 41*bs)
				switch {
				case errors.Is(c.err, source.ErrDoubt) && !c.sums:
					if err != nil || !bytes.Equal(p, data[41*bs:41*bs+100]) {
						t.Errorf("it was not asked again: %v", err)
					}
				case err == nil:
					t.Error("no error")
				}
				keeps := c.err != source.ErrCorrupt && c.err != source.ErrDoubt
				if wrong() != keeps {
					t.Errorf("wrong bytes are served: %v, want %v", !keeps, keeps)
				}
				if (len(told) > 0) != (!keeps && !c.sums) {
					t.Errorf("told %v", told)
				}
			})
		}
	}
}
