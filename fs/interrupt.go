package fs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// killPoll is how often a waiting request looks whether its caller is dying.
const killPoll = 250 * time.Millisecond

// stallAfter is when a waiting request counts as stalled.
const stallAfter = 10 * time.Second

// A waiter is the context of one request. It ends when
//
//   - the caller's process is dying. The kernel tells so by interrupting the
//     request, but not for direct I/O, which it sends in the background and
//     waits for where no signal counts: a killed QEMU would stay until the
//     network is back. So a waiter looks for itself now and then.
//   - the kernel interrupts the request for a signal that does not kill, and the
//     grace has passed.
//   - the request is done. That also makes it safe to keep by mistake, unlike
//     go-fuse's context, whose channel goes on to another request.
//
// It costs a goroutine only once somebody asks for Done, which a read that is
// answered from the cache never does.
type waiter struct {
	interrupted <-chan struct{}
	thread      int
	grace       time.Duration
	stalled     *atomic.Int64 // counts those that wait for longer than stallAfter

	mu   sync.Mutex    // guards the rest; a leaf
	done chan struct{} // made by the first Done
	stop chan struct{} // ends watch
	err  error
}

func newWaiter(ctx context.Context, grace time.Duration, stalled *atomic.Int64) *waiter {
	w := new(waiter)
	w.begin(ctx, grace, stalled)
	return w
}

func (w *waiter) begin(ctx context.Context, grace time.Duration, stalled *atomic.Int64) {
	w.interrupted, w.grace, w.stalled, w.thread = ctx.Done(), grace, stalled, 0
	if c, ok := ctx.(*fuse.Context); ok {
		w.thread = int(c.Pid)
	}
}

// reset makes a finished waiter usable again, unless somebody has asked for Done.
func (w *waiter) reset() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done != nil {
		return false
	}
	w.err, w.interrupted = nil, nil
	return true
}

var _ context.Context = (*waiter)(nil)

func (w *waiter) Deadline() (time.Time, bool) { return time.Time{}, false }

func (w *waiter) Value(any) any { return nil }

func (w *waiter) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *waiter) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == nil {
		w.done = make(chan struct{})
		if w.err != nil {
			close(w.done)
		} else {
			w.stop = make(chan struct{})
			go w.watch(w.stop)
		}
	}
	return w.done
}

// finish ends the context; the request's handler defers it.
func (w *waiter) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
	w.endLocked()
}

func (w *waiter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}

func (w *waiter) endLocked() {
	if w.err != nil {
		return
	}
	w.err = context.Canceled
	if w.done != nil {
		close(w.done)
	}
}

func (w *waiter) watch(stop <-chan struct{}) {
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	interrupted := w.interrupted
	var graceOver <-chan time.Time
	stall := time.NewTimer(stallAfter)
	defer stall.Stop()
	// Now, as the thread may be gone later. If it is already, so most likely is its
	// process; at worst that fails read-ahead, which is repeated when needed.
	process, exists := processOf(w.thread)
	if !exists {
		w.end()
		return
	}
	for {
		select {
		case <-stop:
			return
		case <-interrupted:
			interrupted = nil
			grace := time.NewTimer(w.grace)
			defer grace.Stop()
			graceOver = grace.C
		case <-graceOver:
			w.end()
			return
		case <-stall.C:
			w.stalled.Add(1)
			defer w.stalled.Add(-1)
		case <-tick.C:
		}
		// Without a process to look at, an interrupt has to be taken for death.
		if process == 0 && interrupted == nil || process > 0 && dying(process) {
			w.end()
			return
		}
	}
}
