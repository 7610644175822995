package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// readAll reads the blocks in the given order, and returns how many it got and the first error.
func readAll(f *File, want []byte, bs int, order []int) (got int, err error) {
	p := make([]byte, bs)
	for _, b := range order {
		n, err := f.ReadAt(ctx, p, int64(b*bs))
		if err != nil && err != io.EOF {
			return got, err
		}
		if !bytes.Equal(p[:n], want[b*bs:min(len(want), (b+1)*bs)]) {
			return got, fmt.Errorf("block %d is not what the source has", b)
		}
		got++
	}
	return got, nil
}

// orders are ways to read n blocks.
func orders(n int) map[string][]int {
	up, down := make([]int, n), make([]int, n)
	for i := range n {
		up[i], down[n-1-i] = i, i
	}
	return map[string][]int{"up": up, "down": down, "random": rand.New(rand.NewPCG(1, 2)).Perm(n)}
}

// TestReadToTheEnd: nobody reads all of a corrupt file, whatever the order and
// whichever byte is wrong; and a file that is all here is verified, unasked.
func TestReadToTheEnd(t *testing.T) {
	const bs, n = 4096, 60
	good := truth(n*bs - 100)
	clear(good[7*bs : 9*bs])
	for name, order := range orders(n) {
		for _, wrong := range []int{-1, 0, 30*bs + 5, len(good) - 1} {
			for _, kind := range []string{"ranges", "forward", "unknown size", "complete", "judge"} {
				t.Run(fmt.Sprint(name, " ", wrong, " ", kind), func(t *testing.T) {
					data := bytes.Clone(good)
					if wrong >= 0 {
						data[wrong] ^= 1
					}
					spec := Spec{
						Size: int64(len(data)), BlockSize: bs, Source: &script{data: data}, Sums: []sums.Sum{sumOf("sha256", good)},
						Data: []Extent{{0, 7 * bs}, {9 * bs, n * bs}},
					}
					switch kind {
					case "forward":
						spec.Source = &forwardScript{script: script{data: data}, points: 8 * bs}
					case "unknown size":
						spec.Source, spec.Size, spec.Data = &forwardScript{script: script{data: data}}, store.Unknown, nil
					case "complete":
						spec.Complete = true
					case "judge":
						spec.Judge = func(_ context.Context, matched []bool) (store.FileState, string) {
							if matched[0] {
								return store.Verified, "judged"
							}
							return store.Corrupt, "judged"
						}
					}
					f := mustOpen(t, newCache(t, Options{Region: 2 * bs}), spec)
					if kind == "unknown size" {
						if _, err := f.WaitSize(ctx); err != nil && !errors.Is(err, ErrCorrupt) {
							t.Fatal(err)
						}
					}
					got, err := readAll(f, data, bs, order)
					if wrong >= 0 {
						if !errors.Is(err, ErrCorrupt) || f.State() != store.Corrupt {
							t.Errorf("%d of %d blocks were read, then: %v; the file is %v", got, n, err, f.State())
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					waitFor(t, func() bool { return f.State() == store.Verified })
				})
			}
		}
	}
}

// TestReadToTheEndLater: what an earlier process left unchecked is not read to
// its end either, nor what two processes have fetched between them.
func TestReadToTheEndLater(t *testing.T) {
	const bs, n = 4096, 40
	good := truth(n * bs)
	data := bytes.Clone(good)
	data[11*bs] ^= 1
	for name, order := range orders(n) {
		t.Run("restart "+name, func(t *testing.T) {
			dir := t.TempDir()
			spec := Spec{Size: n * bs, BlockSize: bs, Source: &script{data: data}}
			s := newStore(t, store.Options{Dir: dir})
			c := newCache(t, Options{Store: s})
			f := mustOpen(t, c, spec) // it does not know the sum
			if got, err := readAll(f, data, bs, order[1:]); got != n-1 || err != nil {
				t.Fatal(got, err)
			}
			if _, err := f.ReadAt(ctx, make([]byte, 1), int64(order[0]*bs)); err != nil {
				t.Fatal(err)
			}
			c.Close()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			partial(t, dir, spec)
			spec.Sums = []sums.Sum{sumOf("sha1", good)}
			f = mustOpen(t, newCache(t, Options{Store: newStoreAt(t, dir)}), spec)
			if got, err := readAll(f, data, bs, order); !errors.Is(err, ErrCorrupt) {
				t.Error(got, err)
			}
		})
		t.Run("two processes "+name, func(t *testing.T) {
			dir := t.TempDir()
			spec := Spec{Size: n * bs, BlockSize: bs, Source: &script{data: data}, Sums: []sums.Sum{sumOf("sha1", good)}}
			var files [2]*File
			for i := range files {
				s := newStore(t, store.Options{Dir: dir, SyncEvery: time.Millisecond})
				files[i] = mustOpen(t, newCache(t, Options{Store: s, Region: bs, ReadAhead: bs}), spec)
			}
			for i, f := range files {
				if got, err := readAll(f, data, bs, order[i*n/2:(i+1)*n/2]); err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatal(got, err)
				}
			}
			for i, f := range files {
				if got, err := readAll(f, data, bs, order); !errors.Is(err, ErrCorrupt) {
					t.Errorf("process %d read %d of %d blocks: %v", i, got, n, err)
				}
			}
		})
	}
}

// partial makes a file that is all here one that was never checked.
func partial(t *testing.T, dir string, spec Spec) {
	t.Helper()
	s := newStore(t, store.Options{Dir: dir})
	defer s.Close()
	f, err := s.File(testKey(1), spec.Size, spec.BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.SetState(store.Partial, ""); err != nil {
		t.Fatal(err)
	}
}

// TestAllHereIsChecked: a file whose blocks have sums is verified as soon as the
// last of them is here, zeros or not, or at the latest when it is closed.
func TestAllHereIsChecked(t *testing.T) {
	const bs, n = 4096, 50
	data := truth(n * bs)
	clear(data[20*bs:])
	for _, zeros := range []bool{true, false} {
		for _, closes := range []bool{true, false} {
			sums := sumsOf(data, bs)
			if zeros {
				for b := int64(20); b < n; b++ {
					sums.zero[b] = true
				}
			}
			dir := t.TempDir()
			s := newStore(t, store.Options{Dir: dir})
			spec := Spec{Size: n * bs, BlockSize: bs, Source: &script{data: data}, Blocks: sums}
			f := mustOpen(t, newCache(t, Options{Store: s}), spec)
			if got, err := readAll(f, data, bs, orders(n)["random"]); err != nil {
				t.Fatal(got, err)
			}
			if !closes {
				waitFor(t, func() bool { return f.State() == store.Verified })
				continue
			}
			f.Close()
			if st, err := s.Stat(testKey(1)); err != nil || st.State != store.Verified {
				t.Errorf("after the last close it is %v, %v", st.State, err)
			}
		}
	}
}

// TestHashedAsItComes: the check keeps pace with a sequential reader, so that
// its last block costs it nothing.
func TestHashedAsItComes(t *testing.T) {
	const bs, n = 4096, 100
	data := truth(n * bs)
	f := mustOpen(t, newCache(t, Options{Region: bs, ReadAhead: bs}), Spec{
		Size: n * bs, BlockSize: bs, Source: &script{data: data}, Sums: []sums.Sum{sumOf("sha256", data)},
	})
	if _, err := readAll(f, data, bs, orders(n)["up"][:n/2]); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return f.Status().Checked >= n/2*bs })
}
