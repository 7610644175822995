package seekable

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// walled is a source that gives nothing beyond a place while the wall is up.
type walled struct {
	memory
	place int64
	up    atomic.Pointer[chan struct{}] // closed when the wall falls; nil: there is none
	meets chan struct{}                 // gets something when a read meets the wall
}

func (s *walled) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if up := s.up.Load(); up != nil && off+int64(len(p)) > s.place {
		select {
		case s.meets <- struct{}{}:
		default:
		}
		select {
		case <-*up:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return s.memory.ReadAt(ctx, p, off)
}

// TestStalledDecoderYields: a file whose server is dead keeps no memory from one whose server answers, and goes on
// by itself once its own does.
func TestStalledDecoderYields(t *testing.T) {
	plain := disk(3<<20, 3)
	for _, tc := range []struct {
		format  Format
		memory  int64
		program []string
	}{
		{Gzip, decoderBase, []string{"gzip", "-1"}},
		{Bzip2, decoderBase + decoderBzip2, []string{"bzip2", "-1"}},
		{XZ, decoderBase + 1<<20, []string{"xz", "-T1", "--lzma2=preset=0,dict=1MiB"}},
		{Zstd, decoderBase + 1<<20, []string{"zstd", "-q", "-1", "--zstd=wlog=20"}},
	} {
		t.Run(string(tc.format), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(background, time.Minute)
			defer cancel()
			data := command(t, plain, tc.program...)
			b := NewBudget(tc.memory)
			b.patience = 20 * time.Millisecond

			src := &walled{memory: data, place: int64(len(data)) * 3 / 4, meets: make(chan struct{}, 1)}
			dead, err := Open(tc.format, src, int64(len(data)), Options{Budget: b})
			if err != nil {
				t.Fatal(err)
			}
			defer dead.Close()
			s, err := dead.Stream(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			falls := make(chan struct{})
			src.up.Store(&falls)
			got := make(chan error)
			go func() {
				p, err := io.ReadAll(s)
				if err == nil && !bytes.Equal(p, plain) {
					err = fmt.Errorf("%d bytes of %d differ", len(p), len(plain))
				}
				got <- err
			}()
			<-src.meets

			for range 2 { // the second finds it waiting without memory
				alive := newReader(t, tc.format, data, Options{Budget: b})
				other, err := alive.Stream(ctx, 0)
				if err != nil {
					t.Fatal(err)
				}
				if p, err := io.ReadAll(other); err != nil || !bytes.Equal(p, plain) {
					t.Fatalf("beside a dead server: %d bytes, %v", len(p), err)
				}
				other.Close()
				alive.Close()
			}
			select {
			case err := <-got:
				t.Fatal("the wall is up, and yet:", err)
			default:
			}
			close(falls)
			if err := <-got; err != nil {
				t.Error("when its server is back:", err)
			}
		})
	}
}
