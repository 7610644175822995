// Package meter counts how long things take, and keeps a log from being flooded.
package meter

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is how many there are in a [Histogram]: from 1 µs to about a minute.
const Buckets = 28

// A Histogram says how long things took. Not safe for concurrent use.
type Histogram struct {
	// Counts[i] are those that took less than 1<<i µs, and at least half of that;
	// the last one takes whatever was slower.
	Counts [Buckets]int64 `json:"log2_us"`
	Nanos  int64          `json:"nanos"` // all together
}

// Bounds are the upper bounds of all buckets but the last, in seconds.
func Bounds() (bounds [Buckets - 1]float64) {
	for i := range bounds {
		bounds[i] = float64(int64(1)<<i) / 1e6
	}
	return bounds
}

func bucket(d time.Duration) int {
	return min(bits.Len64(uint64(max(d, 0)/time.Microsecond)), Buckets-1)
}

// Add counts one that took d.
func (h *Histogram) Add(d time.Duration) {
	h.Counts[bucket(d)]++
	h.Nanos += int64(d)
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
	h.Nanos += o.Nanos
}

// Total is how many were counted.
func (h *Histogram) Total() (n int64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Most is a time that the given share did not exceed; it is up to twice too long.
func (h *Histogram) Most(share float64) time.Duration {
	left := int64(math.Ceil(share * float64(h.Total())))
	for i, c := range h.Counts {
		if left -= c; left <= 0 {
			return time.Microsecond << i
		}
	}
	return time.Microsecond << (Buckets - 1)
}

// A Counter is a Histogram that many goroutines add to.
type Counter struct {
	counts [Buckets]atomic.Int64
	nanos  atomic.Int64
}

// Add counts one that took d.
func (c *Counter) Add(d time.Duration) {
	c.counts[bucket(d)].Add(1)
	c.nanos.Add(int64(d))
}

// Histogram returns what was counted so far.
func (c *Counter) Histogram() (h Histogram) {
	for i := range c.counts {
		h.Counts[i] = c.counts[i].Load()
	}
	h.Nanos = c.nanos.Load()
	return h
}

// A Limiter lets one line of a log through now and then. The zero value is ready.
// Its method may be called by many goroutines.
type Limiter struct {
	last    atomic.Int64 // unix nanoseconds
	dropped atomic.Uint64
}

// Allow tells whether to log now, which is at most once in every pause, and how
// many lines were left out before.
func (l *Limiter) Allow(now time.Time, pause time.Duration) (dropped uint64, ok bool) {
	last := l.last.Load()
	if last != 0 && now.UnixNano()-last < int64(pause) || !l.last.CompareAndSwap(last, now.UnixNano()) {
		l.dropped.Add(1)
		return 0, false
	}
	return l.dropped.Swap(0), true
}
