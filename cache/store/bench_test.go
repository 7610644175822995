package store

import (
	"context"
	"testing"
	"time"
)

func BenchmarkReadBlock(b *testing.B) {
	const blockSize, blocks = 64 << 10, 512
	s := openStore(b, Options{Dir: b.TempDir()})
	f := openFile(b, s, "f", blocks*blockSize, blockSize)
	p := content(1, blockSize)
	for i := range int64(blocks) {
		if err := f.WriteBlock(i, p); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(blockSize)
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		if _, err := f.ReadBlock(i%blocks, p); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkWriteBlock(b *testing.B) {
	const blockSize, blocks = 64 << 10, 2048
	s := openStore(b, Options{Dir: b.TempDir(), Limit: 1 << 40})
	f := openFile(b, s, "f", blocks*blockSize, blockSize)
	p := content(1, blockSize)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		if i == blocks { // the same file again, rather than all of the disk
			b.StopTimer()
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			if err := s.Remove(f.key); err != nil {
				b.Fatal(err)
			}
			f = openFile(b, s, "f", blocks*blockSize, blockSize)
			i = 0
			b.StartTimer()
		}
		if err := f.WriteBlock(i, p); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkHasMissing(b *testing.B) {
	s := openStore(b, Options{Dir: b.TempDir()})
	f := openFile(b, s, "f", 1<<30, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		if f.Has(7) {
			b.Fatal("present")
		}
	}
}

func TestReadBlockDoesNotAllocate(t *testing.T) {
	s := openStore(t, Options{Dir: t.TempDir(), Limit: 1 << 30})
	f := openFile(t, s, "f", 1<<20, 64<<10)
	write(t, f, 3)
	p := make([]byte, 64<<10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.ReadBlock(3, p); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Reads of present blocks, and misses, do not wait for anyone's IO: here for a flush that cannot get on.
func TestReadWaitsForNoWrite(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), SyncEvery: time.Hour})
	f := openFile(t, s, "f", 8*bs, bs)
	write(t, f, 0)
	f.j.mu.Lock() // as held over journal IO
	f.s.quota.mu.Lock()
	defer f.s.quota.mu.Unlock()
	defer f.j.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wantBlock(t, f, 0)
		wantAbsent(t, f, 1)
		write(t, f, 2)
		wantBlock(t, f, 2)
		f.Present()
		f.State()
		f.NextMissing(0)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("a read waited")
	}
}
