package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/store/storetest"
	"vmcastfs/xvm/sums"
)

func allSums(data []byte) (sums []sums.Sum) {
	for _, a := range []string{"md5", "sha1", "sha256", "sha512"} {
		sums = append(sums, sumOf(a, data))
		half := sumOf(a, data[:len(data)/2])
		half.Prefix = int64(len(data) / 2)
		sums = append(sums, half)
	}
	return sums
}

// TestComplete: all forms of sums, restart without a second hash or fetch.
func TestComplete(t *testing.T) {
	data := truth(3<<20 + 999)
	dir := t.TempDir()
	src := &script{data: data}
	spec := Spec{Size: int64(len(data)), Source: src, Sums: allSums(data)}
	s := newStore(t, store.Options{Dir: dir})
	c := newCache(t, Options{Store: s})
	f := mustOpen(t, c, spec)
	if _, ok := f.PassthroughFile(); ok {
		t.Error("passthrough of nothing")
	}
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Fatal(err, f.State())
	}
	if st := f.Status(); st.State != "verified" || len(st.Sums) != 8 || st.Percent != 100 || st.Checked != spec.Size {
		t.Errorf("status %+v", st)
	}
	if src.most() != 1 {
		t.Errorf("fetched %d times", src.most())
	}
	raw, ok := f.PassthroughFile()
	if !ok {
		t.Fatal("no passthrough")
	}
	if p, err := io.ReadAll(io.NewSectionReader(raw, 0, 1<<40)); err != nil || !bytes.Equal(p, data) {
		t.Error("passthrough differs", err)
	}
	c.Close()
	s.Close()

	before := src.count()
	f = mustOpen(t, newCache(t, Options{Store: newStoreAt(t, dir)}), spec)
	if f.State() != store.Verified || !f.e.standing.whole.Load() {
		t.Error("not verified after a restart")
	}
	if err := f.Complete(ctx); err != nil || f.e.standing.checked != 0 {
		t.Error("hashed again after a restart", err)
	}
	if src.count() != before {
		t.Error("fetched after a restart")
	}
}

// TestUnverified: nothing to check against is said so.
func TestUnverified(t *testing.T) {
	data := truth(100 << 10)
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: &script{data: data}})
	if err := f.Complete(ctx); err != nil || f.State() != store.Unverified {
		t.Error(err, f.State())
	}
	if _, ok := f.PassthroughFile(); ok {
		t.Error("passthrough of an unverified file")
	}
}

// TestS13Corrupt: the last byte is wrong; lazy readers lose the file then, and
// for ever; the blocks are gone.
func TestS13Corrupt(t *testing.T) {
	data := truth(1<<20 + 1)
	bad := bytes.Clone(data)
	bad[len(bad)-1] ^= 0x80
	for _, algo := range []string{"md5", "sha1", "sha256", "sha512"} {
		t.Run(algo, func(t *testing.T) {
			dir := t.TempDir()
			src := &script{data: bad}
			spec := Spec{Size: int64(len(data)), Source: src, Sums: []sums.Sum{sumOf("sha256", bad), sumOf(algo, data)}}
			s := newStore(t, store.Options{Dir: dir})
			c := newCache(t, Options{Store: s, Memory: 1 << 20})
			f := mustOpen(t, c, spec)
			p := make([]byte, 4096)
			if _, err := f.ReadAt(ctx, p, 0); err != nil {
				t.Fatal("lazy read:", err)
			}
			var corrupt *CorruptError
			if err := f.Complete(ctx); !errors.As(err, &corrupt) || !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			for range 2 {
				if n, err := f.ReadAt(ctx, p, 0); n != 0 || !errors.Is(err, ErrCorrupt) {
					t.Error("read of a corrupt file:", n, err)
				}
				if f.State() != store.Corrupt || f.Status().Note == "" {
					t.Errorf("%+v", f.Status())
				}
				if blocks, _ := f.e.sf.Present(); blocks != 0 {
					t.Errorf("%d blocks are still there", blocks)
				}
				c.Close()
				s.Close()
				s = newStoreAt(t, dir)
				c = newCache(t, Options{Store: s})
				f = mustOpen(t, c, spec)
			}
		})
	}
}

