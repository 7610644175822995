package cache

import (
	"bytes"
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
)

func always() bool { return true }

// rackSource notes the ranges that a mirror would be asked for, and those for the origin.
type rackSource struct {
	data  []byte
	wrong func(off int64) bool // a byte of what the mirror gives; nil: none

	mu                     sync.Mutex
	shared                 map[Extent]int
	direct                 map[Extent]int
	accused, lied, cleared atomic.Int32
}

func (r *rackSource) Name() string { return "rack" }

func (r *rackSource) Accuse() func(bool) {
	r.accused.Add(1)
	return func(lied bool) {
		if lied {
			r.lied.Add(1)
		} else {
			r.cleared.Add(1)
		}
	}
}

func (r *rackSource) Fetch(ctx context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shared == nil {
		r.shared, r.direct = map[Extent]int{}, map[Extent]int{}
	}
	p := bytes.Clone(r.data[off : off+n])
	if trial := source.TrialOf(ctx); trial != nil {
		r.shared[Extent{off, n}]++
		trial.From(r)
		for i := range p {
			if r.wrong != nil && r.wrong(off+int64(i)) {
				p[i] ^= 1
			}
		}
	} else {
		r.direct[Extent{off, n}]++
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

// ranges are those that a mirror was asked for.
func (r *rackSource) ranges() map[Extent]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.shared)
}

// Hosts that have other blocks already, and read in another order, ask for the same ranges, each
// once.
func TestGrid(t *testing.T) {
	const bs = 64 << 10
	data := truth(8<<20 + 100_000)
	sums := sumsOf(data, bs)
	for b := int64(40); b < 47; b++ { // one piece of zeros but for its end, two that are whole
		sums.zero[b] = true
		clear(data[b*bs : (b+1)*bs])
	}
	ranges := map[Extent]bool{}
	for host := range uint64(4) {
		r := &rackSource{data: data}
		var mirrored atomic.Bool
		f := mustOpen(t, newCache(t, Options{}), Spec{Size: int64(len(data)), BlockSize: bs, Blocks: sums, Source: r, Shared: mirrored.Load})
		order := rand.New(rand.NewPCG(host, 1))
		read := func(off int64) {
			p := make([]byte, min(100_000, int64(len(data))-off))
			if _, err := f.ReadAt(Narrowly(ctx), p, off); err != nil || !bytes.Equal(p, data[off:off+int64(len(p))]) {
				t.Fatalf("host %d at %d: %v", host, off, err)
			}
		}
		for range 10 {
			read(order.Int64N(int64(len(data))))
		}
		if len(r.shared) > 0 {
			t.Fatal("a mirror that is not there is asked")
		}
		mirrored.Store(true)
		r.direct = map[Extent]int{}
		for i := range order.Perm(len(data) / 50_000) {
			read(int64(i) * 50_000)
		}
		if len(r.direct) > 0 || len(r.shared) == 0 {
			t.Errorf("host %d asked the origin for %v", host, r.direct)
		}
		for e, n := range r.shared {
			ranges[e] = true
			if n > 1 {
				t.Errorf("host %d asked for %v %d times", host, e, n)
			}
		}
	}
	bytes := int64(0)
	for e := range ranges {
		bytes += e.Len
		if e.Off%(256<<10) != 0 && e.Off != 47*bs {
			t.Errorf("%v is not on the grid", e)
		}
	}
	if want := int64(len(data) - 7*bs); bytes != want {
		t.Errorf("all hosts together asked for %d bytes, expected %d", bytes, want)
	}
}

