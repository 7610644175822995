package fs

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
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
	known       known
	forgettable chan struct{} // wakes the forgetter; holds one token

	// mu guards what follows; a leaf.
	mu         sync.Mutex
	open       map[*handle]struct{}
	distrusted map[*fileNode]struct{}
}

// A releaseID tells generations of a release apart.
type releaseID struct {
	name       string
	generation uint64
}

func newVFS(tree *catalog.Catalog, opts Options) *vfs {
	v := &vfs{
		tree:        tree,
		opts:        opts,
		log:         opts.Logger,
		started:     time.Now(),
		known:       known{room: knownRoom},
		wake:        make(chan struct{}, 1),
		forgettable: make(chan struct{}, 1),
		open:        make(map[*handle]struct{}),
		distrusted:  make(map[*fileNode]struct{}),
	}
	v.room.slots.total = grantedSlots(os.Geteuid() == 0)
	v.root = &rootNode{node: node{vfs: v}}
	return v
}

// release finds a release of the feed, or one that left it and stays.
func (v *vfs) release(name string) (*catalog.Release, bool) {
	if !usableName(name) {
		return nil, false
	}
	return v.tree.Snapshot().Release(name)
}

// releases lists what the root shows: the feed's releases in its order, then
// those that left it and stay.
func (v *vfs) releases() []*catalog.Release { return v.releasesOf(v.tree.Snapshot()) }

func (v *vfs) releasesOf(snap *catalog.Snapshot) []*catalog.Release {
	return slices.DeleteFunc(v.opts.reach.all(snap), func(r *catalog.Release) bool { return !usableName(r.Name()) })
}

// addHandle counts an open file.
func (v *vfs) addHandle(h *handle) {
	v.stats.opens.Add(1)
	if h.backing != nil {
		v.stats.passthrough.Add(1)
	}
	h.node.release.Use()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open[h] = struct{}{}
}

// removeHandle closes an open file, once.
func (v *vfs) removeHandle(h *handle) {
	v.mu.Lock()
	_, known := v.open[h]
	delete(v.open, h)
	v.mu.Unlock()
	if !known {
		return
	}
	for _, src := range h.node.io.released(h.src) {
		if err := src.Close(); err != nil {
			v.log.Warn("close of an image", "release", h.node.parent.name, "file", h.node.name, "err", err)
		}
	}
	h.node.release.Unuse()
}

// closeAll closes what the kernel will not release any more, as the connection
// is gone.
func (v *vfs) closeAll() {
	v.mu.Lock()
	left := slices.Collect(maps.Keys(v.open))
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
