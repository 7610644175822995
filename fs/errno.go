package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"syscall"
)

// atOpen is the errno that a rule has for open(2) alone; 0: none has.
func atOpen(rules []ErrorRule, err error) syscall.Errno {
	for _, r := range rules {
		if errors.Is(err, r.Err) {
			return r.AtOpen
		}
	}
	return 0
}

// toErrno is the only way from an error to an errno. What it does not know is
// EIO. An errno met elsewhere would tell the caller lies (ENOENT of a cache
// file), or switch features off (the kernel takes ENOSYS for ever).
func toErrno(ctx context.Context, rules []ErrorRule, err error) (errno syscall.Errno, corrupt bool) {
	if err == nil {
		return 0, false
	}
	for _, r := range rules {
		if errors.Is(err, r.Err) {
			return r.Errno, r.Corrupt
		}
	}
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return syscall.EINTR, false
	case errors.Is(err, iofs.ErrNotExist):
		return syscall.ENOENT, false
	case errors.Is(err, iofs.ErrPermission):
		return syscall.EACCES, false
	}
	return syscall.EIO, false
}
