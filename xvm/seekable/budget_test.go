package seekable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// windowedRest is what follows the window, more than decoders are ahead of who reads.
const windowedRest = 2 << 20

// windowed are files of zeros whose decoders take a window of so many MiB, all of which is used.
func windowed(t *testing.T, mib int) map[Format][]byte {
	plain := make([]byte, mib<<20+windowedRest)
	return map[Format][]byte{
		XZ:   command(t, plain, "xz", "-T1", fmt.Sprintf("--lzma2=preset=0,dict=%dMiB", mib)),
		Zstd: command(t, plain, "zstd", "-q", "--ultra", fmt.Sprintf("--zstd=wlog=%d", map[int]int{1: 20, 4: 22, 8: 23, 16: 24}[mib])),
	}
}

// TestC1Budget opens many files with large windows at once: never do more decode than there is memory for, and all of
// them come to their end.
func TestC1Budget(t *testing.T) {
	const mib, files = 8, 12
	data := windowed(t, mib)
	run := func(b *Budget) (most int32, heap uint64) {
		var readers sync.WaitGroup
		var open, peak atomic.Int32
		var all sync.WaitGroup // for a run without a Budget: everybody is at the same place
		all.Add(files)
		var look sync.Mutex
		for i := range files {
			r := newReader(t, []Format{XZ, Zstd}[i%2], data[[]Format{XZ, Zstd}[i%2]], Options{Budget: b})
			readers.Go(func() {
				s, err := r.Stream(background, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := io.CopyN(io.Discard, s, mib<<20); err != nil {
					t.Errorf("%v after %d bytes", err, n)
				}
				n := open.Add(1)
				if all.Done(); b == nil {
					all.Wait()
				}
				look.Lock()
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				heap = max(heap, m.HeapAlloc)
				peak.Store(max(peak.Load(), n))
				look.Unlock()
				open.Add(-1)
				if n, err := io.Copy(io.Discard, s); n != windowedRest || err != nil {
					t.Errorf("%v, %d more bytes", err, n)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		return peak.Load(), heap
	}
	const budget = 3 * (mib<<20 + decoderBase)
	most, with := run(NewBudget(budget))
	if most > 3 || with > 2*budget+files<<20 { // what the garbage collector has not got to yet is in it
		t.Errorf("%d decoders, %d MiB of heap with a budget of %d MiB", most, with>>20, budget>>20)
	}
	_, without := run(nil)
	if without < files*mib<<20 {
		t.Errorf("without a budget the heap has only %d MiB: this proves nothing", without>>20)
	}
	t.Logf("%d files: %d at once in %d MiB, else %d MiB", files, most, with>>20, without>>20)
}

// TestBudgetGrowingWindows: decoders that need more from frame to frame do not wait for each other.
func TestBudgetGrowingWindows(t *testing.T) {
	t.Parallel()
	sizes := []int{1, 4, 8}
	data := map[Format][]byte{}
	var plain int64
	for _, mib := range sizes {
		for f, b := range windowed(t, mib) {
			data[f] = append(data[f], b...)
		}
		plain += int64(mib)<<20 + windowedRest
	}
	b := NewBudget(10 << 20) // one of the largest, or two of the others
	var readers sync.WaitGroup
	for i := range 4 {
		f := []Format{XZ, Zstd}[i%2]
		r := newReader(t, f, data[f], Options{Budget: b})
		readers.Go(func() {
			s, err := r.Stream(background, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if n, err := io.Copy(io.Discard, s); n != plain || err != nil {
				t.Errorf("%s: %d bytes of %d, %v", f, n, plain, err)
			}
		})
	}
	readers.Wait()
}

// TestBudgetIdle: idle decoders make room, also those of formats without a window; who waits can give up.
func TestBudgetIdle(t *testing.T) {
	t.Parallel()
	plain := disk(2<<20, 1)
	b := NewBudget(decoderBase + decoderBzip2)
	var files []*Reader
	for _, f := range []struct {
		format  Format
		program []string
	}{{Bzip2, []string{"bzip2"}}, {Gzip, []string{"gzip", "-1"}}, {XZ, []string{"xz", "--lzma2=preset=0,dict=1MiB"}}} {
		files = append(files, newReader(t, f.format, command(t, plain, f.program...), Options{Budget: b, Idle: time.Hour}))
	}
	for range 3 {
		for _, r := range files {
			if got, err := readFrom(r, 1000, 5000); err != nil || !bytes.Equal(got, plain[1000:6000]) {
				t.Fatalf("%s: %v", r.codec.format, err)
			}
		}
	}

	// All of it is in use: the next waits, until its reader or its file is closed.
	s, err := files[0].Stream(background, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	waits, err := files[1].Stream(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()
	go func() {
		for !b.short() {
			runtime.Gosched()
		}
		cancel()
	}()
	if n, err := waits.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
	if err := files[1].Close(); err != nil {
		t.Error(err)
	}

	// More than there is at all.
	large := newReader(t, XZ, command(t, plain, "xz", "--lzma2=preset=0,dict=64MiB"), Options{Budget: NewBudget(16 << 20)})
	if _, err := readFrom(large, 0, -1); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}
