package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/bases"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/kept"
)

// needs say what of the cache and of releases has to stay, by others than the feed.
type needs struct {
	pins     map[store.Key]int64
	machines map[string][]*bases.Record // by directory name
}

func (c *Catalog) needs() needs {
	n := needs{pins: c.cfg.Store.Kept(), machines: make(map[string][]*bases.Record)}
	if c.cfg.VMs != "" {
		records, _ := bases.List(c.cfg.VMs) // `vmcastfs vm list` tells the faults
		for _, m := range records {
			if m.Feed == c.poller.Status().URL {
				n.machines[m.Release] = append(n.machines[m.Release], m)
			}
		}
	}
	return n
}

// A hold is why a release stays though the feed drops it.
type hold struct {
	open, pinned, cached bool
	machines             []string
	pins                 map[store.Key]bool // images
}

// firm tells of more than cached data.
func (h hold) firm() bool { return h.open || h.pinned || len(h.machines) > 0 }

// reasons are the words of status.json.
func (h hold) reasons() (words []string) {
	for _, x := range []struct {
		is   bool
		word string
	}{{h.open, "open"}, {h.pinned, "pinned"}, {h.cached, "cached"}} {
		if x.is {
			words = append(words, x.word)
		}
	}
	for _, m := range h.machines {
		words = append(words, "machine "+m)
	}
	return words
}

// holdOf looks at the disk. A release that nothing is known of on the disk was not
// used.
func (c *Catalog) holdOf(r *Release, n needs) (h hold) {
	h.open = r.line.opens.Load() > 0
	for _, m := range n.machines[r.Name()] {
		if m.GUID == r.item.ID {
			h.machines = append(h.machines, m.Name)
		}
	}
	for _, key := range c.imagesOf(r) {
		if _, pinned := n.pins[key]; pinned {
			h.pinned = true
			if h.pins == nil {
				h.pins = make(map[store.Key]bool)
			}
			h.pins[key] = true
		}
		if c.cfg.KeepCached && !h.cached {
			i, err := c.cfg.Store.Stat(key)
			h.cached = err == nil && i.Bytes > 0
		}
	}
	return h
}

// imagesOf are the keys of the release's images, none if it was never indexed on this
// host.
func (c *Catalog) imagesOf(r *Release) []store.Key {
	r.mu.Lock()
	images := r.images
	r.mu.Unlock()
	if images == nil {
		if p := c.local(r); p != nil {
			images, _ = p.Keys()
		}
	}
	return images
}

// local is the package of a release that the disk knows; nil: it does not.
func (c *Catalog) local(r *Release) *bundle.Package {
	if p, ok := r.Peek(); ok || !r.record.Known() {
		return p
	}
	ctx, cancel := context.WithTimeout(c.tasks.ctx, localTimeout)
	defer cancel()
	p, _ := r.Package(ctx) // its error is in the status
	return p
}

// localTimeout bounds what is asked of the disk alone, which may hang as well.
const localTimeout = 5 * time.Second

// keepsPath tells whether a release keeps its path and its bytes though the feed
// names another package for it.
func (c *Catalog) keepsPath(r *Release) bool {
	r.mu.Lock()
	returned := r.returned
	r.mu.Unlock()
	h := c.holdOf(r, c.needs())
	return h.pinned || len(h.machines) > 0 || returned && (h.open || h.cached)
}

// loadKept makes the releases that are kept on the disk, before the feed is shown.
func (c *Catalog) loadKept() {
	for _, k := range c.cfg.Kept.Load() {
		r := newRelease(&c.around, k.Item, k.From, 1)
		r.left, r.returned, r.kept, r.images = k.Withdrawn, k.Returned, true, k.Images
		r.record = bundle.KeptRecord(c.cfg.Store, k.Item.ID, r.key(), r.around.log, k.Package, r.keepDocument, !k.Withdrawn.IsZero() || k.Returned)
		if k.Withdrawn.IsZero() {
			c.releases[k.Item.ID] = r // until the feed says otherwise
		} else {
			c.gone = append(c.gone, r)
		}
	}
}

// keepDocument keeps the document of the release's package, and what the feed says
// of it, outside of the cache.
func (r *Release) keepDocument(doc []byte) error {
	r.mu.Lock()
	if r.pkg != nil {
		r.images, _ = r.pkg.Keys()
	}
	k := kept.Release{From: r.from, Item: r.now, Package: doc, Images: r.images, Withdrawn: r.left, Returned: r.returned}
	r.mu.Unlock()
	return r.around.kept.Put(k)
}

