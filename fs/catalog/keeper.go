package catalog

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bases"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/catalog/kept"
)

// keeper knows what keeps a release that its feed drops.
type keeper struct {
	store  *store.Store
	kept   *kept.Dir     // where they are kept on the disk
	vms    string        // directory of the records of machines
	feed   func() string // its URL, as machines' records have it
	cached bool          // cached data keeps it
	log    *slog.Logger
	ctx    context.Context // of the catalog's tasks

	patience time.Duration // with the disk, for a look at all releases
}

// needs say what of the cache and of releases has to stay, by others than the feed.
// ctx bounds the look at the disk, for all releases together.
type needs struct {
	ctx      context.Context
	pins     map[store.Key]int64
	machines map[string][]*bases.Record // by directory name
}

func (k *keeper) needs() (n needs, done func()) {
	n = needs{pins: k.store.Kept(), machines: make(map[string][]*bases.Record)}
	n.ctx, done = context.WithTimeout(k.ctx, k.patience)
	if k.vms != "" {
		records, _ := bases.List(k.vms) // `vmcastfs vm list` tells the faults
		for _, m := range records {
			if m.Feed == k.feed() {
				n.machines[m.Release] = append(n.machines[m.Release], m)
			}
		}
	}
	return n, done
}

// holdOf looks at the disk. A release that nothing is known of on the disk was not
// used.
func (k *keeper) holdOf(r *Release, n needs) (h hold) {
	h.open = r.line.opens.Load() > 0
	for _, m := range n.machines[r.Name()] {
		if m.GUID == r.id {
			h.machines = append(h.machines, m.Name)
		}
	}
	images, known := k.imagesOf(r, n)
	h.unknown = !known && (k.cached || len(n.pins) > 0)
	for _, key := range images {
		if _, pinned := n.pins[key]; pinned {
			h.pinned = true
			if h.pins == nil {
				h.pins = make(map[store.Key]bool)
			}
			h.pins[key] = true
		}
		switch {
		case !k.cached || h.cached:
		case n.ctx.Err() != nil:
			h.unknown = true
		default:
			h.cached = k.isCached(r, key)
		}
	}
	return h
}

// isCached tells whether data of an image is cached that keeps the release. As long as the
// image is as it was, one stat tells.
func (k *keeper) isCached(r *Release, key store.Key) bool {
	stamp, err := k.store.Stamp(key)
	r.mu.Lock()
	opened, same := r.kept, r.cached == stamp
	r.mu.Unlock()
	if err != nil || opened && same {
		return err == nil
	}
	cached := image.IsCached(k.store, key, opened)
	if cached && opened {
		r.mu.Lock()
		r.cached = stamp
		r.mu.Unlock()
	}
	return cached
}

// imagesOf are the keys of the release's images, none if it was never indexed on this
// host. Known is false if that cannot be told now: its sidecar is asked for, say, and
// the server is away.
func (k *keeper) imagesOf(r *Release, n needs) (images []store.Key, known bool) {
	if kept := keptImages(r); kept != nil {
		return kept, true
	}
	if p := local(n.ctx, r); p != nil {
		images, _ = p.Keys()
		return images, true
	}
	switch err := r.LastError(); {
	case n.ctx.Err() != nil:
		return nil, false
	case errors.Is(err, remote.ErrNotFound), errors.Is(err, archive.ErrReplaced):
		return nil, true // what the disk knows is not what was listed
	}
	return nil, !r.record.Known()
}

// keptImages are the keys of the release's images, as it is kept; nil: that does not tell.
func keptImages(r *Release) []store.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return unpackKeys(r.images)
}

// local is the package of a release that the disk knows; nil: it does not.
func local(ctx context.Context, r *Release) *bundle.Package {
	if p, ok := r.Peek(); ok || ctx.Err() != nil || !r.record.Known() {
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, localEach)
	defer cancel()
	p, _ := r.Package(ctx) // its error is in the status
	return p
}

// The disk may hang, and so may the server of a sidecar.
const (
	localTimeout = 5 * time.Second // for all releases of a look
	localEach    = time.Second
)

// keepsPath tells whether a release keeps its path and its bytes though the feed
// names another package for it.
func (k *keeper) keepsPath(r *Release, n needs) bool {
	r.mu.Lock()
	returned := r.returned
	r.mu.Unlock()
	h := k.holdOf(r, n)
	return h.pinned || len(h.machines) > 0 || returned && (h.open || h.cached) || h.unknown && (returned || len(n.pins) > 0)
}

