package catalog

import (
	"context"
	"errors"
	"time"

	"vmcastfs/cache/store"
)

const (
	// indexAhead is how many releases, the newest first, are indexed behind a mount, so
	// that they are listed when their servers are down.
	indexAhead = 32
	// aheadPause is before each of them: what is asked for comes first, and no server
	// gets many requests at once.
	aheadPause = 250 * time.Millisecond
)

// indexNewest indexes the newest releases, one after the other, until a server fails.
// The next look at the feed goes on. An archive that would have to be inflated is left
// alone, and so is a release whose index is on the disk. A cache that has to make room
// is left alone too: what is learned would push out what is used.
func indexNewest(ctx context.Context, c *Catalog) {
	if !c.cfg.Resident || !c.ahead.CompareAndSwap(false, true) {
		return
	}
	defer c.ahead.Store(false)
	evicted := func() int64 { return c.cfg.Store.Known(store.Stats{}).EvictedBytes }
	before := evicted()
	releases := c.Snapshot().Releases()
	for _, r := range releases[:min(indexAhead, len(releases))] {
		if _, ok := r.Peek(); ok || r.record.Known() {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(aheadPause):
		}
		if evicted() != before {
			return
		}
		if _, err := index(ctx, r, toKnow); errors.Is(err, errDown) || errors.Is(err, context.DeadlineExceeded) {
			return
		}
	}
}
