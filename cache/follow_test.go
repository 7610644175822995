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
		if n := src.bytes.Load(); n != followFirst*DefaultBlockSize {
			t.Fatalf("%d bytes before the first read", n)
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
		if f.e.flights.following.Load() != nil {
			t.Error("the profile is still followed")
		}
		if extra := src.bytes.Load() - ahead - 2*followStrays*DefaultBlockSize; extra != 0 {
			t.Errorf("%d bytes fetched that no reader asked for", extra)
		}
	})
}

// TestFollowDoesNotDelayDemand: a block that a reader asks for outside of the
// profile comes no later than one range of it would take on the wire, whether
// the profile's ranges are long or short.
func TestFollowDoesNotDelayDemand(t *testing.T) {
	const rtt, rate = 30 * time.Millisecond, 12_500_000
	const alone = rtt + DefaultBlockSize*time.Second/rate
	const oneRange = followRange * DefaultBlockSize * time.Second / rate
	for name, profile := range map[string][]Extent{
		"short": profileOf(0, 4000),
		"long":  {{0, 512 << 20}},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			c := newCache(t, Options{Store: newStoreAt(t, dir), Region: 4096})
			f := mustOpen(t, c, Spec{Size: 1 << 30, Source: newLink(1<<30, rtt, rate)})
			f.Follow(profile)
			busy := 0
			for i := range int64(20) {
				readAt(t, f, profile[0].Off+2*i*DefaultBlockSize)
				if _, more := c.shared.slots.state(f.e.flights.origin); !more {
					busy++
				}
				if took := readAt(t, f, 768<<20+50*i*DefaultBlockSize); took > alone+oneRange {
					t.Errorf("%s ranges: read %d outside of the profile took %v, alone %v", name, i, took, alone)
				}
			}
			if busy == 0 {
				t.Errorf("%s ranges: nothing was in the way", name)
			}
		})
	}
}

func TestFollowIgnoresNonsense(t *testing.T) {
	src := newLink(1<<20, 0, 1<<30)
	c := newCache(t, Options{Store: newStoreAt(t, t.TempDir())})
	f := mustOpen(t, c, Spec{Size: 1 << 20, Source: src})
	f.Follow([]Extent{{-1, 5}, {0, -1}, {1 << 20, 1}, {1 << 62, 1 << 62}})
	if f.e.flights.following.Load() != nil {
		t.Error("a profile of nothing is followed")
	}
	f.Follow([]Extent{{1<<20 - 1, 1 << 62}})
	readAt(t, f, 1<<20-4096)
	if n := src.asked.Load(); n != 1 {
		t.Errorf("%d ranges", n)
	}
}

// TestFollowLooksOnce: a profile that names the whole image again and again
// costs no more than one that is honest.
func TestFollowLooksOnce(t *testing.T) {
	const size = (MaxProfile - 1) * DefaultBlockSize
	whole := make([]Extent, MaxProfile)
	for i := range whole {
		whole[i] = Extent{int64(i%2) * 100, 1 << 50}
	}
	fo, looked := newFollower(whole, size, DefaultBlockSize)
	if len(fo.order) != MaxProfile-1 || looked != 2*MaxProfile {
		t.Errorf("%d blocks, %d looked at", len(fo.order), looked)
	}
	fo, looked = newFollower(whole, size+1<<40, DefaultBlockSize)
	if len(fo.order) != MaxProfile || looked != MaxProfile {
		t.Errorf("of a larger image: %d blocks, %d looked at", len(fo.order), looked)
	}
}
