package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// handle is an open fileNode.
type handle struct {
	node    *fileNode
	pkg     *bundle.Package // stays in memory while a file of it is open
	src     image.Handle
	backing *os.File // in passthrough mode: what the kernel reads
	failed  failedRead
}

var _ = (fusefs.FileReader)((*handle)(nil))

func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	v, size := h.node.vfs, h.node.size
	if off < 0 || off >= size {
		return fuse.ReadResultData(nil), 0
	}
	dest = dest[:min(int64(len(dest)), size-off)]
	if h.failed.repeats(off, int64(len(dest))) {
		return nil, syscall.EIO
	}
	start := time.Now()
	call := v.newRead(ctx, &h.node.slot)
	w := &call.waiter
	defer w.finish()
	n, err := h.src.ReadAt(w, dest, off)
	took := time.Since(start)
	v.stats.read(n, took)
	if n == len(dest) {
		return call.answer(dest), 0
	}
	// The kernel would take a short answer for the end of the file and show zeros.
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%d of %d bytes: %w", n, len(dest), io.ErrUnexpectedEOF)
	}
	if w.refused() {
		err = errCrowded
	}
	errno, corrupt := v.errno(w, err, &h.node.errs, "read",
		"release", h.node.parent.name, "file", h.node.name, "offset", off, "length", len(dest))
	if errno == syscall.EINTR {
		v.stats.interrupted.Add(1)
	} else {
		v.stats.errors.Add(1)
		h.failed.note(off, int64(len(dest)), took)
	}
	if corrupt && !h.node.corrupt.Swap(true) {
		v.distrust(h.node)
	}
	return nil, errno
}

var _ = (fusefs.FileLseeker)((*handle)(nil))

func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	size := h.node.size
	if off >= uint64(size) {
		return 0, syscall.ENXIO
	}
	var at int64
	var err error
	switch whence {
	case unix.SEEK_DATA:
		at, err = h.src.SeekData(int64(off))
		if err == nil && at >= size {
			return 0, syscall.ENXIO
		}
	case unix.SEEK_HOLE:
		at, err = h.src.SeekHole(int64(off))
		at = min(at, size)
	default:
		return 0, syscall.EINVAL
	}
	if err == nil && at < int64(off) {
		err = fmt.Errorf("seek from %d went back to %d", off, at)
	}
	if err != nil {
		h.node.vfs.report(&h.node.errs, err, syscall.EIO, "seek", "release", h.node.parent.name, "file", h.node.name)
		return 0, syscall.EIO
	}
	return uint64(at), 0
}

var _ = (fusefs.FilePassthroughFder)((*handle)(nil))

// PassthroughFd is asked once per inode. The descriptor outlives the call as the
// owner of the backing file is closed after the last release of the inode.
func (h *handle) PassthroughFd() (int, bool) {
	if h.backing == nil {
		return -1, false
	}
	var n int
	err := withFd(h.backing, func(fd int) { n = fd })
	return n, err == nil
}
