package catalog

import (
	"context"
	"fmt"
	"time"

	"vmcastfs/feed"
)

const (
	// freshWait is how long a start waits for a newer feed when it has one
	// already; the refresh goes on behind it.
	freshWait = 3 * time.Second
	// maxChecks bounds how many releases one look at the feed has checked, the
	// newest first; the others are when they are opened.
	maxChecks = 256
)

// Start loads the feed and begins to keep it up to date. With a last good feed
// on disk it succeeds without the server. Without one it asks the server, for as
// long as Config.Retry allows. On success Snapshot shows the feed.
func (c *Catalog) Start(ctx context.Context) error {
	var save []byte // OnFeed is called right after Save
	poller, err := feed.NewPoller(feed.PollerOptions{
		URL:   c.cfg.FeedURL,
		Fetch: c.fetchFeed,
		Load:  func() ([]byte, error) { return c.cfg.Store.GetDoc(kindFeed, c.cfg.FeedURL) },
		Save:  func(b []byte) error { save = b; return nil }, // takeFeed does, if it takes it
		OnFeed: func(f *feed.Feed, raw []byte) {
			saved := save
			save = nil // it is as large as the feed
			c.takeFeed(f, raw, time.Now(), saved)
		},
		Refresh: c.cfg.Refresh,
		Logger:  c.cfg.Logger,
	})
	if err != nil {
		return err
	}
	c.poller = poller
	f, raw := poller.Feed()
	if f == nil {
		if err := poller.First(ctx, c.cfg.Retry, c.cfg.Again); err != nil {
			return err
		}
	} else {
		last := poller.Status().LastSuccess
		c.takeFeed(f, raw, last, nil)
		if err := c.refreshSoon(ctx); err != nil {
			c.cfg.Logger.Warn("the feed is not reachable now; its last good copy is shown", "from", last.Format(time.RFC3339), "err", err)
		}
	}
	if !c.tasks.Run(c.keepLooking) || !c.tasks.Run(poller.Run) {
		return context.Canceled
	}
	return nil
}

// refreshSoon looks for a newer feed, but does not wait long for it.
func (c *Catalog) refreshSoon(ctx context.Context) error {
	done := make(chan error, 1)
	if !c.tasks.Run(func(ctx context.Context) { done <- c.poller.Refresh(ctx) }) {
		return context.Canceled
	}
	wait := time.NewTimer(freshWait)
	defer wait.Stop()
	select {
	case err := <-done:
		return err
	case <-wait.C:
		return fmt.Errorf("no answer within %s", freshWait)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refresh looks at the feed now.
func (c *Catalog) Refresh(ctx context.Context) error { return c.poller.Refresh(ctx) }

// fetchFeed gets the feed's document from the network or from this machine.
func (c *Catalog) fetchFeed(ctx context.Context, url, etag, lastModified string) (*feed.Document, error) {
	if _, local, _ := feed.LocalPath(url); local {
		for _, r := range c.Snapshot().Releases() {
			r.checkSoon(checkEvery) // a file is looked at often
		}
		d, err := feed.FetchFile(ctx, url, etag, lastModified)
		c.failures.count(ctx, err)
		return d, err
	}
	d, err := c.cfg.Remote.Get(ctx, url, etag, lastModified, feed.MaxBody)
	if err != nil {
		c.failures.count(ctx, err)
		return nil, err
	}
	c.tasks.Run(c.checkAll)
	return &feed.Document{
		Body: d.Body, ContentType: d.ContentType, ETag: d.ETag, LastModified: d.LastModified, FinalURL: d.FinalURL,
		NotModified: d.NotModified, MaxAge: d.MaxAge, From: d.From,
	}, nil
}

// lookAgain looks at the feed out of turn, once a minute at most: it may name
// another URL by now. The channel is closed when that has ended.
func (c *Catalog) lookAgain() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looking == nil {
		c.looking = make(chan struct{})
		close(c.looking)
	}
	if c.poller == nil || time.Since(c.looked) < time.Minute {
		return c.looking
	}
	done := make(chan struct{})
	if c.tasks.Run(func(ctx context.Context) {
		defer close(done)
		_ = c.poller.Refresh(ctx) // the outcome is in its log and status
	}) {
		c.looked, c.looking = time.Now(), done
	}
	return c.looking
}

// checkAll checks the releases that are indexed, one after the other, until a
// server fails.
func (c *Catalog) checkAll(ctx context.Context) {
	if !c.checking.CompareAndSwap(false, true) {
		return
	}
	defer c.checking.Store(false)
	n := 0
	for _, r := range c.Snapshot().Releases() {
		if n == maxChecks {
			return
		}
		p, ok := r.Peek()
		if !ok || !r.checker.due(0) {
			continue
		}
		n++
		if err := r.check(ctx, p); isDown(err) {
			return
		}
	}
}