// TestStrict: no byte before the whole matched; none at all if it does not.
func TestStrict(t *testing.T) {
	data := truth(2 << 20)
	bad := bytes.Clone(data)
	bad[len(bad)-1] ^= 1
	for _, good := range []bool{true, false} {
		src := &script{data: data}
		if !good {
			src.data = bad
		}
		c := newCache(t, Options{})
		f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src, Policy: Strict, Sums: []sums.Sum{sumOf("sha1", data)}})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				p := make([]byte, 4096)
				n, err := f.ReadAt(ctx, p, int64(i)*100_000)
				if good && (err != nil || !bytes.Equal(p, data[i*100_000:i*100_000+4096])) {
					t.Error(err)
				}
				if !good && (n != 0 || !errors.Is(err, ErrCorrupt)) {
					t.Error("a corrupt file gave", n, err)
				}
			})
		}
		wg.Wait()
		if src.most() != 1 {
			t.Errorf("fetched %d times", src.most())
		}
	}
}

// TestStrictRefetch: a block lost after the check is not served before the
// whole has been checked again.
func TestStrictRefetch(t *testing.T) {
	data := truth(1 << 20)
	src := &script{data: bytes.Clone(data)}
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src, Policy: Strict, Sums: []sums.Sum{sumOf("sha1", data)}})
	if _, err := f.ReadAt(ctx, make([]byte, 1), 0); err != nil {
		t.Fatal(err)
	}
	storetest.Lose(t, c.shared.opts.Store, f.e.key, 3)
	src.data[3<<16] ^= 1
	if n, err := f.ReadAt(ctx, make([]byte, 1), 3<<16); n != 0 || !errors.Is(err, ErrCorrupt) {
		t.Error(n, err)
	}
}

// TestLazyRefetch: after a block of a file with a verdict was fetched again, the
// whole is checked anew, at once.
func TestLazyRefetch(t *testing.T) {
	data := truth(1 << 20)
	src := &script{data: data}
	c := newCache(t, Options{})
	for i, sums := range [][]sums.Sum{{sumOf("sha1", data)}, nil} {
		f := mustOpen(t, c, Spec{Key: testKey(i + 1), Size: int64(len(data)), Source: src, Sums: sums})
		if err := f.Complete(ctx); err != nil {
			t.Fatal(err)
		}
		state := f.State()
		storetest.Lose(t, c.shared.opts.Store, f.e.key, 3)
		if _, err := f.ReadAt(ctx, make([]byte, 1), 3<<16); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return f.State() == state })
	}
}

// TestL1Damage: a bit flipped on the local disk is found and fetched again.
func TestL1Damage(t *testing.T) {
	data := truth(1 << 20)
	dir := t.TempDir()
	src := &script{data: data}
	c := newCache(t, Options{Store: newStoreAt(t, dir)})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src, Sums: []sums.Sum{sumOf("sha1", data)}})
	if _, err := f.ReadAt(ctx, make([]byte, len(data)), 0); err != nil {
		t.Fatal(err)
	}
	flip(t, dir, 5<<16+9)
	flip(t, dir, 7<<16)
	// A reader finds the one, and the check of the whole the other.
	p := make([]byte, 64<<10)
	if _, err := f.ReadAt(ctx, p, 5<<16); err != nil || !bytes.Equal(p, data[5<<16:6<<16]) {
		t.Error("damaged block:", err)
	}
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Error("completion over a damaged block:", err, f.State())
	}
	if src.fetched[5<<4] != 2 || src.fetched[7<<4] != 2 || src.fetched[6<<4] != 1 {
		t.Error("fetched", src.fetched[5<<4], src.fetched[6<<4], src.fetched[7<<4])
	}
}

// flip turns over a bit of the only data file below dir.
func flip(t *testing.T, dir string, off int64) {
	t.Helper()
	var name string
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if filepath.Ext(path) == ".data" {
			name = path
		}
		return err
	})
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	f.ReadAt(b[:], off)
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// TestCompleteCancel: the work ends when nobody wants it, and can begin anew.
func TestCompleteCancel(t *testing.T) {
	data := truth(1 << 20)
	src := &script{data: data, before: func(ctx context.Context, _, _ int64, _ source.Urgency) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	c := newCache(t, Options{Abandon: time.Millisecond})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src})
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if err := f.Complete(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	waitFor(t, func() bool {
		f.e.flights.mu.Lock()
		defer f.e.flights.mu.Unlock()
		return f.e.completion.pass == nil && len(f.e.flights.table) == 0
	})
}

