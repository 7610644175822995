package fs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// killPoll is how often a caller that was interrupted is looked at again, as
// the kernel reports only the first signal to us.
const killPoll = 50 * time.Millisecond

// A waiter is the context of one request. It ends when the kernel interrupts the
// request, after the grace if the signal does not kill the caller, and in any
// case when the request is done. That also makes it safe to keep by mistake,
// unlike go-fuse's context, whose channel is reused for another request.
//
// It costs a goroutine only once somebody asks for Done, which a read that is
// answered from the cache never does.
type waiter struct {
	interrupted <-chan struct{}
	pid         uint32
	grace       time.Duration

	mu   sync.Mutex    // guards the rest; a leaf
	done chan struct{} // made by the first Done
	stop chan struct{} // ends watch
	err  error
}

func newWaiter(ctx context.Context, grace time.Duration) *waiter {
	w := &waiter{interrupted: ctx.Done(), grace: grace}
	if c, ok := ctx.(*fuse.Context); ok {
		w.pid = c.Pid
	}
	return w
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
	select {
	case <-stop:
		return
	case <-w.interrupted:
	}
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < w.grace && !dying(w.pid); {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}

// dying tells whether a thread is about to be killed, or cannot be seen. A
// signal that ends a process leaves SIGKILL pending on each of its threads.
func dying(pid uint32) bool {
	if pid == 0 {
		return true // the kernel itself, or a process outside our PID namespace
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	defer f.Close()
	const sigkill = 1 << (9 - 1)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key != "SigPnd" && key != "ShdPnd" {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil || set&sigkill != 0 {
			return true
		}
	}
	return lines.Err() != nil
}
