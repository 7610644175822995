package catalog

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/bundle"
)

// pinRetry is the pause before an image is tried again that could not be completed.
const pinRetry = time.Minute

// pinner completes images that are pinned, or that machines are based on, one after
// the other, behind all readers. Catalog.settling guards busy and failed.
type pinner struct {
	run      func(func(context.Context)) bool
	done     func(*bundle.File, error) // told when one is completed, or cannot be
	complete bool                      // bases of machines too
	log      *slog.Logger

	busy   *bundle.File // nil: none
	failed map[store.Key]time.Time
}

// next begins to complete the first image that has to be all here and is not. The
// look that follows it goes on.
func (p *pinner) next(releases []*Release, n needs) {
	if p.busy != nil {
		return
	}
	for _, r := range releases {
		pkg, ok := r.Peek()
		if !ok || pkg.Refusal() != "" {
			continue
		}
		for _, f := range pkg.All() {
			st := f.Status()
			_, pinned := n.pins[f.CacheKey()]
			wanted := pinned || p.complete && len(n.machines[r.Name()]) > 0
			if !wanted || !st.Image || st.Refused != "" || st.State != store.Partial.String() || time.Since(p.failed[f.CacheKey()]) < pinRetry {
				continue
			}
			if p.run(func(ctx context.Context) {
				defer runtime.KeepAlive(pkg) // a release has one package at a time
				p.fetch(ctx, r, f)
			}) {
				p.busy = f
			}
			return
		}
	}
}

func (p *pinner) fetch(ctx context.Context, r *Release, f *bundle.File) {
	err := complete(ctx, f)
	if err != nil && ctx.Err() == nil {
		p.log.Warn("an image that is to stay cannot be completed yet", "release", r.Name(), "file", f.Name(), "err", err)
	}
	p.done(f, err)
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