// Hosts that have a profile cut the file alike, whatever they do with it: one follows it, one
// fetches it before anyone reads, one does neither. None asks for a block in two ranges.
func TestGridOfProfile(t *testing.T) {
	const bs, blocks = 64 << 10, 256
	data := truth(blocks * bs)
	ranges := map[Extent]bool{}
	profile := []Extent{{3 * bs, 2 * bs}, {100 * bs, 20 * bs}, {7 * bs, 1}, {5 * bs, 1}, {200 * bs, 5 * bs}, {8 * bs, 3 * bs}}
	listed := map[int64]bool{}
	for _, e := range profile {
		for b := e.Off / bs; b*bs < e.Off+e.Len; b++ {
			listed[b] = true
		}
	}
	for host := range uint64(6) {
		r := &rackSource{data: data}
		f := mustOpen(t, newCache(t, Options{}), Spec{Size: int64(len(data)), BlockSize: bs, Blocks: sumsOf(data, bs), Source: r, Shared: always, Expected: profile})
		switch host % 3 {
		case 0:
			f.Follow(profile)
			testkit.Eventually(t, "the profile is here", time.Minute, func() bool { return f.Status().CachedBytes == int64(len(listed))*bs })
			for e := range r.ranges() {
				for b := e.Off / bs; b*bs < e.Off+e.Len; b++ {
					if !listed[b] {
						t.Errorf("%v is fetched with the profile", e)
					}
				}
			}
		case 1:
			if _, err := f.Warm(ctx, profile, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		order := rand.New(rand.NewPCG(host, 1))
		for _, b := range order.Perm(blocks) {
			if order.IntN(2) == 0 {
				readAt(t, f, int64(b)*bs)
			}
		}
		for e := range r.ranges() {
			ranges[e] = true
		}
	}
	asked := map[int64]Extent{}
	for e := range ranges {
		for b := e.Off / bs; b*bs < e.Off+e.Len; b++ {
			if other, twice := asked[b]; twice {
				t.Errorf("block %d is in %v and in %v", b, other, e)
			}
			asked[b] = e
		}
	}
}

// A block that a mirror gave and that does not match comes from the origin; that tells who lied.
func TestMirrorLies(t *testing.T) {
	const bs = 64 << 10
	data := truth(64 * bs)
	for _, broken := range []bool{false, true} { // the sums are: the mirror is as good as the origin
		sums := sumsOf(data, bs)
		r := &rackSource{data: data, wrong: func(off int64) bool { return off%(10*bs) == 1234 }}
		if broken {
			r.wrong = nil
			sums.sums[20][0] ^= 1
		}
		f := mustOpen(t, newCache(t, Options{}), Spec{Size: int64(len(data)), BlockSize: bs, Blocks: sums, Source: r, Shared: always})
		for b := range int64(64) {
			p := make([]byte, bs)
			_, err := f.ReadAt(Narrowly(ctx), p, b*bs)
			if bad := broken && b == 20; bad != (err != nil) || !bad && !bytes.Equal(p, data[b*bs:(b+1)*bs]) {
				t.Errorf("block %d: %v", b, err)
			}
		}
		if broken {
			if n := r.cleared.Load(); r.lied.Load() != 0 || n == 0 || n != r.accused.Load() || r.direct[Extent{20 * bs, bs}] != 2*int(n) {
				t.Errorf("the mirror is blamed for sums that are wrong: %v", r.direct)
			}
			continue
		}
		for e, n := range r.direct {
			if e.Len != bs || e.Off%(10*bs) != 0 || n != 1 {
				t.Errorf("%v came from the origin", e)
			}
		}
		if r.lied.Load() != 7 || r.accused.Load() != 7 {
			t.Errorf("%d lies in %d accusations", r.lied.Load(), r.accused.Load())
		}
		if f.State() == store.Corrupt {
			t.Error("the file is corrupt")
		}
	}
}

// What no sum proves is not asked of a mirror.
func TestNoSums(t *testing.T) {
	data := truth(1 << 20)
	r := &rackSource{data: data}
	f := mustOpen(t, newCache(t, Options{}), Spec{Size: 1 << 20, Source: r, Shared: always})
	readAt(t, f, 500_000)
	if len(r.shared) > 0 {
		t.Errorf("a mirror is asked for %v", r.shared)
	}
}
