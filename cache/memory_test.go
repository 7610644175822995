package cache

import (
	"bytes"
	"io"
	"sync"
	"testing"
)

// TestRest: the memory tier is emptied when it was not used for a whole turn, only
// once, and readers beside that get their bytes.
func TestRest(t *testing.T) {
	f := localFile(t, 8<<20, 1<<20)
	mem := f.e.s.mem
	want := make([]byte, 1<<20)
	if _, err := f.ReadAt(ctx, want, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	read := func(off int64) {
		p := make([]byte, 4096)
		if _, err := f.ReadAt(ctx, p, off); err != nil || !bytes.Equal(p, want[off:][:len(p)]) {
			t.Error(off, err)
		}
	}
	memory := func() (hit bool) {
		before := f.e.s.count.memoryHits.Load()
		read(4096)
		return f.e.s.count.memoryHits.Load() > before
	}
	read(4096)
	mem.wait()
	if !memory() {
		t.Fatal("a block that was read in part is not in memory")
	}
	if mem.rest() || !memory() {
		t.Error("what was just used is forgotten")
	}
	if mem.rest() || !mem.rest() {
		t.Error("what was not used is kept")
	}
	if mem.rest() {
		t.Error("forgotten twice")
	}
	if memory() {
		t.Error("the tier is not empty")
	}
	var wg sync.WaitGroup
	for g := range int64(4) {
		wg.Go(func() {
			for i := range int64(2000) {
				read((i*7 + g) % 256 * 4096)
			}
		})
	}
	for range 200 {
		mem.rest()
	}
	wg.Wait()
}

// TestYield: the memory tier gets smaller where much lives beside it, and has its room
// back where that is over.
func TestYield(t *testing.T) {
	const limit, each = 1 << 20, 64 << 10
	mem, err := newMemory(limit)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.close()
	var pools buffers
	n := int64(0)
	fill := func() (used int64) {
		for range 64 {
			b := pools.get(each)
			b.publish(blockKey(1, n), 1)
			mem.put(b)
			b.release()
			mem.wait()
			n++
		}
		return mem.cache.MaxCost() - mem.cache.RemainingCost()
	}
	if used := fill(); used <= limit/2 {
		t.Fatalf("the tier holds %d bytes", used)
	}
	for _, c := range []struct{ live, want int64 }{{3 * limit, limit}, {100 * limit, limit / 8}, {0, limit}} {
		mem.yield(c.live, 2*limit)
		if used := fill(); mem.cache.MaxCost() != c.want || used > c.want {
			t.Errorf("%d bytes live: the tier may hold %d and holds %d, want %d", c.live, mem.cache.MaxCost(), used, c.want)
		}
	}
	(*memory)(nil).yield(limit, 0)
}

// TestNumbers: the cache does not keep a number for each file that was ever opened, and no
// two files have the same one.
func TestNumbers(t *testing.T) {
	c := newCache(t, Options{Memory: 1 << 20})
	var files []*File
	numbers := make(map[uint32]bool)
	for i := range maxIDs + 20 {
		f, err := c.Open(Spec{Key: testKey(i), Size: 1, Source: &script{data: truth(1)}})
		if err != nil {
			t.Fatal(err)
		}
		if id := f.e.local.id; id == 0 || numbers[id] {
			t.Fatalf("file %d has the number %d", i, id)
		}
		if numbers[f.e.local.id] = true; i < 10 {
			files = append(files, f)
		} else if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.ids) > maxIDs {
		t.Errorf("%d numbers are kept", len(c.ids))
	}
	for _, f := range files {
		if c.ids[f.e.key] != f.e.local.id {
			t.Error("the number of an open file is forgotten")
		}
	}
}
