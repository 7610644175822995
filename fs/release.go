package fs

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vmcastfs/cache/meter"
)

// releaseNode is the directory of one generation of a release.
type releaseNode struct {
	node
	release *catalog.Release
	feed    int64 // Unix time of the feed, which stands in for a missing publication date
	errs    meter.Limiter

	dirsOnce sync.Once
	dirs     map[string]struct{} // set by isDir

	looked int // files that the kernel was told of; guarded by known.mu
}

func releaseIdentity(r *catalog.Release) fusefs.StableAttr {
	return identity(syscall.S_IFDIR, r.Name(), r.Generation(), "")
}

// newReleaseNode shows r of a feed from feedTime.
func newReleaseNode(v *vfs, r *catalog.Release, feedTime time.Time) *releaseNode {
	return &releaseNode{node: node{vfs: v}, release: r, feed: feedTime.Unix()}
}

func (r *releaseNode) key() releaseID { return releaseID{r.release.Name(), r.release.Generation()} }

// time is that of the directory: the feed may change the date of a release.
func (r *releaseNode) time() time.Time { return cmp.Or(r.release.Published(), time.Unix(r.feed, 0)) }

func (r *releaseNode) attr(out *fuse.Attr, id fusefs.StableAttr) {
	r.vfs.setAttr(out, id, 2, 0, r.time())
}

var _ = (fusefs.NodeGetattrer)((*releaseNode)(nil))

func (r *releaseNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.attr(&out.Attr, r.StableAttr())
	out.SetTimeout(foreverish)
	return 0
}

var _ = (fusefs.NodeGetxattrer)((*releaseNode)(nil))

// Getxattr tells when the feed dropped the release.
func (r *releaseNode) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	left := r.release.Withdrawn()
	if attr != withdrawnAttr || left.IsZero() {
		return 0, syscall.ENODATA
	}
	return giveAttr(dest, []byte(left.UTC().Format(time.RFC3339)))
}

// open returns the index, waiting for it if this is the first use. Index is how.
func (r *releaseNode) open(w *waiter, index func(context.Context) (*bundle.Package, error)) (*bundle.Package, syscall.Errno) {
	p, err := index(w)
	if errors.Is(err, catalog.ErrNotListed) {
		return nil, syscall.EAGAIN // the log has said so
	}
	if err != nil {
		errno, _ := r.vfs.errno(w, err, &r.errs, "index a release", "release", r.release.Name())
		if errors.Is(err, catalog.ErrIndexing) {
			errno = syscall.EAGAIN
		}
		return nil, errno
	}
	return p, 0
}

func (r *releaseNode) listed(ctx context.Context) (*bundle.Package, error) {
	return catalog.Listed(ctx, r.release)
}

var _ = (fusefs.NodeLookuper)((*releaseNode)(nil))

func (r *releaseNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return r.lookup(ctx, &r.Inode, "", name, out)
}

// lookup finds name in the directory dir, which is in, of the release. in ends
// in a slash unless it is empty.
func (r *releaseNode) lookup(ctx context.Context, dir *fusefs.Inode, in, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if !usableName(name) {
		return nil, syscall.ENOENT
	}
	w := r.vfs.wait(ctx)
	defer w.finish()
	index := r.release.PackageSoon
	if strings.HasPrefix(name, ".") {
		index = r.listed // shells and file managers look for such names
	}
	p, errno := r.open(w, index)
	if errno != 0 {
		return nil, errno
	}
	path := in + name
	if r.isDir(p, path) {
		n := newDirNode(r, path)
		out.SetEntryTimeout(foreverish)
		return n.enter(ctx, dir, n, out)
	}
	f, err := p.Lookup(w, path)
	if err != nil {
		errno, _ := r.vfs.errno(w, err, &r.errs, "look up a file", "release", r.release.Name(), "file", path)
		return nil, errno
	}
	n := newFileNode(r, f)
	out.SetAttrTimeout(n.attr(&out.Attr))
	if out.SetEntryTimeout(foreverish); f.OfFeed() {
		out.SetEntryTimeout(r.vfs.opts.shortly)
	}
	child := dir.NewInode(ctx, n, n.id)
	if r.vfs.known.looked(r, child == &n.Inode) {
		select {
		case r.vfs.forgettable <- struct{}{}:
		default:
		}
	}
	return child, 0
}

var _ = (fusefs.NodeReaddirer)((*releaseNode)(nil))

func (r *releaseNode) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	return r.list(ctx, "", dots(r.StableAttr().Ino, rootIno))
}

// list adds what is directly in the directory in to list.
func (r *releaseNode) list(ctx context.Context, in string, list []fuse.DirEntry) (fusefs.DirStream, syscall.Errno) {
	w := r.vfs.wait(ctx)
	defer w.finish()
	p, errno := r.open(w, r.listed)
	if errno != 0 {
		return nil, errno
	}
	key := r.key()
	lastDir := "" // the files of a directory follow each other
	for _, f := range p.Files() {
		rest, ok := strings.CutPrefix(f.Name(), in)
		if !ok {
			continue
		}
		name, _, deeper := strings.Cut(rest, "/")
		switch {
		case !usableName(name):
		case deeper:
			if name != lastDir {
				list = append(list, dirEntry(name, dirIdentity(key, in+name)))
				lastDir = name
			}
		case !r.isDir(p, f.Name()):
			list = append(list, dirEntry(name, r.vfs.fileIdentity(key, f)))
		}
	}
	return fusefs.NewListDirStream(list), 0
}

// isDir tells a directory of the release; one wins over a file of its name.
func (r *releaseNode) isDir(p *bundle.Package, path string) bool {
	r.dirsOnce.Do(func() { r.dirs = impliedDirs(p.Files()) })
	_, ok := r.dirs[path]
	return ok
}
