package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// releaseNode is the directory of one generation of a release.
type releaseNode struct {
	node
	id      fusefs.StableAttr
	key     releaseID
	release Release
	time    time.Time
	errs    limiter
}

func releaseIdentity(r Release) fusefs.StableAttr {
	return identity(syscall.S_IFDIR, r.Name(), r.Generation(), "")
}

// newReleaseNode shows r; feedTime stands in for a missing publication date.
func newReleaseNode(v *vfs, r Release, feedTime time.Time) *releaseNode {
	return &releaseNode{
		node:    node{vfs: v},
		id:      releaseIdentity(r),
		key:     releaseID{r.Name(), r.Generation()},
		release: r,
		time:    firstTime(r.Published(), feedTime),
	}
}

func (r *releaseNode) attr(out *fuse.Attr) { r.vfs.setAttr(out, r.id, 2, 0, r.time) }

var _ = (fusefs.NodeGetattrer)((*releaseNode)(nil))

func (r *releaseNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.attr(&out.Attr)
	out.SetTimeout(foreverish)
	return 0
}

// open returns the index, waiting for it if this is the first use.
func (r *releaseNode) open(w *waiter) (Package, syscall.Errno) {
	if p, ok := r.release.Peek(); ok {
		return p, 0
	}
	p, err := r.release.Package(w)
	if err != nil {
		errno, _ := r.vfs.errno(w, err, &r.errs, "index a release", "release", r.key.name)
		return nil, errno
	}
	return p, 0
}

var _ = (fusefs.NodeLookuper)((*releaseNode)(nil))

func (r *releaseNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if !usableName(name) {
		return nil, syscall.ENOENT
	}
	w := r.vfs.wait(ctx)
	defer w.finish()
	p, errno := r.open(w)
	if errno != 0 {
		return nil, errno
	}
	f, err := p.Lookup(w, name)
	if err != nil {
		errno, _ := r.vfs.errno(w, err, &r.errs, "look up a file", "release", r.key.name, "file", name)
		return nil, errno
	}
	n := newFileNode(r, f)
	n.attr(&out.Attr)
	out.SetEntryTimeout(foreverish)
	out.SetAttrTimeout(foreverish)
	return r.NewInode(ctx, n, n.id), 0
}

var _ = (fusefs.NodeReaddirer)((*releaseNode)(nil))

func (r *releaseNode) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	w := r.vfs.wait(ctx)
	defer w.finish()
	p, errno := r.open(w)
	if errno != 0 {
		return nil, errno
	}
	files := p.Files()
	list := make([]fuse.DirEntry, 0, 2+len(files))
	list = append(list, dots(r.id.Ino, rootIno)...)
	for _, f := range files {
		if usableName(f.Name()) {
			list = append(list, dirEntry(f.Name(), fileIdentity(r.key, f)))
		}
	}
	return fusefs.NewListDirStream(list), 0
}
