package remote

import (
	"context"
	"time"
)

// minProgress is how many bytes must arrive within the limit of a watch, unless it says otherwise.
const minProgress = 4 << 10

// A watch ends a context when, while it runs, too little arrives. It runs only between
// start and stop, so that a slow reader is not taken for a slow server. A nil watch never
// ends anything. It is used by one goroutine.
type watch struct {
	cancel context.CancelCauseFunc
	cause  error
	limit  time.Duration
	least  int64 // how many bytes must arrive within limit

	left  time.Duration // of limit since the last progress
	got   int64         // bytes since then
	begun time.Time
	timer *time.Timer
}

func newWatch(cancel context.CancelCauseFunc, limit time.Duration, cause error) *watch {
	return &watch{cancel: cancel, cause: cause, limit: limit, least: minProgress, left: limit}
}

func (w *watch) start() {
	if w == nil {
		return
	}
	w.begun = time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(w.left, func() { w.cancel(w.cause) })
	} else {
		w.timer.Reset(w.left)
	}
}

// stop says that n bytes have arrived since start.
func (w *watch) stop(n int) {
	if w == nil {
		return
	}
	w.timer.Stop()
	if w.got += int64(n); w.got >= w.least {
		w.left, w.got = w.limit, 0
		return
	}
	w.left = max(w.left-time.Since(w.begun), 0)
}