// TestFull: a disk without room means uncached reads, and an honest completion.
func TestFull(t *testing.T) {
	data := truth(2 << 20)
	src := &script{data: data}
	c := newCache(t, Options{Store: newStore(t, store.Options{Limit: 64 << 10}), Memory: 1 << 20})
	f := mustOpen(t, c, Spec{Size: int64(len(data)), Source: src, Sums: []sums.Sum{sumOf("sha1", data)}})
	p := make([]byte, 100_000)
	for off := 0; off+len(p) < len(data); off += len(p) {
		if _, err := f.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+len(p)]) {
			t.Fatal(off, err)
		}
	}
	if c.Stats().Uncached == 0 {
		t.Error("nothing was refused")
	}
	var unkept *UnkeptError
	if err := f.Complete(ctx); !errors.Is(err, store.ErrFull) || !errors.As(err, &unkept) || unkept.State != store.Verified || f.State() != store.Partial {
		t.Error(err, f.State())
	}
}

// TestStrictFull: a file that is larger than the cache is read under Strict too,
// after one check of the whole; what is fetched again has to match that.
func TestStrictFull(t *testing.T) {
	const bs = 4096
	data := truth(1 << 20)
	clear(data[9*bs : 12*bs])
	table := sums.NewTable(int64(len(data)), bs)
	for off := 0; off < len(data); off += bs {
		table.Append(sha256.Sum256(data[off:off+bs]), sums.Zero(data[off:off+bs]))
	}
	for name, set := range map[string]func(*Spec){
		"learned": func(s *Spec) { s.Learned = func(*sums.Table) {} },
		"given":   func(s *Spec) { s.Blocks, s.Sums = TableSums(table), nil },
		"unknown": func(*Spec) {},
	} {
		t.Run(name, func(t *testing.T) {
			src := &script{data: data}
			c := newCache(t, Options{Store: newStore(t, store.Options{Limit: 64 << 10}), Region: bs, ReadAhead: bs})
			spec := Spec{
				Size: int64(len(data)), BlockSize: bs, Source: src, Policy: Strict, Sums: []sums.Sum{sumOf("sha1", data)},
				Data: []Extent{{0, 9 * bs}, {12 * bs, int64(len(data)) - 12*bs}},
			}
			set(&spec)
			f := mustOpen(t, c, spec)
			p := make([]byte, bs)
			_, err := f.ReadAt(ctx, p, 0)
			if name == "unknown" { // nothing can vouch for what does not stay
				if !errors.Is(err, store.ErrFull) {
					t.Error(err)
				}
				return
			}
			whole := src.count()
			for off := int64(0); off < int64(len(data)); off += bs {
				if _, err := f.ReadAt(ctx, p, off); err != nil || !bytes.Equal(p, data[off:off+bs]) {
					t.Fatal(off, err)
				}
			}
			if again := mustOpen(t, c, spec); again != nil {
				if _, err := again.ReadAt(ctx, p, 0); err != nil {
					t.Error(err)
				}
			}
			if n := src.count() - whole; n > len(data)/bs+1 {
				t.Errorf("%d fetches of %d blocks after the check of the whole, which took %d", n, len(data)/bs, whole)
			}
			if f.State() != store.Partial {
				t.Error(f.State())
			}
			src.data = bytes.Clone(data)
			for i := range src.data {
				src.data[i] ^= 1
			}
			wrong := 0
			for off := int64(0); off < int64(len(data)); off += bs {
				var bad *BlockError
				if _, err := f.ReadAt(ctx, p, off); errors.As(err, &bad) {
					wrong++
				} else if err != nil || !bytes.Equal(p, data[off:off+bs]) {
					t.Fatal(off, err)
				}
			}
			if wrong < 200 {
				t.Errorf("%d of 256 blocks were found wrong", wrong)
			}
		})
	}
}

// TestTwoProcesses: two caches over one directory fetch each block once.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	data := truth(4 << 20)
	src := &script{data: data}
	var wg sync.WaitGroup
	for range 2 {
		s := newStore(t, store.Options{Dir: dir, SyncEvery: 5 * time.Millisecond})
		f := mustOpen(t, newCache(t, Options{Store: s, patience: time.Hour}), Spec{Size: int64(len(data)), Source: src})
		wg.Go(func() {
			p := make([]byte, 64<<10)
			for off := 0; off < len(data); off += len(p) {
				if _, err := f.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+len(p)]) {
					t.Error(off, err)
				}
			}
		})
	}
	wg.Wait()
	if src.most() != 1 {
		t.Errorf("a page was fetched %d times", src.most())
	}
}
