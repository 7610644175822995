package fs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// WaitDetached returns when the mount is in the table of mounts no more, or with an
// error when ctx ends before that. A mount that was detached while it was in use
// serves who has files open; whoever comes now is served by another, or by none.
func (s *Server) WaitDetached(ctx context.Context) error {
	// Each change from here on is told by poll once. An os.File would not do: Go's own
	// poller takes it in, and would be the one that is told.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watch the table of mounts: %w", err)
	}
	defer unix.Close(table)
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { w.Close(); close(woken) })
	defer func() {
		if stop() {
			w.Close()
		} else {
			<-woken
		}
	}()
	for {
		if here, err := s.attached(); err == nil && !here {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// attached tells whether the mount is in the table of mounts.
func (s *Server) attached() (bool, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, end bool) {
		ours := s.dev == device(m)
		return !ours, ours
	})
	return len(mounts) > 0, err
}
