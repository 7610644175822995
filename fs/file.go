package fs

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vmcastfs/cache/meter"
)

const (
	xattrPrefix   = "user.vmcast."
	withdrawnAttr = xattrPrefix + "withdrawn"
)

// fileNode is a file of a release.
type fileNode struct {
	node
	id      fusefs.StableAttr
	parent  releaseID
	release *catalog.Release
	file    *bundle.File
	size    int64
	time    time.Time
	io      ioMode
	errs    meter.Limiter
	slot    slotUser
	corrupt atomic.Bool // a read said so
}

func (v *vfs) fileIdentity(parent releaseID, f *bundle.File) fusefs.StableAttr {
	id := identity(syscall.S_IFREG, parent.name, parent.generation, f.Name())
	id.Ino = usableIno(v.opts.reach.inode(f))
	return id
}

func newFileNode(r *releaseNode, f *bundle.File) *fileNode {
	return &fileNode{
		node:    node{vfs: r.vfs},
		id:      r.vfs.fileIdentity(r.key, f),
		parent:  r.key,
		release: r.release,
		file:    f,
		size:    max(f.Size(), 0),
		time:    firstTime(f.ModTime(), r.time()),
	}
}

// attr fills in the attributes, and says how long the kernel may believe them: not
// at all while holes of the image may become known, as when it is opened first.
func (f *fileNode) attr(out *fuse.Attr) (timeout time.Duration) {
	f.vfs.setAttr(out, f.id, 1, f.size, f.time)
	n, settled := f.file.Blocks()
	if out.Blocks = uint64(max(n, 0)); !settled {
		return 0
	}
	return foreverish
}

var _ = (fusefs.NodeGetattrer)((*fileNode)(nil))

func (f *fileNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.SetTimeout(f.attr(&out.Attr))
	return 0
}

var _ = (fusefs.NodeGetxattrer)((*fileNode)(nil))

func (f *fileNode) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	if !strings.HasPrefix(attr, xattrPrefix) {
		return 0, syscall.ENODATA
	}
	value, ok := f.file.Attr(attr)
	if !ok {
		return 0, syscall.ENODATA
	}
	return giveAttr(dest, value)
}

func giveAttr(dest, value []byte) (uint32, syscall.Errno) {
	if len(value) > len(dest) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

var _ = (fusefs.NodeOpener)((*fileNode)(nil))

func (f *fileNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writing(flags) {
		return nil, 0, syscall.EROFS
	}
	w := f.vfs.wait(ctx)
	defer w.finish()
	src, err := f.vfs.opts.reach.open(w, f.file)
	if err != nil {
		if errno := atOpen(f.vfs.opts.Errors, err); errno != 0 {
			return nil, 0, errno
		}
		errno, _ := f.vfs.errno(w, err, &f.errs, "open an image", "release", f.parent.name, "file", f.file.Name())
		return nil, 0, errno
	}
	h := &handle{node: f, src: src}
	h.backing = f.io.opened(src, f.offer(src))
	f.vfs.addHandle(h)
	return h, fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
}

// offer returns src's local file if the kernel would take it for passthrough.
// Only the first open of an inode decides, so only that asks.
func (f *fileNode) offer(src image.Handle) *os.File {
	if !f.vfs.passthrough.Load() || !f.io.idle() {
		return nil
	}
	local, ok := src.PassthroughFile()
	if !ok {
		return nil
	}
	if err := f.vfs.tryPassthrough(local); err != nil {
		if errors.Is(err, syscall.EPERM) {
			f.vfs.passthrough.Store(false)
		}
		f.vfs.log.Info("no passthrough; reads go through the page cache instead",
			"release", f.parent.name, "file", f.file.Name(), "err", err)
		return nil
	}
	return local
}

// tryPassthrough registers local with the kernel, and takes it back: go-fuse
// registers it again, but may not fail (see the package comment).
func (v *vfs) tryPassthrough(local *os.File) error {
	var id int32
	errno := syscall.EBADF
	if err := withFd(local, func(fd int) {
		id, errno = v.server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	v.server.UnregisterBackingFd(id)
	return nil
}

func withFd(f *os.File, do func(fd int)) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { do(int(fd)) })
}
