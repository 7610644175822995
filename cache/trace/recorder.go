package trace

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pool lets so many recorders at a time hold more than a little. The zero value
// is ready for use.
type Pool struct{ large atomic.Int32 }

const (
	maxLarge   = 32   // recorders
	smallReads = 2048 // what one may hold without asking
)

// Recorder collects a Trace. Its methods may be called from any goroutine, and on
// nil, which records nothing.
type Recorder struct {
	pool  *Pool
	block int64
	prior func() *Trace // what was known before; nil: nothing
	over  func()        // called at the end of Window, by itself
	ended atomic.Bool   // reads are not recorded any more
	begun sync.Once     // prior has been asked

	// mu guards what follows it; it is a leaf.
	mu    sync.Mutex
	large bool
	timer *time.Timer
	t     Trace
}

// NewRecorder makes a recorder of an image in blocks of so many bytes. prior tells
// what was recorded before; it is asked once, before the first answer or block. over
// is called when the boot is over, not after Stop. Both are called with no lock held.
func NewRecorder(pool *Pool, block int64, prior func() *Trace, over func()) *Recorder {
	return &Recorder{pool: pool, block: block, prior: prior, over: over}
}

// learn takes over where blocks came from before.
func (r *Recorder) learn() {
	r.begun.Do(func() {
		if r.prior == nil {
			return
		}
		if o := r.prior(); o != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Take(o)
		}
	})
}

// Read takes note of a read. Those of a boot that is over are not recorded.
func (r *Recorder) Read(begun time.Time, took time.Duration, off, n int64, how How) {
	if r == nil || n <= 0 || r.ended.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		r.begin(begun)
		r.timer = time.AfterFunc(Window, r.end)
	}
	if !r.room() {
		r.t.Full = true
		r.ended.Store(true)
		r.timer.Reset(0)
		return
	}
	r.t.Reads = append(r.t.Reads, Read{
		At: micros(begun.Sub(r.t.Begun)), Took: micros(took), Off: off, Len: uint32(min(n, 1<<31)), How: how,
	})
}

// begin sets the clock to the first read, which is told of when it has ended: blocks
// have come for it. mu is held.
func (r *Recorder) begin(at time.Time) {
	late := r.t.Begun.Sub(at).Microseconds()
	for i := range r.t.Arrivals {
		a := &r.t.Arrivals[i]
		a.At, a.Until = uint32(max(int64(a.At)+late, 0)), uint32(max(int64(a.Until)+late, 0))
	}
	r.t.Begun = at
}

// room reports whether one more read can be held; mu is held.
func (r *Recorder) room() bool {
	if n := len(r.t.Reads); n >= MaxReads || n >= smallReads && !r.large && r.pool.large.Add(1) > maxLarge {
		if n < MaxReads {
			r.pool.large.Add(-1)
		}
		return false
	} else if n >= smallReads {
		r.large = true
	}
	return true
}

// Arrived takes note that block b has come; from: not from the feed's server, but
// from there. Where it came from is noted after the boot, too.
func (r *Recorder) Arrived(b int64, why Why, from string) {
	if r == nil || b < 0 || b >= 1<<32-1 {
		return
	}
	now := time.Now()
	r.learn()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.t.Begun.IsZero() {
		r.t.Begun = now
	}
	a := Arrival{At: micros(now.Sub(r.t.Begun)), Block: uint32(b), N: 1, Why: why}
	a.Until = a.At
	a.From = r.t.from(from)
	r.t.Elsewhere = r.t.Elsewhere.set(a.Block, a.N, a.From)
	if !r.ended.Load() {
		r.add(a)
	}
}

// joinWithin is how long one run of a picture goes on, in microseconds.
const joinWithin = 100_000

// add appends an arrival, or makes the last runs longer by it. Several ranges come
// at a time, so it looks at a few. mu is held.
func (r *Recorder) add(a Arrival) {
	list := r.t.Arrivals
	for i := len(list) - 1; i >= max(0, len(list)-16); i-- {
		l := &list[i]
		if l.Block+l.N == a.Block && l.Why == a.Why && l.From == a.From && a.At-l.At <= joinWithin {
			l.N++
			l.Until = max(l.Until, a.Until)
			return
		}
	}
	if len(list) >= MaxArrivals {
		r.t.Full = true
		return
	}
	r.t.Arrivals = append(list, a)
}

func micros(d time.Duration) uint32 { return uint32(min(max(d.Microseconds(), 0), 1<<32-1)) }

// end ends the boot.
func (r *Recorder) end() {
	r.ended.Store(true)
	r.over()
}

// Again begins another boot if the last one is over: somebody has opened the image.
func (r *Recorder) Again() {
	if r == nil || !r.ended.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release()
	r.t = Trace{Elsewhere: r.t.Elsewhere, From: r.t.From}
	r.ended.Store(false)
}

// Stop ends the recording for good.
func (r *Recorder) Stop() {
	if r == nil {
		return
	}
	r.ended.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.release()
}

// release gives back the timer and the place in the pool; mu is held.
func (r *Recorder) release() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if r.large {
		r.large = false
		r.pool.large.Add(-1)
	}
}

// Trace is a copy of what has been recorded so far, of an image of that size.
func (r *Recorder) Trace(size int64) *Trace {
	if r == nil {
		return nil
	}
	r.learn()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.t
	t.Size, t.Block = size, r.block
	t.Reads, t.Arrivals, t.Elsewhere, t.From = slices.Clone(t.Reads), slices.Clone(t.Arrivals), slices.Clone(t.Elsewhere), slices.Clone(t.From)
	return &t
}

// Elsewhere is a copy of Trace.Elsewhere.
func (r *Recorder) Elsewhere() Runs {
	if r == nil {
		return nil
	}
	r.learn()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.t.Elsewhere)
}
