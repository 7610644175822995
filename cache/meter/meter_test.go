package meter

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-1: 0, 0: 0, 999: 0, time.Microsecond: 1, 2 * time.Microsecond: 2, 3 * time.Microsecond: 2,
		time.Millisecond: 10, time.Second: 20, time.Hour: Buckets - 1,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%v: bucket %d, want %d", d, got, want)
		}
		bounds, s := Bounds(), d.Seconds()
		if want < Buckets-1 && s > bounds[want] || want > 0 && s < bounds[want-1]*(1-1e-9) {
			t.Errorf("%v is not within the bounds of bucket %d", d, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	var c Counter
	for range 9 {
		c.Add(3 * time.Millisecond)
	}
	c.Add(time.Second)
	h := c.Histogram()
	sum := h
	sum.Merge(&h)
	sum.Add(time.Hour)
	if h.Total() != 10 || sum.Total() != 21 || h.Nanos != int64(1027*time.Millisecond) {
		t.Errorf("%+v, %+v", h, sum)
	}
	if half, all := h.Most(0.5), h.Most(1); half < 3*time.Millisecond || half > 6*time.Millisecond || all < time.Second || all > 2*time.Second {
		t.Error(half, all)
	}
	var one Histogram
	if one.Add(time.Second); one.Most(0.5) < time.Second {
		t.Error("of one that took a second half took", one.Most(0.5))
	}
}

func TestLimiter(t *testing.T) {
	const pause = 10 * time.Second
	var l Limiter
	now := time.Unix(1, 0)
	for i, c := range []struct {
		after   time.Duration
		ok      bool
		dropped uint64
	}{{0, true, 0}, {0, false, 0}, {pause - 1, false, 0}, {1, true, 2}, {pause, true, 0}} {
		now = now.Add(c.after)
		if dropped, ok := l.Allow(now, pause); ok != c.ok || dropped != c.dropped {
			t.Errorf("step %d: %v, %d", i, ok, dropped)
		}
	}
}
