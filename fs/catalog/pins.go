package catalog

import (
	"context"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/bundle"
)

// pinRetry is the pause before an image is tried again that could not be completed.
const pinRetry = time.Minute

// pinner completes images that are pinned, one after the other, behind all readers.
// Catalog.settling guards it.
type pinner struct {
	busy   bool
	failed map[store.Key]time.Time
}

// completePinned begins to complete the first image that has to be all here and is
// not: one that is pinned, or that a machine is based on. The next look goes on.
// Catalog.settling is held.
func (c *Catalog) completePinned(n needs) {
	if c.pinner.busy || !c.cfg.Resident {
		return
	}
	for _, r := range c.Snapshot().All() {
		p, ok := r.Peek()
		if !ok || p.Refusal() != "" {
			continue
		}
		for _, f := range p.All() {
			st := f.Status()
			_, pinned := n.pins[f.CacheKey()]
			based := c.cfg.Complete && len(n.machines[r.Name()]) > 0
			if !st.Image || !pinned && !based || st.Refused != "" || st.State != store.Partial.String() || time.Since(c.pinner.failed[f.CacheKey()]) < pinRetry {
				continue
			}
			c.pinner.busy = c.tasks.run(func(ctx context.Context) { c.completePin(ctx, r, f) })
			return
		}
	}
}

func (c *Catalog) completePin(ctx context.Context, r *Release, f *bundle.File) {
	err := complete(ctx, f)
	if err != nil && ctx.Err() == nil {
		c.cfg.Logger.Warn("an image that is to stay cannot be completed yet", "release", r.Name(), "file", f.Name(), "err", err)
	}
	c.settling.Lock()
	c.pinner.busy = false
	if c.pinner.failed == nil {
		c.pinner.failed = make(map[store.Key]time.Time)
	}
	delete(c.pinner.failed, f.CacheKey())
	if err != nil {
		c.pinner.failed[f.CacheKey()] = time.Now()
	}
	c.settling.Unlock()
	if ctx.Err() == nil {
		c.notify()
		c.settle()
	}
}

// complete fetches and checks all of a file.
func complete(ctx context.Context, f *bundle.File) error {
	h, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	w, ok := h.(interface{ Complete(context.Context) error })
	if !ok {
		return nil
	}
	return w.Complete(ctx)
}
