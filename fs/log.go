package fs

import (
	"runtime/debug"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vmcastfs/cache/meter"
)

// quiet is how long a limiter stays silent after a line.
const quiet = 10 * time.Second

// report logs an error whose caller only gets a number.
func (v *vfs) report(l *meter.Limiter, err error, errno syscall.Errno, what string, args ...any) {
	if errno == 0 || errno == syscall.ENOENT || errno == syscall.EINTR {
		return
	}
	dropped, ok := l.Allow(time.Now(), quiet)
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
	} else if dropped, ok := v.panicLog.Allow(time.Now(), quiet); ok {
		v.log.Error("another panic while serving a request", "panic", p, "repeated", dropped)
	}
	return fuse.EIO
}
