package catalog

import (
	"context"
	"time"

	"vmcastfs/cache/store"
)

// sizing bounds what is inflated by itself, at a release's first use, so that
// a directory lists the plain names too; larger members are sized when their
// plain name is first asked for.
const (
	sizeAtOnce     = 4 << 20  // stored bytes of a member sized before the directory is shown
	sizeBackground = 64 << 20 // ... and behind it
	// A block list tells sizes without anything being inflated, so lists of so
	// many times the bytes are read.
	sizeListShare = 16
	// Little can be inflated to very much, and there may be thousands of it.
	sizeTime           = 5 * time.Second // for all of a release before its directory is shown
	sizeBackgroundTime = 2 * time.Minute // ... and behind it
	sizeFaults         = 8               // told of in the log, for a release
)

// findSizes sizes the small compressed members, as far as the time reaches.
func (p *Package) findSizes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	faults := 0
	var rest []*File
	for _, name := range p.names {
		f := p.byName[name]
		if f.Size() != store.Unknown || f.joined != nil {
			continue
		}
		stored := f.stored.size
		if text, ok := f.image.Listed(); ok {
			stored = text / sizeListShare
		}
		if stored <= sizeAtOnce && ctx.Err() == nil && !p.findSizeOf(ctx, f, &faults) || stored > sizeAtOnce && stored <= sizeBackground {
			rest = append(rest, f)
		}
	}
	if len(rest) == 0 {
		return
	}
	p.cat.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sizeBackgroundTime)
		defer cancel()
		for _, f := range rest {
			if !p.findSizeOf(ctx, f, &faults) {
				return
			}
			p.cat.notify()
		}
		p.findJoined(ctx)
	})
}

// findSizeOf sizes one of them; false if the time was too short.
func (p *Package) findSizeOf(ctx context.Context, f *File, faults *int) bool {
	_, err := f.image.FindSize(ctx)
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		if *faults++; *faults <= sizeFaults {
			p.cat.cfg.Logger.Warn("the plain size is not known yet", "err", err)
		}
	}
	return true
}