func (k *keeper) stays(r *Release, n needs) bool {
	h := k.holdOf(r, n)
	return h.firm() || h.cached || h.unknown
}

// withdraw has a release stay that left its feed. The disk is told by part. False: it has
// given way to another generation.
func (k *keeper) withdraw(r *Release) bool {
	r.mu.Lock()
	over, first := r.over, r.left.IsZero()
	if !over && first {
		r.left, r.kept = time.Now().UTC().Truncate(time.Second), true
		own := *r.now // the feed's list goes
		r.now = &own
	}
	r.mu.Unlock()
	if !over && first {
		k.log.Info("the feed has dropped a release that this host uses: it stays, and is withdrawn", "release", r.Name())
	}
	return !over
}

// giveWay prepares that another generation takes the place of r, whose archive was
// replaced. False: it does not, since r has left the feed, or there is another already. The
// feed may drop it at any moment.
func (k *keeper) giveWay(r *Release) bool {
	if !r.Withdrawn().IsZero() || r.line.newest.Load() != r {
		return false // what is cached of it goes on being served
	}
	n, done := k.needs()
	defer done()
	if k.keepsPath(r, n) {
		if !k.withdraw(r) {
			return false
		}
		part(r)
		return true
	}
	r.mu.Lock()
	r.over = r.over || r.left.IsZero()
	over := r.over
	r.mu.Unlock()
	if over {
		r.record.Forget() // before the next generation looks for its own
		k.kept.Remove(r.Name())
	}
	return over
}

// part keeps a withdrawn release on the disk, and nowhere else.
func part(r *Release) {
	if p, ok := r.Peek(); ok {
		p.Keep((*outside)(r))
	} else {
		r.record.KeepNow((*outside)(r))
	}
	r.record.Part()
}

// protect has the cache hold what a release is read from.
func (k *keeper) protect(r *Release, h hold, n needs, withdrawn bool) {
	how := store.NoHold
	switch {
	case len(h.machines) > 0 || h.pinned:
		how = store.EvictNever
	case withdrawn:
		how = store.EvictLast
	}
	r.mu.Lock()
	same := r.guard == how
	r.hold = h
	r.mu.Unlock()
	p, ok := r.Peek()
	if !ok && !same {
		p = local(n.ctx, r)
	}
	if p == nil {
		return
	}
	if how == store.EvictNever && !isKept(r) {
		used(r)
	}
	images, lists := p.Keys()
	if how == store.EvictNever && len(h.machines) == 0 {
		images = nil // those that are pinned are kept by that
	}
	for _, key := range append(images, lists...) {
		if err := k.store.SetHold(key, how); err != nil {
			k.log.Warn("the cache may evict what cannot be fetched again", "release", r.Name(), "err", err)
			return
		}
	}
	r.mu.Lock()
	r.guard = how
	r.mu.Unlock()
}

// outside keeps the document of a release's package, and what the feed says of it,
// outside of the cache.
type outside Release

func (o *outside) Put(doc []byte) error {
	r := (*Release)(o)
	r.mu.Lock()
	if p := held(r); p != nil {
		images, _ := p.Keys()
		r.images = packKeys(images)
	}
	as := kept.Release{From: r.from, Item: *r.now, Package: doc, Images: unpackKeys(r.images), Withdrawn: r.left, Returned: r.returned}
	r.mu.Unlock()
	if r.around.kept == nil {
		return bundle.ErrNowhere
	}
	return r.around.kept.Put(as)
}

func (o *outside) Get() []byte {
	r := (*Release)(o)
	k, err := r.around.kept.Get(r.Name())
	if err != nil || k.Item.ID != r.id || feed.URLKey(k.Item.URL) != r.key() {
		return nil // it has made room, or is another generation's
	}
	return k.Package
}

// used has the release kept from now on: a guest may depend on it.
func used(r *Release) {
	r.mu.Lock()
	again, p := r.kept, held(r)
	r.kept = again || p != nil
	r.mu.Unlock()
	if !again && p != nil {
		r.around.run(func(context.Context) { p.Keep((*outside)(r)) })
	}
}

// Withdrawn is when the feed was found to have dropped the release; zero: it has
// not.
func (r *Release) Withdrawn() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Use says that a file of the release is open, until Unuse.
func (r *Release) Use() { r.line.opens.Add(1) }

// Unuse takes one Use back.
func (r *Release) Unuse() {
	if r.line.opens.Add(-1) == 0 && !r.line.newest.Load().Withdrawn().IsZero() {
		r.around.settle()
	}
}
