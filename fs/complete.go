package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// completeRequest is the ioctl, without an argument, that fetches and checks an
// open file whole. It returns when that is done: 0, EIO for a file that turned
// out corrupt or cannot be had, EINTR when the caller is interrupted. What has
// been fetched by then stays.
const completeRequest = 0xc5<<8 | 1

// A Completer is an image.Handle whose content may not all be local yet.
type Completer interface {
	// Complete fetches what is missing and checks the whole.
	Complete(ctx context.Context) error
}

var _ = (fusefs.FileIoctler)((*handle)(nil))

func (h *handle) Ioctl(ctx context.Context, cmd uint32, _ uint64, _, _ []byte) (int32, syscall.Errno) {
	if cmd != completeRequest {
		return 0, syscall.ENOTTY
	}
	c, ok := h.src.(Completer)
	if !ok {
		return 0, 0
	}
	w := h.node.vfs.wait(ctx)
	defer w.finish()
	err := c.Complete(w)
	if err == nil {
		return 0, 0
	}
	errno, corrupt := h.node.vfs.errno(w, err, &h.node.errs, "complete", "release", h.node.parent.name, "file", h.node.name)
	if corrupt && !h.node.corrupt.Swap(true) {
		h.node.vfs.distrust(h.node)
	}
	return 0, errno
}

// CompleteFile has the mount that f is on fetch and check f whole, and waits for
// it. Closing f does not end the waiting; the end of the process does.
func CompleteFile(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = conn.Control(func(fd uintptr) {
		for {
			if errno = unix.IoctlSetInt(int(fd), completeRequest, 0); !errors.Is(errno, syscall.EINTR) {
				return
			}
		}
	})
	if err == nil {
		err = errno
	}
	if err != nil {
		return fmt.Errorf("complete %s: %w", f.Name(), err)
	}
	return nil
}
