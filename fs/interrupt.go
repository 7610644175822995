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
//   - the request is a read that would wait, and its image has no slot for it.
//
// It costs a goroutine only once somebody asks for Done, which a read that is
// answered from the cache never does.
type waiter struct {
	interrupted <-chan struct{}
	thread      int
	grace       time.Duration
	room        *room
	slot        *slotUser // the image of a read; nil: another request, which takes no slot

	mu      sync.Mutex    // guards the rest; before slots.mu
	done    chan struct{} // made by the first Done
	stop    chan struct{} // ends watch
	err     error
	holds   bool // a slot
	crowded bool // there was no slot
}

// room is what the requests of a mount that wait have in common.
type room struct {
	slots   slots
	deaths  deaths
	stalled atomic.Int64 // those that have waited for longer than stallAfter
}

func newWaiter(ctx context.Context, grace time.Duration, r *room) *waiter {
	w := new(waiter)
	w.begin(ctx, grace, r, nil)
	return w
}

func (w *waiter) begin(ctx context.Context, grace time.Duration, r *room, slot *slotUser) {
	w.interrupted, w.grace, w.room, w.slot, w.thread = ctx.Done(), grace, r, slot, 0
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
		if w.err == nil && w.slot != nil {
			w.holds = w.room.slots.take(w.slot)
			w.crowded = !w.holds
		}
		switch {
		case w.crowded:
			w.endLocked()
		case w.err != nil:
			close(w.done)
		default:
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
	if w.holds {
		w.room.slots.give(w.slot)
		w.holds = false
	}
	w.endLocked()
}

// refused tells whether the context ended because there was no slot.
func (w *waiter) refused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.crowded
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
			w.room.stalled.Add(1)
			defer w.room.stalled.Add(-1)
		case <-tick.C:
		}
		// Without a process to look at, an interrupt has to be taken for death.
		if process == 0 && interrupted == nil || process > 0 && w.room.deaths.dying(process) {
			w.end()
			return
		}
	}
}
