package testkit

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestClockSlowsDown: busy loops on all processors, and more, make the clock go
// slower than the wall's.
func TestClockSlowsDown(t *testing.T) {
	var stop atomic.Bool
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop.Store(true)
	old := runtime.GOMAXPROCS(8 * runtime.NumCPU())
	defer runtime.GOMAXPROCS(old)
	for range 6 * runtime.NumCPU() {
		busy.Go(func() {
			for !stop.Load() {
				continue
			}
		})
	}
	c, began := StartClock(t), time.Now()
	time.Sleep(500 * time.Millisecond)
	if wall, elapsed := time.Since(began), c.Elapsed(); elapsed > wall*2/3 || elapsed <= 0 {
		t.Errorf("%s went by in %s", elapsed, wall)
	}
}

// TestClockSkipsStalls: while this process did not run, no time went by.
func TestClockSkipsStalls(t *testing.T) {
	c := StartClock(t)
	before := c.Elapsed()
	c.mu.Lock()
	c.last = c.last.Add(-time.Hour)
	c.mu.Unlock()
	if d := c.Elapsed() - before; d <= 0 || d > time.Minute {
		t.Errorf("%s went by in an hour without this process", d)
	}
}

func TestEventually(t *testing.T) {
	n := 0
	Eventually(t, "the third time", time.Minute, func() bool { n++; return n == 3 })
	c := make(chan int)
	go func() { c <- 4 }()
	if got := Receive(t, "a number", time.Minute, c); got != 4 {
		t.Errorf("received %d", got)
	}
}
