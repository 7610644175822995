package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"vmcastfs/cache/store"
	"vmcastfs/cache/store/storetest"
	"vmcastfs/xvm/sums"
)

// TestCopies: of a file that shares most blocks with another one of the store
// only the others are fetched, and what claims to be a copy is compared.
func TestCopies(t *testing.T) {
	const bs, n = 4096, 64
	old := truth(n * bs)
	next := bytes.Clone(old)
	for _, b := range []int{3, 17, 40} {
		next[b*bs+5] ^= 1
	}
	// The second file holds its blocks in another order.
	moved := append(bytes.Clone(next[bs:]), next[:bs]...)

	st := newStore(t, store.Options{})
	c := newCache(t, Options{Store: st})
	first := mustOpen(t, c, Spec{Size: int64(len(old)), BlockSize: bs, Blocks: sumsOf(old, bs), Source: &script{data: old}})
	if err := first.Complete(ctx); err != nil {
		t.Fatal(err)
	}
	from, err := st.File(testKey(1), int64(len(old)), bs)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	places := map[[32]byte]int64{}
	for b := range int64(n) {
		places[sha256.Sum256(old[b*bs:(b+1)*bs])] = b
	}
	liar := [32]byte{} // the sum of a block that is said to be where another is
	for sum := range places {
		liar = sum
	}
	places[liar] = (places[liar] + 1) % n
	lied := int64(-1)
	src := &script{data: moved}
	f := mustOpen(t, c, Spec{
		Key: testKey(2), Size: int64(len(moved)), BlockSize: bs, Blocks: sumsOf(moved, bs), Source: src,
		Copies: func(b int64, sum [32]byte) (*store.File, int64, bool) {
			at, ok := places[sum]
			if sum == liar {
				lied = b
			}
			return from, at, ok
		},
	})
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Fatal(err, f.State())
	}
	got := make([]byte, len(moved))
	if _, err := f.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, moved) {
		t.Fatal("wrong content", err)
	}
	want := int64(3)
	if lied >= 0 {
		want++
	}
	var fetched int64
	for _, e := range src.fetches {
		fetched += e.Len / bs
	}
	if fetched != want || c.Stats().CopiedBytes != (n-want)*bs {
		t.Errorf("%d blocks fetched, %d bytes copied; want %d fetched of %d", fetched, c.Stats().CopiedBytes, want, n)
	}
}

