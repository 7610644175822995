package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// control runs a system call on a file that another goroutine may be closing.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		for {
			if inner = call(int(fd)); inner != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, inner)
}

func sync1(f *os.File) error { return control(f, unix.Fdatasync) }
