package catalog

import (
	"context"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
)

// kindFeed is the last good feed, as the poller keeps it.
const kindFeed = store.Lasting

// takeFeed shows a feed that has come, unless it went back and signatures are
// required: then the newer one stays. If there is none, the older one is shown
// and nothing of it is served.
func (c *Catalog) takeFeed(f *feed.Feed, raw []byte, at time.Time, save []byte) {
	why, keep := c.around.sentry.takeFeed(heldFeed{f, raw, at, save}, len(c.Snapshot().releases) > 0)
	if why != "" && c.asked.required() {
		c.tasks.Run(c.awaitAcceptance)
	}
	if keep {
		c.notify()
		return
	}
	// Before the next process does not find there what it drops.
	if c.publish(f, raw, at) && save != nil {
		if err := c.cfg.Store.PutDoc(kindFeed, c.cfg.FeedURL, save); err != nil {
			c.cfg.Logger.Warn("the feed is not kept on disk: a mount without network will not have it", "err", err)
		}
	}
	c.tasks.Run(func(ctx context.Context) {
		c.judgeNewest(ctx)
		indexNewest(ctx, c)
	})
}

// awaitAcceptance looks whether the operator has accepted that the feed went
// back, as long as that is not so.
func (c *Catalog) awaitAcceptance(ctx context.Context) {
	done, ok := c.around.sentry.watch()
	if !ok {
		return
	}
	defer done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		held, end := c.around.sentry.accepted(c.Snapshot().feed)
		if held != nil {
			c.takeFeed(held.feed, held.raw, held.at, held.save)
		}
		if end {
			c.notify()
			return
		}
	}
}

// judgeNewest indexes the newest release when signatures are required. Only what
// a trusted key signed counts as seen, so that nobody else can make an honest
// feed look old.
func (c *Catalog) judgeNewest(ctx context.Context) {
	if r := c.Snapshot().Latest(); r != nil && c.cfg.Trust != nil && c.asked.required() {
		_, _ = r.Package(ctx) // its error is told to who wants the release
	}
}