// TestLearned: once a file is verified, its block sums are known; with them it
// is verified again after blocks were lost, without reading the whole.
func TestLearned(t *testing.T) {
	const bs, n = 4096, 20
	data := truth(n*bs - 100)
	clear(data[4*bs : 6*bs])
	sum := sha256.Sum256(data)
	st := newStore(t, store.Options{})
	c := newCache(t, Options{Store: st})
	for _, forward := range []bool{false, true} {
		var table *sums.Table
		spec := Spec{
			Key: testKey(3), Size: int64(len(data)), BlockSize: bs, Source: &script{data: data},
			Sums:    []sums.Sum{{Algo: "sha256", Hex: hex.EncodeToString(sum[:])}},
			Learned: func(t *sums.Table) { table = t },
		}
		if forward {
			spec.Key, spec.Size, spec.Source = testKey(4), store.Unknown, &forwardScript{script: script{data: data}, points: bs}
		}
		f := mustOpen(t, c, spec)
		if err := f.Complete(ctx); err != nil {
			t.Fatal(err)
		}
		if table == nil {
			t.Fatal("no sums were learned")
		}
		// From then on they count, also for who has the file open already.
		storetest.Lose(t, st, spec.Key, 7)
		src := func(data []byte) {
			if forward {
				spec.Source.(*forwardScript).data = data
			} else {
				spec.Source.(*script).data = data
			}
		}
		changed := bytes.Clone(data)
		changed[7*bs] ^= 1
		block := make([]byte, bs)
		var wrongBlock *BlockError
		src(changed)
		if _, err := f.ReadAt(ctx, block, 7*bs); !errors.As(err, &wrongBlock) {
			t.Error("a wrong block after an eviction, with the file open:", err)
		}
		src(data)
		if _, err := f.ReadAt(ctx, block, 7*bs); err != nil || !bytes.Equal(block, data[7*bs:8*bs]) {
			t.Error("the right one:", err)
		}
		if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
			t.Error(err, f.State())
		}
		f.Close()
		back, err := sums.Decode(table.Encode())
		if err != nil || back.Size() != int64(len(data)) || back.BlockSize() != bs {
			t.Fatal("table is not what it was:", err)
		}
		for b := range int64(n) {
			block := data[b*bs : min(int64(len(data)), b*bs+bs)]
			got, zero, ok := back.Sum(b)
			if !ok || zero != (b == 4 || b == 5) || !zero && got != sha256.Sum256(block) {
				t.Errorf("block %d: %x, %v, %v", b, got, zero, ok)
			}
		}
		if _, _, ok := back.Sum(n); ok {
			t.Error("a sum beyond the end")
		}

		// A block is lost, and the source has another one in its place.
		storetest.Lose(t, st, spec.Key, 9)
		wrong := bytes.Clone(data)
		wrong[9*bs] ^= 1
		spec.Size, spec.Source, spec.Sums, spec.Blocks = int64(len(data)), &script{data: wrong}, nil, TableSums(back)
		f = mustOpen(t, c, spec)
		if f.State() != store.Partial {
			t.Error("a file that lost a block is", f.State())
		}
		p := make([]byte, bs)
		var bad *BlockError
		if _, err := f.ReadAt(ctx, p, 9*bs); !errors.As(err, &bad) {
			t.Error("a wrong block after an eviction:", err)
		}
		if _, err := f.ReadAt(ctx, p, 8*bs); err != nil {
			t.Error("its neighbour:", err)
		}
		f.Close()
		spec.Source = &script{data: data}
		f = mustOpen(t, c, spec)
		if _, err := f.ReadAt(ctx, p, 9*bs); err != nil || !bytes.Equal(p, data[9*bs:10*bs]) {
			t.Error("the right block:", err)
		}
		if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
			t.Error("all here again:", err, f.State())
		}
	}
	if n := c.shared.tables.Load(); n != 0 {
		t.Errorf("%d bytes of tables are left", n)
	}
}

// TestLearnedBound: when there is no room for sums a file does without.
func TestLearnedBound(t *testing.T) {
	c := newCache(t, Options{})
	c.shared.tables.Store(maxTables)
	data := truth(4096 * 10)
	sum := sha256.Sum256(data)
	f := mustOpen(t, c, Spec{
		Size: int64(len(data)), BlockSize: 4096, Source: &script{data: data},
		Sums:    []sums.Sum{{Algo: "sha256", Hex: hex.EncodeToString(sum[:])}},
		Learned: func(*sums.Table) { t.Error("learned beyond the limit") },
	})
	if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
		t.Error(err, f.State())
	}
	if n := c.shared.tables.Load(); n != maxTables {
		t.Errorf("%d bytes of tables", n)
	}
}

// TestWrongBlockAlone: completion goes past a block that does not match, and
// the file is partial, not corrupt.
func TestWrongBlockAlone(t *testing.T) {
	const bs, n = 4096, 300
	data := truth(n * bs)
	wrong := bytes.Clone(data)
	wrong[5*bs] ^= 1
	c := newCache(t, Options{})
	f := mustOpen(t, c, Spec{Size: n * bs, BlockSize: bs, Blocks: sumsOf(data, bs), Source: &script{data: wrong}})
	err := f.Complete(ctx)
	var bad *BlockError
	if !errors.As(err, &bad) || bad.Block != 5 {
		t.Fatal(err)
	}
	st := f.Status()
	if st.State != "partial" || st.LastError == "" || st.CachedBytes != (n-1)*bs {
		t.Errorf("%+v", st)
	}
}
