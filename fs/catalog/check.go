package catalog

import (
	"context"
	"errors"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/fs/catalog/archive"
)

const (
	// checkEvery is how often, at most, opening a file of a release has its
	// server asked whether the archive is still the same.
	checkEvery   = time.Minute
	checkTimeout = 30 * time.Second
	// maxChecks bounds how many releases one look at the feed has checked, the
	// newest first; the others are when they are opened.
	maxChecks = 256

	// downPatience is how long what a listing needs is waited for from a server
	// that has been failing for downTime: long enough to see whether it is back.
	downPatience = 1500 * time.Millisecond
	downTime     = 3 * time.Second
)

// A replaced archive is noticed by the next range that is fetched of it. One
// that is all in the cache would never be asked for again, so there is a check
// of one conditional request besides: behind an open, and after each look at
// the feed. Only an answer that says "another" counts: a server that is down, or
// that has lost the archive, changes nothing.

// checkSoon has the archive checked, in the background, unless that was done
// a short while ago.
func (r *Release) checkSoon(atMost time.Duration) {
	r.mu.Lock()
	p := r.pkg
	due := p != nil && !r.checking && time.Since(r.checked) >= atMost
	if due {
		r.checking = true
	}
	r.mu.Unlock()
	if due {
		r.cat.background(func(ctx context.Context) { _ = r.check(ctx, p) })
	}
}

// check asks once, and puts a new generation in the place of r if the archive
// is another one.
func (r *Release) check(ctx context.Context, p *Package) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	url := r.URL()
	err := p.archive.Check(ctx)
	for archive.IsLost(err) && r.URL() != url { // it moved meanwhile
		url = r.URL()
		err = p.archive.Check(ctx)
	}
	r.mu.Lock()
	r.checking, r.checked = false, time.Now()
	r.mu.Unlock()
	switch {
	case errors.Is(err, remote.ErrChanged):
		r.cat.replace(r)
		return nil
	case err != nil:
		r.cat.cfg.Logger.Debug("cannot tell whether the archive is the same", "release", r.Name(), "err", err)
	}
	return err
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
		r.mu.Lock()
		p, due := r.pkg, r.pkg != nil && !r.checking
		r.checking = r.checking || due
		r.mu.Unlock()
		if !due {
			continue
		}
		n++
		if err := r.check(ctx, p); isDown(err) {
			return
		}
	}
}

func isDown(err error) bool {
	var status *remote.StatusError
	return err != nil && !errors.As(err, &status)
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
	if c.poller == nil || c.closed || time.Since(c.looked) < time.Minute {
		return c.looking
	}
	done := make(chan struct{})
	c.looked, c.looking = time.Now(), done
	c.work.Go(func() {
		defer close(done)
		_ = c.poller.Refresh(c.ctx) // the outcome is in its log and status
	})
	return c.looking
}

// renewWait bounds how long a read whose URL has expired waits for the feed to
// name a fresh one.
const renewWait = 5 * time.Second

// renewed tells whether the feed names another URL for the archive than was,
// after a look at it.
func (r *Release) renewed(ctx context.Context, was string) bool {
	if r.URL() != was {
		return true
	}
	wait := time.NewTimer(renewWait)
	defer wait.Stop()
	select {
	case <-r.cat.lookAgain():
	case <-wait.C:
	case <-ctx.Done():
	}
	return r.URL() != was
}

// errDown ends the waiting for what a listing needs.
var errDown = errors.New("the server does not answer")

// patience returns a context for what a listing waits for: it ends with errDown
// once the release's server has failed for a while. Content is waited for as
// hard or soft has it, but ls and stat shall not hang.
func (r *Release) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	begun := time.Now()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			since := r.cat.cfg.Remote.FailingSince(r.URL())
			if !since.IsZero() && time.Since(begun) >= downPatience && time.Since(since) >= downTime {
				cancel(errDown)
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}
