package cache

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// outcome is how a read was answered.
type outcome int

const (
	hit outcome = iota // every block was here, and had been read before or fetched on demand
	// prefetchHit: every block was here or on its way without a reader having
	// asked for it, and one of them at least for the first time.
	prefetchHit
	miss // it waited for what a reader had to ask for, itself or another
	outcomes
)

// latencyBuckets covers 1 µs to about a minute.
const latencyBuckets = 28

// A Latency says how long reads took.
type Latency struct {
	// Counts[i] are those that took less than 1<<i µs, and at least half of that;
	// the last one takes whatever was slower.
	Counts [latencyBuckets]int64 `json:"log2_us"`
	Nanos  int64                 `json:"nanos"` // all together
}

// Reads is how many there were.
func (l *Latency) Reads() (n int64) {
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// Most is a time that the given share of the reads did not exceed; it is up to
// twice too long.
func (l *Latency) Most(share float64) time.Duration {
	left := int64(share * float64(l.Reads()))
	for i, c := range l.Counts {
		if left -= c; left <= 0 {
			return time.Microsecond << i
		}
	}
	return time.Microsecond << (latencyBuckets - 1)
}

// latency is a Latency as it is counted.
type latency struct {
	counts [latencyBuckets]atomic.Int64
	nanos  atomic.Int64
}

func (l *latency) add(d time.Duration) {
	l.counts[min(bits.Len64(uint64(max(d, 0)/time.Microsecond)), latencyBuckets-1)].Add(1)
	l.nanos.Add(int64(d))
}

func (l *latency) snapshot() (out Latency) {
	for i := range l.counts {
		out.Counts[i] = l.counts[i].Load()
	}
	out.Nanos = l.nanos.Load()
	return out
}

// unread remembers which blocks were fetched ahead and not read yet. It forgets
// some: places are few, and each holds one block.
type unread [4096]atomic.Int64 // block number plus one

func (u *unread) note(b int64) { u[b%int64(len(u))].Store(b + 1) }

// take reports whether b was noted, once.
func (u *unread) take(b int64) bool {
	if u == nil {
		return false
	}
	p := &u[b%int64(len(u))]
	return p.Load() == b+1 && p.CompareAndSwap(b+1, 0)
}

// noteUnread: block b has come and no reader has asked for it; mu is held.
func (fl *flights) noteUnread(b int64) {
	u := fl.unread.Load()
	if u == nil {
		u = new(unread)
		fl.unread.Store(u)
	}
	u.note(b)
}

// arrival is the outcome for a reader that waits for the flights.
func arrival(list []*flight) outcome {
	for _, f := range list {
		if !f.ahead {
			return miss
		}
	}
	return prefetchHit
}