// used has the release kept from now on: a guest may depend on it.
func (r *Release) used() {
	r.mu.Lock()
	again, p := r.kept, r.pkg
	r.kept = r.kept || p != nil
	r.mu.Unlock()
	if !again && p != nil {
		r.around.run(func(context.Context) { p.Keep(r.keepDocument) })
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

// withdraw keeps a release on the disk as one that left its feed.
func (c *Catalog) withdraw(r *Release) {
	r.mu.Lock()
	r.left, r.kept = time.Now().UTC().Truncate(time.Second), true
	r.mu.Unlock()
	if p, ok := r.Peek(); ok {
		p.Keep(r.keepDocument)
	} else {
		r.record.KeepAgain()
	}
	r.record.Part()
	c.cfg.Logger.Info("the feed has dropped a release that this host uses: it stays, and is withdrawn", "release", r.Name())
}

// dropped withdraws those releases that f does not name any more, or names another
// package for, and that stay. The others are as if they had never been.
func (c *Catalog) dropped(f *feed.Feed) (stay map[*Release]bool) {
	named := make(map[string]feed.Release, len(f.Releases))
	for _, item := range f.Releases {
		named[item.ID] = item
	}
	c.mu.Lock()
	current := maps.Clone(c.releases)
	c.mu.Unlock()
	stay = make(map[*Release]bool)
	n := c.needs()
	for id, r := range current {
		item, here := named[id]
		switch {
		case here && samePackage(r.Item(), item):
			continue
		case here && c.keepsPath(r), !here && c.stays(r, n):
			c.withdraw(r)
			stay[r] = true
		default:
			c.cfg.Kept.Remove(r.Name())
			if here && r.key() == feed.URLKey(item.URL) {
				r.record.Forget() // before the next one looks for its own
			}
		}
	}
	return stay
}

func (c *Catalog) stays(r *Release, n needs) bool {
	h := c.holdOf(r, n)
	return h.firm() || h.cached
}

// returning finds the withdrawn release that an item names again; c.mu is held.
func (c *Catalog) returning(item feed.Release) *Release {
	for i, r := range slices.Backward(c.gone) {
		if r.item.ID == item.ID && samePackage(r.Item(), item) {
			c.gone = slices.Delete(c.gone, i, i+1)
			r.mu.Lock()
			r.left, r.returned = time.Time{}, true
			r.mu.Unlock()
			return r
		}
	}
	return nil
}

// freeName is the directory name of a new release: its own, unless a release that
// was withdrawn has that.
func freeName(item feed.Release, used map[string]string) string {
	name := item.Name
	for n := 2; ; n++ {
		if id, taken := used[name]; !taken || id == item.ID {
			used[name] = item.ID
			return name
		}
		name = fmt.Sprintf("%s-%d", item.Name, n)
	}
}

// settle looks in the background at what still has to stay.
func (c *Catalog) settle() { c.tasks.run(c.settleNow) }

// settleNow ends the releases that nothing keeps any more, and has the cache hold
// what the others need.
func (c *Catalog) settleNow(ctx context.Context) {
	c.settling.Lock()
	defer c.settling.Unlock()
	n := c.needs()
	s := c.Snapshot()
	over := make(map[*Release]bool)
	for _, r := range s.All() {
		if ctx.Err() != nil {
			return
		}
		withdrawn := !r.Withdrawn().IsZero()
		if _, loaded := r.Peek(); !loaded && !r.isKept() {
			continue // nobody uses it
		}
		h := c.holdOf(r, n)
		if withdrawn || h.pinned || len(h.machines) > 0 {
			c.local(r)
		}
		if withdrawn && !h.firm() && !h.cached {
			over[r] = true
			h = hold{}
		}
		c.protect(r, h, withdrawn && !over[r])
	}
	if len(over) > 0 {
		c.end(over)
	}
	c.completePinned(n)
}

// protect has the cache hold what a release is read from.
func (c *Catalog) protect(r *Release, h hold, withdrawn bool) {
	r.mu.Lock()
	r.hold = h
	r.mu.Unlock()
	how := store.NoHold
	switch {
	case len(h.machines) > 0 || h.pinned:
		how = store.EvictNever
	case withdrawn:
		how = store.EvictLast
	}
	p, ok := r.Peek()
	if !ok {
		return
	}
	if how == store.EvictNever && !r.isKept() {
		r.used()
	}
	images, lists := p.Keys()
	if how == store.EvictNever && len(h.machines) == 0 {
		images = nil // those that are pinned are kept by that
	}
	for _, key := range append(images, lists...) {
		if err := c.cfg.Store.SetHold(key, how); err != nil {
			c.cfg.Logger.Warn("the cache may evict what cannot be fetched again", "release", r.Name(), "err", err)
			return
		}
	}
}

// end takes withdrawn releases out of the tree, unless a file has been opened since.
func (c *Catalog) end(over map[*Release]bool) {
	c.mu.Lock()
	for r := range over {
		if r.line.opens.Load() > 0 || r.Withdrawn().IsZero() {
			delete(over, r)
		}
	}
	for r := range over {
		c.left = max(c.left, r.generation)
	}
	c.gone = slices.DeleteFunc(c.gone, func(r *Release) bool { return over[r] })
	c.snapshot.Store(c.snapshot.Load().with(c.gone))
	c.mu.Unlock()
	for r := range over {
		c.cfg.Kept.Remove(r.Name())
		c.cfg.Logger.Info("a withdrawn release is not used any more, and has left the tree", "release", r.Name())
	}
	c.notify()
}

func (r *Release) isKept() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}
