// Package testkit is what the tests of several rooms share: a clock for
// deadlines, waiting for something to come true, and the tools a test needs.
package testkit

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Clock measures how long something takes on a machine of ordinary speed that
// does nothing else. It goes slower where the processor is slow, while more wants
// to run than there are processors, and while this process is not let to run. A test
// that compares a duration with a limit uses it, so that no limit depends on the
// machine or on its load.
//
// It is no measure for benchmarks, and none for what must not come too early:
// for that there is time.Since.
type Clock struct {
	slowness float64 // of this processor; at least 1

	mu      sync.Mutex // guards what follows
	elapsed time.Duration
	last    time.Time
	share   float64       // of a processor that a thread got when last looked
	most    time.Duration // that counts from one look to the next; 0: all
}

const clockTick = 10 * time.Millisecond

// StartClock starts a clock that runs until the end of the test.
func StartClock(t testing.TB) *Clock {
	c := newClock()
	c.most = 2 * clockTick // where it looks more rarely, this process did not get to run
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(clockTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.look()
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); ended.Wait() })
	return c
}

// newClock is a clock that goes by what it sees when it is looked at.
func newClock() *Clock {
	c := &Clock{slowness: slowness(), last: time.Now(), share: 1}
	c.look()
	return c
}

// Elapsed is the time since the clock was started. It may be called from any
// goroutine.
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	passed := now.Sub(c.last)
	if c.most > 0 {
		passed = min(passed, c.most)
	}
	c.elapsed += time.Duration(float64(passed) * c.share / c.slowness)
	c.last = now
	return c.elapsed
}

// look finds out how busy the machine is now.
func (c *Clock) look() {
	c.Elapsed()
	share := min(1, float64(runtime.NumCPU())/float64(max(1, runnable())))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.share = share
}

// runnable is how many threads of the machine run or want to; 0: not known.
func runnable() (n int) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var ignored float64
	_, _ = fmt.Sscanf(string(text), "%f %f %f %d/", &ignored, &ignored, &ignored, &n)
	return n
}

// slowness is how much longer this processor takes than an ordinary one, at
// least 1. The best of several short runs is not that of the load.
func slowness() float64 {
	const rounds, ordinary = 1_000_000, 2 * time.Millisecond
	best := time.Hour
	x := uint64(88172645463325252)
	for range 3 {
		began := time.Now()
		for range rounds {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		best = min(best, time.Since(began))
	}
	if x == 0 {
		return 1 // never; the work must not be optimised away
	}
	return max(1, float64(best)/float64(ordinary))
}

// Eventually waits until something is true, and fails the test if it is not
// within limit on a [Clock].
func Eventually(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	if ok() { // mostly: to begin a clock takes milliseconds
		return
	}
	for c := newClock(); c.Elapsed() < limit; c.look() {
		time.Sleep(clockTick)
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", limit, what)
}

// Receive waits for a value like [Eventually]; the zero value if the channel is closed.
func Receive[T any](t testing.TB, what string, limit time.Duration, from <-chan T) (v T) {
	t.Helper()
	Eventually(t, what, limit, func() bool {
		select {
		case v = <-from:
			return true
		default:
			return false
		}
	})
	return v
}
