package fs

import (
	"context"
	"strings"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	feedName   = "feed.xml"
	latestName = "latest"
	hiddenName = ".vmcastfs"
	statusName = "status.json"
	bootSuffix = ".boot" // behind the key of an image
	bootKey    = 64      // its length
)

// rootNode is the top directory. Its operations never wait.
type rootNode struct{ node }

var _ = (fusefs.NodeLookuper)((*rootNode)(nil))

func (r *rootNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	out.SetEntryTimeout(r.vfs.opts.shortly)
	snap := r.vfs.tree.Snapshot()
	switch name {
	case feedName:
		n := newFeedNode(r.vfs, snap)
		return n.enter(ctx, &r.Inode, n, out)
	case latestName:
		target := newest(snap)
		if target == "" {
			return nil, syscall.ENOENT
		}
		n := newLatestNode(r.vfs, target, snap)
		return n.enter(ctx, &r.Inode, n, out)
	case hiddenName:
		n := newHiddenNode(r.vfs)
		out.SetEntryTimeout(foreverish)
		return n.enter(ctx, &r.Inode, n, out)
	}
	rel, ok := r.vfs.release(name)
	if !ok {
		return nil, syscall.ENOENT
	}
	n := newReleaseNode(r.vfs, rel, snap.FeedTime())
	id := releaseIdentity(rel)
	n.attr(&out.Attr, id)
	out.SetAttrTimeout(foreverish)
	return r.NewInode(ctx, n, id), 0
}

var _ = (fusefs.NodeReaddirer)((*rootNode)(nil))

func (r *rootNode) Readdir(context.Context) (fusefs.DirStream, syscall.Errno) {
	snap := r.vfs.tree.Snapshot()
	list := append(dots(rootIno, rootIno), dirEntry(feedName, newFeedNode(r.vfs, snap).id))
	if target := newest(snap); target != "" {
		list = append(list, dirEntry(latestName, newLatestNode(r.vfs, target, snap).id))
	}
	for _, rel := range r.vfs.releases() {
		list = append(list, dirEntry(rel.Name(), releaseIdentity(rel)))
	}
	return fusefs.NewListDirStream(list), 0
}

var _ = (fusefs.NodeGetattrer)((*rootNode)(nil))

func (r *rootNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	snap := r.vfs.tree.Snapshot()
	id := fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: rootIno}
	r.vfs.setAttr(&out.Attr, id, 3+len(r.vfs.releases()), 0, snap.FeedTime())
	out.SetTimeout(r.vfs.opts.shortly)
	return 0
}

// hiddenNode is .vmcastfs.
type hiddenNode struct{ plain }

func newHiddenNode(v *vfs) *hiddenNode {
	started := func() time.Time { return v.started }
	return &hiddenNode{newPlain(v, identity(syscall.S_IFDIR, "", 0, hiddenName), 2, 0, started)}
}

var _ = (fusefs.NodeLookuper)((*hiddenNode)(nil))

func (h *hiddenNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	n := newStatusNode(h.vfs, statusName, h.vfs.tree.StatusJSON)
	if key, ok := strings.CutSuffix(name, bootSuffix); ok && len(key) == bootKey {
		n = newStatusNode(h.vfs, name, func() []byte { return catalog.BootJSON(h.vfs.tree, key) })
	} else if name != statusName {
		return nil, syscall.ENOENT
	}
	n.attr(&out.Attr)
	out.SetEntryTimeout(foreverish)
	return h.NewInode(ctx, n, n.id), 0
}

var _ = (fusefs.NodeReaddirer)((*hiddenNode)(nil))

func (h *hiddenNode) Readdir(context.Context) (fusefs.DirStream, syscall.Errno) {
	list := append(dots(h.id.Ino, rootIno), dirEntry(statusName, newStatusNode(h.vfs, statusName, nil).id))
	return fusefs.NewListDirStream(list), 0
}

// newest is what "latest" points to; "": there is no release.
func newest(s *catalog.Snapshot) string {
	if r := s.Latest(); r != nil {
		return r.Name()
	}
	return ""
}
