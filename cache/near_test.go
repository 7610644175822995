package cache

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/source"
)

// TestRegion: the region of an origin goes by its quickest answers of late.
func TestRegion(t *testing.T) {
	const ms = time.Millisecond
	times := func(n int, d time.Duration) []time.Duration { return slices.Repeat([]time.Duration{d}, n) }
	for _, tc := range []struct {
		name   string
		trips  []time.Duration
		most   int   // Options.Region
		region int64 // KiB
	}{
		{"unknown", nil, 512 << 10, 512},
		{"loopback", times(1, ms/3), 512 << 10, 128},
		{"a local network", times(8, ms*5/4), 512 << 10, 256},
		{"a fast city", times(8, 3*ms), 512 << 10, 512},
		{"far", times(8, 30*ms), 512 << 10, 512},
		{"dead slow", times(8, time.Hour), 512 << 10, 512},
		{"near, the host is busy", []time.Duration{9 * ms, ms / 2, 40 * ms, 7 * ms, ms / 3, 90 * ms, 5 * ms, 8 * ms}, 512 << 10, 128},
		{"far, something between has one answer", append(times(7, 30*ms), ms/3), 512 << 10, 512},
		{"near, then not", append(times(16, ms/3), times(14, 30*ms)...), 512 << 10, 128},
		{"near, then far", append(times(16, ms/3), times(15, 30*ms)...), 512 << 10, 512},
		{"far, then near", append(times(80, 30*ms), times(2, ms/3)...), 512 << 10, 128},
		{"and back", slices.Concat(times(16, 30*ms), times(16, ms/3), times(15, 30*ms)), 512 << 10, 512},
		{"misses stay alone", times(8, 30*ms), 1, 0},
		{"misses stay alone, near", times(8, ms/3), 1, 0},
		{"long ones, near", times(8, ms/3), 4 << 20, 128},
		{"long ones", times(8, 12*ms), 4 << 20, 2048},
	} {
		var o origin
		for _, d := range tc.trips {
			o.trips.add(d)
		}
		if got := o.reach(tc.most); got.region>>10 != tc.region || got.near != (tc.region == 128) {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}

// TestRegionOfMiss: a miss of an origin that comes near fetches less than before, and that of
// another origin as much as ever. What a mirror gives tells nothing of the origin.
func TestRegionOfMiss(t *testing.T) {
	st := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 20
		c := newCache(t, Options{Store: newStoreAt(t, st)})
		open := func(key int, origin string, src source.Source) *File {
			return mustOpen(t, c, Spec{Key: testKey(key), Size: size, Origin: origin, Source: src})
		}
		src, other := newLink(size, 30*time.Millisecond, 12_500_000), newLink(size, 30*time.Millisecond, 12_500_000)
		f, same, g := open(1, "one", src), open(2, "one", src), open(3, "two", other)
		place := int64(0)
		miss := func(f *File, src *link) int64 {
			t.Helper()
			before := src.bytes.Load()
			place += 1 << 20
			if _, err := f.ReadAt(ctx, make([]byte, 4096), place); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Second)
			return src.bytes.Load() - before
		}
		want := func(what string, got, want int64) {
			t.Helper()
			if got != want {
				t.Errorf("%s: a miss fetched %d bytes, not %d", what, got, want)
			}
		}
		for range 3 {
			want("far", miss(f, src), 512<<10)
		}
		src.rtt, src.rate = time.Millisecond/4, 250_000_000
		for range 2 {
			miss(f, src)
		}
		want("near", miss(f, src), 128<<10)
		place += 64 << 10
		want("near, within a region", miss(f, src), 64<<10)
		place -= 64 << 10
		want("near, another file", miss(same, src), 128<<10)
		want("another origin", miss(g, other), 512<<10)
		src.rtt = 30 * time.Millisecond
		for range 16 {
			miss(f, src)
		}
		want("far again", miss(f, src), 512<<10)
	})
}

// TestMirrorIsNotTheOrigin: what a mirror gives at once makes the origin no nearer.
func TestMirrorIsNotTheOrigin(t *testing.T) {
	const bs, size = DefaultBlockSize, 8 << 20
	data := truth(size)
	r := &rackSource{data: data}
	f := mustOpen(t, newCache(t, Options{}), Spec{Size: size, BlockSize: bs, Blocks: sumsOf(data, bs), Source: r, Shared: always})
	for off := int64(0); off < size; off += 1 << 20 {
		if _, err := f.ReadAt(ctx, make([]byte, bs), off); err != nil {
			t.Fatal(err)
		}
	}
	if region := f.e.flights.origin.reach(512 << 10).region; len(r.ranges()) == 0 || region != 512<<10 {
		t.Errorf("%d ranges of a mirror, a region of %d bytes", len(r.ranges()), region)
	}
}
