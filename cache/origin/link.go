package origin

import (
	"context"
	"sync"
	"time"
)

const (
	maxQuantum = 16 << 10
	minQuantum = 1 << 10

	// lateness is how far back a sender that woke up late may schedule.
	lateness = 10 * time.Millisecond
	// tolerance is how much too early a quantum may arrive to save a sleep.
	tolerance = 100 * time.Microsecond
)

// A link is a wire of limited bandwidth shared by all flows.
type link struct {
	mu   sync.Mutex // guards all below
	rate int64      // bytes per second, 0 for no limit
	free time.Time  // when the last scheduled quantum has passed
}

func (l *link) setRate(bytesPerSecond int64) {
	l.mu.Lock()
	l.rate, l.free = max(bytesPerSecond, 0), time.Time{}
	l.mu.Unlock()
}

// quantum is how many bytes a flow puts on the link at once, 0 for no limit.
func (l *link) quantum() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return 0
	}
	return min(max(l.rate/1000, minQuantum), maxQuantum)
}

// schedule returns when the last of n bytes arrives that are ready to be sent at t.
func (l *link) schedule(t time.Time, n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return t
	}
	if l.free.Before(t) {
		l.free = t
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	return l.free
}

// A flow is the body of one answer on its way over the link.
type flow struct {
	link   *link
	alarms *alarms
	ready  time.Time // when its next quantum is ready
}

// carry returns when n bytes have crossed the link.
func (f *flow) carry(ctx context.Context, n int) error {
	now := time.Now()
	if earliest := now.Add(-lateness); f.ready.Before(earliest) {
		f.ready = earliest
	}
	f.ready = f.link.schedule(f.ready, n)
	if f.ready.Sub(now) <= tolerance {
		return ctx.Err()
	}
	return f.alarms.sleepUntil(ctx, f.ready)
}
