package catalog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/bundle"
)

// loadKept makes the releases that are kept on the disk, before the feed is shown.
func (c *Catalog) loadKept() {
	for k := range c.cfg.Kept.All() {
		item := k.Item // without the document
		r := newRelease(&c.around, &item, k.From, 1)
		r.left, r.returned, r.kept, r.images = k.Withdrawn, k.Returned, true, packKeys(k.Images)
		r.record = bundle.KeptRecord(c.cfg.Store, k.Item.ID, k.Item.URL, r.around.log, (*outside)(r), !k.Withdrawn.IsZero() || k.Returned)
		if k.Withdrawn.IsZero() {
			c.releases[k.Item.ID] = r // until the feed says otherwise
		} else {
			c.gone = append(c.gone, r)
		}
	}
}

// dropped withdraws those of the current releases that f does not name any more, or names
// another package for, and that stay. The others are as if they had never been. What the
// disk does not tell in time stays, and settleNow decides.
func (k *keeper) dropped(current map[string]*Release, f *feed.Feed) (stay map[*Release]bool) {
	named := make(map[string]feed.Release, len(f.Releases))
	for _, item := range f.Releases {
		named[item.ID] = item
	}
	stay = make(map[*Release]bool)
	n, done := k.needs()
	defer done()
	for id, r := range current {
		item, here := named[id]
		switch {
		case here && samePackage(r.Item(), item):
			continue
		case here && k.keepsPath(r, n) && k.withdraw(r):
			part(r) // before the next one looks for its own
			stay[r] = true
		case !here && k.stays(r, n) && k.withdraw(r):
			stay[r] = true
		default:
			k.kept.Remove(r.Name())
			if here && r.key() == feed.URLKey(item.URL) {
				r.record.Forget() // before the next one looks for its own
			}
		}
	}
	return stay
}

// returning takes the release that an item names again from the withdrawn ones.
func returning(gone []*Release, item feed.Release) (*Release, []*Release) {
	for i, r := range slices.Backward(gone) {
		if r.id == item.ID && samePackage(r.Item(), item) {
			gone = slices.Delete(gone, i, i+1)
			r.mu.Lock()
			r.left, r.returned = time.Time{}, true
			r.mu.Unlock()
			return r, gone
		}
	}
	return nil, gone
}

// named is an item with a directory name.
func named(item *feed.Release, name string) *feed.Release {
	if item.Name == name {
		return item
	}
	own := *item
	own.Name = name
	return &own
}

// freeName is the directory name of a new release: its own, unless a release that
// was withdrawn has that.
func freeName(item *feed.Release, used map[string]string) string {
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
func (c *Catalog) settle() { c.tasks.Run(c.settleNow) }

// partAll keeps releases on the disk that were withdrawn; false: the catalog has ended.
func partAll(c *Catalog, withdrawn map[*Release]bool) bool {
	for r := range withdrawn {
		if c.tasks.Context().Err() != nil {
			return false
		}
		c.settling.Lock()
		if !r.Withdrawn().IsZero() && slices.Contains(c.Snapshot().gone, r) {
			part(r)
		}
		c.settling.Unlock()
	}
	return true
}

// settleNow ends the releases that nothing keeps any more, and has the cache hold
// what the others need. One look takes a bounded time: the next goes on where it ended.
func (c *Catalog) settleNow(ctx context.Context) {
	c.settling.Lock()
	defer c.settling.Unlock()
	n, done := c.keeper.needs()
	defer done()
	s := c.Snapshot()
	over := make(map[*Release]bool)
	all := s.All()
	for range all {
		if ctx.Err() != nil {
			return
		}
		if n.ctx.Err() != nil {
			break
		}
		c.settled++
		r := all[c.settled%len(all)]
		withdrawn := !r.Withdrawn().IsZero()
		if _, loaded := r.Peek(); !loaded && !isKept(r) {
			continue // nobody uses it
		}
		h := c.keeper.holdOf(r, n)
		if h.pinned || len(h.machines) > 0 {
			local(n.ctx, r) // it is completed
		}
		if withdrawn && !h.firm() && !h.cached && !h.unknown {
			over[r] = true
			h = hold{}
		}
		c.keeper.protect(r, h, n, withdrawn && !over[r])
	}
	if len(over) > 0 {
		c.end(over)
	}
	if c.cfg.Resident {
		c.pinner.next(all, n)
		c.warmer.next(s)
	}
}

// pinCompleted is told how completing a pinned image has ended.
func (c *Catalog) pinCompleted(f *bundle.File, err error) {
	c.settling.Lock()
	c.pinner.busy = nil
	if err != nil {
		if c.pinner.failed == nil {
			c.pinner.failed = make(map[store.Key]time.Time)
		}
		c.pinner.failed[f.CacheKey()] = time.Now()
	}
	c.settling.Unlock()
	c.notify()
	c.settle()
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

func isKept(r *Release) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}
