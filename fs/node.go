package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is what all nodes have in common: they refuse changes. The kernel does so
// by itself while the mount is read-only; go-fuse's defaults for Unlink and Rmdir
// would pretend success after a remount.
type node struct {
	fusefs.Inode
	vfs *vfs
}

var _ interface {
	fusefs.NodeSetattrer
	fusefs.NodeSetxattrer
	fusefs.NodeRemovexattrer
	fusefs.NodeMkdirer
	fusefs.NodeMknoder
	fusefs.NodeLinker
	fusefs.NodeSymlinker
	fusefs.NodeUnlinker
	fusefs.NodeRmdirer
	fusefs.NodeRenamer
	fusefs.NodeFsyncer
	fusefs.NodeStatfser
} = (*node)(nil)

func (n *node) Setattr(context.Context, fusefs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

func (n *node) Setxattr(context.Context, string, []byte, uint32) syscall.Errno {
	return syscall.EROFS
}

func (n *node) Removexattr(context.Context, string) syscall.Errno { return syscall.EROFS }

func (n *node) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (n *node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (n *node) Link(context.Context, fusefs.InodeEmbedder, string, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

func (n *node) Unlink(context.Context, string) syscall.Errno { return syscall.EROFS }

func (n *node) Rmdir(context.Context, string) syscall.Errno { return syscall.EROFS }

func (n *node) Rename(context.Context, string, fusefs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EROFS
}

// Fsync has nothing to do, but fsync(2) of a file opened for reading succeeds
// everywhere else.
func (n *node) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno { return 0 }

// plain is a node whose attributes are the same at all times, but for its time.
type plain struct {
	node
	id    fusefs.StableAttr
	links int
	size  int
	time  func() time.Time
}

func newPlain(v *vfs, id fusefs.StableAttr, links, size int, time func() time.Time) plain {
	return plain{node{vfs: v}, id, links, size, time}
}

func (p *plain) attr(out *fuse.Attr) { p.vfs.setAttr(out, p.id, p.links, int64(p.size), p.time()) }

var _ = (fusefs.NodeGetattrer)((*plain)(nil))

func (p *plain) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	p.attr(&out.Attr)
	out.SetTimeout(foreverish)
	return 0
}

// enter makes n, which p is the base of, an entry of dir.
func (p *plain) enter(ctx context.Context, dir *fusefs.Inode, n fusefs.InodeEmbedder, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	p.attr(&out.Attr)
	out.SetAttrTimeout(foreverish)
	return dir.NewInode(ctx, n, p.id), 0
}

// Statfs reports the sum of all files known so far, and no free space.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	var size, files uint64
	for _, r := range n.vfs.releases() {
		files++
		p, ok := r.Peek()
		if !ok {
			continue
		}
		for _, f := range p.Files() {
			size += uint64(max(f.Size(), 0))
			files++
		}
	}
	out.Bsize, out.Frsize = statfsBlock, statfsBlock
	out.Blocks = (size + statfsBlock - 1) / statfsBlock
	out.Files = files
	out.NameLen = nameMax
	return 0
}

// writing tells whether open flags ask for more than reading.
func writing(flags uint32) bool {
	return flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
}

func dirEntry(name string, id fusefs.StableAttr) fuse.DirEntry {
	return fuse.DirEntry{Name: name, Mode: id.Mode, Ino: id.Ino}
}

// dots are the entries that every directory begins with.
func dots(self, parent uint64) []fuse.DirEntry {
	return []fuse.DirEntry{
		{Name: ".", Mode: syscall.S_IFDIR, Ino: self},
		{Name: "..", Mode: syscall.S_IFDIR, Ino: parent},
	}
}
