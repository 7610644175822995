package fs

import (
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// quiet is how long a limiter stays silent after a line.
const quiet = 10 * time.Second

// A limiter lets one line through now and then. The zero value is ready.
type limiter struct {
	last    atomic.Int64 // unix nanoseconds
	dropped atomic.Uint64
}

// allow tells whether to log now, and how many lines were left out before.
func (l *limiter) allow(now time.Time) (dropped uint64, ok bool) {
	last := l.last.Load()
	if last != 0 && now.UnixNano()-last < int64(quiet) || !l.last.CompareAndSwap(last, now.UnixNano()) {
		l.dropped.Add(1)
		return 0, false
	}
	return l.dropped.Swap(0), true
}

// report logs an error whose caller only gets a number.
func (v *vfs) report(l *limiter, err error, errno syscall.Errno, what string, args ...any) {
	if errno == 0 || errno == syscall.ENOENT || errno == syscall.EINTR {
		return
	}
	dropped, ok := l.allow(time.Now())
	if !ok {
		return
	}
	args = append(args, "errno", errno.Error(), "err", err)
	if dropped > 0 {
		args = append(args, "repeated", dropped)
	}
	v.log.Error(what, args...)
}

// panicked answers a request whose handler panicked. The stack is logged the
// first time; later ones are counted, as one bad file may be read for ever.
func (v *vfs) panicked(p any) fuse.Status {
	if v.stats.panics.Add(1) == 1 {
		v.log.Error("panic while serving a request; it fails with EIO and the mount lives on",
			"panic", p, "stack", string(debug.Stack()))
	} else if dropped, ok := v.panicLog.allow(time.Now()); ok {
		v.log.Error("another panic while serving a request", "panic", p, "repeated", dropped)
	}
	return fuse.EIO
}
