package cache

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// leastRegion is the shortest region, in bytes.
	leastRegion = 128 << 10
	// wireRate is what a wire is taken to carry, in bytes per millisecond: 1 Gbit/s.
	wireRate = 128 << 10
)

// A reach is how much is fetched beyond what a reader waits for.
//
// What the wire carries in the time of a request costs about as much as another request.
// So a region is that long, where it is known: bytes that nobody reads cost more than they
// save there. It is Options.Region of an origin that is far or not known.
type reach struct {
	region int64 // bytes around a miss, aligned to themselves
	near   bool  // the shortest, though it might be longer
}

// reach is that of the origin now, with regions of at most so many bytes.
func (o *origin) reach(longest int) reach {
	most := int64(longest)
	region, trip := min(most, leastRegion), time.Duration(o.trips.least.Load())
	for region < most && (trip == 0 || time.Duration(region)*time.Millisecond/wireRate < trip) {
		region = min(2*region, most)
	}
	return reach{region, region < most && region <= leastRegion}
}

// ahead is how far ahead of a sequential reader is fetched that has read so much.
func (r reach) ahead(read int64) int64 {
	if r.near {
		return read
	}
	return 2 * read
}

// trips are the times to the first byte of the last ranges that readers waited for.
type trips struct {
	// least is the second shortest of them, in ns; 0: there are none. A busy host makes
	// most of them longer, and once in a while something on the way has an answer.
	least atomic.Int64

	mu   sync.Mutex        // a leaf
	last [16]time.Duration // guarded by mu
	n    int               // guarded by mu; how many there were
}

func (t *trips) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last[t.n%len(t.last)] = max(d, 1)
	t.n++
	last := t.last
	known := last[:min(t.n, len(last))]
	slices.Sort(known)
	t.least.Store(int64(known[min(1, len(known)-1)]))
}
