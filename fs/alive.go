package fs

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Answers asks the mount for something that it has in memory and the kernel has
// not, and tells whether it answered before ctx ended. It also is true where there
// is nothing to be asked: unmounted, covered by another mount, or no thread for it.
func (s *Server) Answers(ctx context.Context) bool {
	if m, err := mountAt(s.dir); err != nil || m == nil || s.dev != device(m) {
		return true
	}
	asked := make(chan struct{})
	go statfsFromOutside(s.dir, asked)
	select {
	case <-asked:
		return true
	case <-ctx.Done():
		return false
	}
}

// statfsFromOutside asks as another process would. A thread that waits for a
// request which the filesystem has taken and does not answer cannot be killed
// until the connection ends. That ends with the last thread that has /dev/fuse
// open. Were that this thread, a hung process could not be killed at all: so it
// first gives its copies of the descriptor back.
func statfsFromOutside(dir string, asked chan<- struct{}) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The first thread never ends, and would keep all that is open now. While it
		// is ours, another one is taken.
		defer runtime.UnlockOSThread()
		other := make(chan struct{})
		go statfsFromOutside(dir, other)
		<-other
		close(asked)
		return
	}
	defer close(asked)
	if unix.Unshare(unix.CLONE_FILES) != nil {
		return
	}
	fds, err := connections("/proc/thread-self/fd")
	if err != nil {
		return
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	_ = unix.Statfs(dir, new(unix.Statfs_t)) // an error is an answer too
}

// connections are the descriptors of /dev/fuse in a directory of /proc.
func connections(dir string) (fds []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "/dev/fuse" {
			if fd, err := strconv.Atoi(e.Name()); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	return fds, err
}
