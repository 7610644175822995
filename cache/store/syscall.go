package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// control runs a system call on a file that another goroutine may be closing. The error is
// [os.ErrClosed] if it was faster.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) {
		for {
			if inner = call(int(fd)); inner != unix.EINTR {
				return
			}
		}
	}); err != nil {
		// It has no other cause, but the standard library does not say so in its error.
		return fmt.Errorf("%w: %w", os.ErrClosed, err)
	}
	return inner
}

func fstat(f *os.File) (st unix.Stat_t, err error) {
	err = control(f, func(fd int) error { return unix.Fstat(fd, &st) })
	return st, err
}

// dataSync waits until the file's bytes are on the disk.
func dataSync(f *os.File) error { return control(f, unix.Fdatasync) }
