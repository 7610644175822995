package fs

import (
	"cmp"
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

// fileNode is a file of a release. The kernel may know it for long, so it does not hold
// the package: see find.
type fileNode struct {
	node
	id      fusefs.StableAttr
	parent  releaseID
	release *catalog.Release
	name    string
	size    int64
	time    time.Time
	io      ioMode
	errs    meter.Limiter
	slot    slotUser
	corrupt atomic.Bool // a read said so

	blocks  atomic.Int64 // as stat has it
	settled atomic.Bool  // they stay
}

// errStale: the name is another file by now.
var errStale = errors.New("the file is another one by now")

// find finds the file in its package, which is read from the disk if it was given
// back.
func (f *fileNode) find(w *waiter) (*bundle.Package, *bundle.File, error) {
	p, err := f.release.PackageSoon(w)
	if err != nil {
		return nil, nil, err
	}
	file, err := p.Lookup(w, f.name)
	if err == nil && f.vfs.fileIdentity(f.parent, file).Ino != f.id.Ino {
		err = errStale
	}
	return p, file, err
}

func (v *vfs) fileIdentity(parent releaseID, f *bundle.File) fusefs.StableAttr {
	id := identity(syscall.S_IFREG, parent.name, parent.generation, f.Name())
	id.Ino = usableIno(v.opts.reach.inode(f))
	return id
}

func newFileNode(r *releaseNode, f *bundle.File) *fileNode {
	n := &fileNode{
		node:    node{vfs: r.vfs},
		id:      r.vfs.fileIdentity(r.key(), f),
		parent:  r.key(),
		release: r.release,
		name:    f.Name(),
		size:    max(f.Size(), 0),
		time:    cmp.Or(f.ModTime(), r.time()),
	}
	n.count(f)
	return n
}

// count takes note of the blocks of the file.
func (f *fileNode) count(file *bundle.File) {
	n, settled := file.Blocks()
	f.blocks.Store(max(n, 0))
	f.settled.Store(settled)
}

// attr fills in the attributes, and says how long the kernel may believe them: not
// at all while holes of the image may become known, as when it is opened first.
func (f *fileNode) attr(out *fuse.Attr) (timeout time.Duration) {
	f.vfs.setAttr(out, f.id, 1, f.size, f.time)
	if !f.settled.Load() {
		if p, ok := f.release.Peek(); ok {
			if file := p.File(f.name); file != nil {
				f.count(file)
			}
		}
	}
	if out.Blocks = uint64(f.blocks.Load()); !f.settled.Load() {
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

func (f *fileNode) Getxattr(ctx context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	if !strings.HasPrefix(attr, xattrPrefix) {
		return 0, syscall.ENODATA
	}
	w := f.vfs.wait(ctx)
	defer w.finish()
	_, file, err := f.find(w)
	if err != nil {
		return 0, syscall.ENODATA
	}
	value, ok := file.Attr(attr)
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
	p, file, err := f.find(w)
	var src image.Handle
	if err == nil {
		src, err = f.vfs.opts.reach.open(w, file)
	}
	if errors.Is(err, errStale) {
		return nil, 0, syscall.ESTALE
	}
	if err != nil {
		if errno := atOpen(f.vfs.opts.Errors, err); errno != 0 {
			return nil, 0, errno
		}
		errno, _ := f.vfs.errno(w, err, &f.errs, "open an image", "release", f.parent.name, "file", f.name)
		return nil, 0, errno
	}
	p.Opened()
	h := &handle{node: f, pkg: p, src: src}
	h.backing = f.io.opened(src, f.offer(src))
	f.vfs.addHandle(h)
	if h.backing != nil && flags&syscall.O_DIRECT != 0 {
		// The local file's disk would refuse what is not aligned to it; an incomplete
		// image does not. Such reads come to us in either mode.
		return h, fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH, 0
	}
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
			"release", f.parent.name, "file", f.name, "err", err)
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
