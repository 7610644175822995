package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// profileOf is n blocks, every second one, from block first on.
func profileOf(first, n int64) (p []Extent) {
	for i := range n {
		p = append(p, Extent{(first + 2*i) * DefaultBlockSize, 4096})
	}
	return p
}

func readAt(t *testing.T, f *File, off int64) time.Duration {
	t.Helper()
	begun := time.Now()
	if _, err := f.ReadAt(context.Background(), make([]byte, 4096), off); err != nil {
		t.Fatal(err)
	}
	return time.Since(begun)
}

func TestFollowStopsWhenReadersGoElsewhere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		src := newLink(1<<30, 30*time.Millisecond, 12_500_000)
		c := newCache(t, Options{Store: newStoreAt(t, dir), Region: 4096})
		f := mustOpen(t, c, Spec{Size: 1 << 30, Source: src})
		f.Follow(profileOf(0, 4000))
		time.Sleep(time.Minute)
		if n := src.asked.Load(); n != 0 {
			t.Fatalf("%d ranges before the first read", n)
		}
		readAt(t, f, 0) // and that is all that the profile is right in
		time.Sleep(time.Minute)
		ahead := src.bytes.Load()
		if most := int64(followFirst+followGrow+1) * DefaultBlockSize; ahead > most {
			t.Errorf("%d bytes fetched ahead after one read, more than %d", ahead, most)
		}
		for i := range int64(2 * followStrays) {
			readAt(t, f, (8200+50*i)*DefaultBlockSize)
		}
		if f.f.follow.Load() != nil {
			t.Error("the profile is still followed")
		}
		if extra := src.bytes.Load() - ahead - 2*followStrays*DefaultBlockSize; extra != 0 {
			t.Errorf("%d bytes fetched that no reader asked for", extra)
		}
	})
}

func TestFollowDoesNotDelayDemand(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const rtt, rate = 30 * time.Millisecond, 12_500_000
		c := newCache(t, Options{Store: newStoreAt(t, dir), Region: 4096})
		f := mustOpen(t, c, Spec{Size: 1 << 30, Source: newLink(1<<30, rtt, rate)})
		f.Follow(profileOf(0, 4000))
		for i := range int64(20) {
			readAt(t, f, 2*i*DefaultBlockSize)
			// A block of its own costs a round trip and its share of the wire
			// while the ranges that had begun before come to their end.
			inFlight := time.Duration(fetchSlots+1) * DefaultBlockSize * time.Second / rate
			if took := readAt(t, f, (8200+50*i)*DefaultBlockSize); took > rtt+inFlight {
				t.Errorf("read %d outside of the profile took %v", i, took)
			}
		}
	})
}

func TestFollowIgnoresNonsense(t *testing.T) {
	src := newLink(1<<20, 0, 1<<30)
	c := newCache(t, Options{Store: newStoreAt(t, t.TempDir())})
	f := mustOpen(t, c, Spec{Size: 1 << 20, Source: src})
	f.Follow([]Extent{{-1, 5}, {0, -1}, {1 << 20, 1}, {1 << 62, 1 << 62}})
	if f.f.follow.Load() != nil {
		t.Error("a profile of nothing is followed")
	}
	f.Follow([]Extent{{1<<20 - 1, 1 << 62}})
	readAt(t, f, 1<<20-4096)
	if n := src.asked.Load(); n != 1 {
		t.Errorf("%d ranges", n)
	}
}
