package fs

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vmcastfs/cache/meter"
)

const (
	// foreverish is how long the kernel may believe what cannot change.
	foreverish = time.Hour
	// shortly is how long it may believe what can, and that a name does not
	// exist; the notifier is faster, this is the safety net.
	shortly = time.Second

	fileBlkSize = 64 << 10 // preferred read size shown by stat
	statfsBlock = 4096
	nameMax     = 255
)

// vfs is what the nodes of one mount share.
type vfs struct {
	tree     *catalog.Catalog
	opts     Options
	log      *slog.Logger
	root     *rootNode
	server   *fuse.Server // set before the first request
	stats    stats
	room     room
	reads    sync.Pool // of *readCall
	statuses statuses

	started     time.Time
	panicLog    meter.Limiter
	passthrough atomic.Bool // the kernel lets us
	releasing   releases
	wake        chan struct{} // of the notifier; holds one token

	// mu guards what follows; a leaf.
	mu         sync.Mutex
	open       map[*handle]struct{}
	inUse      map[releaseID]*usage
	uses       uint64 // counts opens, to order usages
	distrusted map[*fileNode]struct{}
}

// A releaseID tells generations of a release apart.
type releaseID struct {
	name       string
	generation uint64
}

// usage says that files of a release are open.
type usage struct {
	release *catalog.Release
	opens   int
	last    uint64 // vfs.uses at the latest open
}

func newVFS(tree *catalog.Catalog, opts Options) *vfs {
	v := &vfs{
		tree:       tree,
		opts:       opts,
		log:        opts.Logger,
		started:    time.Now(),
		wake:       make(chan struct{}, 1),
		open:       make(map[*handle]struct{}),
		inUse:      make(map[releaseID]*usage),
		distrusted: make(map[*fileNode]struct{}),
	}
	v.room.slots.total = grantedSlots(os.Geteuid() == 0)
	v.root = &rootNode{node: node{vfs: v}}
	return v
}

// release finds a release of the feed, or one that left it but is in use.
func (v *vfs) release(name string) (*catalog.Release, bool) {
	if !usableName(name) {
		return nil, false
	}
	if r, ok := v.tree.Snapshot().Release(name); ok {
		return r, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var found *usage
	for id, u := range v.inUse {
		if id.name == name && (found == nil || u.last > found.last) {
			found = u
		}
	}
	if found == nil {
		return nil, false
	}
	return found.release, true
}

// releases lists what the root shows: the feed's releases in its order, then
// those that left it but are in use.
func (v *vfs) releases() []*catalog.Release {
	snap := v.tree.Snapshot()
	var list []*catalog.Release
	for _, r := range snap.Releases() {
		if usableName(r.Name()) {
			list = append(list, r)
		}
	}
	for _, name := range v.usedNames() {
		if _, listed := snap.Release(name); !listed {
			if r, ok := v.release(name); ok {
				list = append(list, r)
			}
		}
	}
	return list
}

func (v *vfs) usedNames() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	seen := make(map[string]bool)
	for id := range v.inUse {
		if !seen[id.name] {
			seen[id.name] = true
			names = append(names, id.name)
		}
	}
	return names
}

// addHandle counts an open file.
func (v *vfs) addHandle(h *handle) {
	v.stats.opens.Add(1)
	if h.backing != nil {
		v.stats.passthrough.Add(1)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open[h] = struct{}{}
	id := h.node.parent
	u := v.inUse[id]
	if u == nil {
		u = &usage{release: h.node.release}
		v.inUse[id] = u
	}
	u.opens++
	v.uses++
	u.last = v.uses
}

// removeHandle closes an open file, once.
func (v *vfs) removeHandle(h *handle) {
	v.mu.Lock()
	_, known := v.open[h]
	delete(v.open, h)
	unused := false
	if known {
		id := h.node.parent
		u := v.inUse[id]
		if u.opens--; u.opens == 0 {
			delete(v.inUse, id)
			unused = true
		}
	}
	v.mu.Unlock()
	if !known {
		return
	}
	for _, src := range h.node.io.released(h.src) {
		if err := src.Close(); err != nil {
			v.log.Warn("close of an image", "release", h.node.parent.name, "file", h.node.file.Name(), "err", err)
		}
	}
	if unused {
		v.poke() // its release may have been kept only for this file
	}
}

// closeAll closes what the kernel will not release any more, as the connection
// is gone.
func (v *vfs) closeAll() {
	v.mu.Lock()
	left := make([]*handle, 0, len(v.open))
	for h := range v.open {
		left = append(left, h)
	}
	v.mu.Unlock()
	for _, h := range left {
		v.removeHandle(h)
	}
}

// errno translates err for a caller whose wait was w, and logs it.
func (v *vfs) errno(w *waiter, err error, l *meter.Limiter, what string, args ...any) (errno syscall.Errno, corrupt bool) {
	errno, corrupt = toErrno(w, v.opts.Errors, err)
	v.report(l, err, errno, what, args...)
	return errno, corrupt
}

func (v *vfs) wait(ctx context.Context) *waiter {
	return newWaiter(ctx, v.opts.InterruptGrace, &v.room)
}

func (v *vfs) setAttr(out *fuse.Attr, id fusefs.StableAttr, nlink int, size int64, times time.Time) {
	out.Ino = id.Ino
	out.Mode = id.Mode
	switch id.Mode {
	case syscall.S_IFDIR:
		out.Mode |= 0o555 &^ v.opts.Umask
	case syscall.S_IFLNK:
		out.Mode |= 0o777
	default:
		out.Mode |= 0o444 &^ v.opts.Umask
	}
	out.Nlink = uint32(nlink)
	out.Size = uint64(size)
	out.Blocks = uint64(size+511) / 512
	out.Blksize = fileBlkSize
	out.Uid, out.Gid = v.opts.UID, v.opts.GID
	if times.IsZero() {
		times = time.Unix(0, 0)
	}
	out.SetTimes(&times, &times, &times)
}

// firstTime is the first that is known.
func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}
