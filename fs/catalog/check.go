package catalog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
)

const (
	// checkEvery is how often, at most, opening a file of a release has its
	// server asked whether the archive is still the same.
	checkEvery = time.Minute
	// doubtEvery is how often reads have it asked that wait for its answers to be of use.
	doubtEvery   = 5 * time.Second
	checkTimeout = 30 * time.Second
	// confirmWait is how long the first open in a process waits for the answer.
	confirmWait = time.Second
)

// A checker asks whether an archive is still the same. A replaced archive is
// noticed by the next range that is fetched of it. One that is all in the cache
// would never be asked for again. So a request for its first byte asks besides: behind
// an open, and after each look at the feed. The first open in a process waits for the
// answer for a moment, since what is on the disk may be of long ago. Only an answer that says "another"
// counts: a server that is down, or that has lost the archive, changes nothing.
//
// mu guards what follows it; it is a leaf.
type checker struct {
	mu       sync.Mutex
	checking bool
	checked  time.Time     // when the answer was last known, or tried; zero: never
	first    chan struct{} // closed when the first check of this process has ended; nil: nobody waits
	late     bool          // the first check takes longer than an open waits
}

// unconfirmed returns what an open waits for, if nothing of this process has asked
// yet; nil: nothing. Begin: the caller makes the check.
func (c *checker) unconfirmed() (wait <-chan struct{}, begin bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.checked.IsZero() || c.late {
		return nil, false
	}
	if c.first == nil {
		c.first = make(chan struct{})
	}
	begin = !c.checking
	c.checking = true
	return c.first, begin
}

// giveUp has no further open wait for the first check.
func (c *checker) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = true
}

// due tells whether it is time for a check, which the caller then makes.
func (c *checker) due(atMost time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checking || time.Since(c.checked) < atMost {
		return false
	}
	c.checking = true
	return true
}

// done ends a check. Without one, it says that the answer is known now.
func (c *checker) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checking, c.checked = false, time.Now()
	if c.first != nil {
		close(c.first)
		c.first = nil
	}
}

// check asks once, between due and done; changed: the archive is another one.
func (c *checker) check(ctx context.Context, ask func(context.Context) error, url func() string, log *slog.Logger) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	at := url()
	err = ask(ctx)
	for remote.IsLost(err) && url() != at { // it moved meanwhile
		at = url()
		err = ask(ctx)
	}
	if errors.Is(err, remote.ErrChanged) {
		return true, nil
	}
	if err != nil {
		log.Debug("cannot tell whether the archive is the same", "err", err)
	}
	return false, err
}

// isDown tells that a server did not answer at all.
func isDown(err error) bool {
	var status *remote.StatusError
	return err != nil && !errors.As(err, &status)
}

// checkSoon has the archive checked, in the background, unless that was done
// a short while ago.
func (r *Release) checkSoon(atMost time.Duration) {
	if p, ok := r.Peek(); ok && r.Withdrawn().IsZero() && r.checker.due(atMost) {
		r.around.run(func(ctx context.Context) { _ = r.check(ctx, p) })
	}
}

// confirm is called before an image is opened. If nothing of this process has asked
// whether the archive is still the one that the disk knows, it asks, and waits for the
// answer at most confirmWait. The error is archive.ErrReplaced if it is another one.
func (r *Release) confirm(ctx context.Context) error {
	p, ok := r.Peek()
	if !ok || !r.Withdrawn().IsZero() {
		return nil
	}
	wait, begin := r.checker.unconfirmed()
	if wait == nil {
		r.checkSoon(checkEvery)
		return nil
	}
	if begin && !r.around.run(func(ctx context.Context) { _ = r.check(ctx, p) }) {
		return context.Canceled
	}
	patience := time.NewTimer(confirmWait)
	defer patience.Stop()
	select {
	case <-wait:
	case <-patience.C:
		r.checker.giveUp()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.line.newest.Load() != r {
		return archive.ErrReplaced
	}
	return nil
}

// Confirm asks whether the archive is still the one that the disk knows, unless
// something of this process has just asked, and waits for the answer. It returns the
// newest generation, which is another one if the archive was replaced. An error is why
// there is no answer.
func (r *Release) Confirm(ctx context.Context) (*Release, error) {
	p, ok := r.Peek()
	if !ok || !r.Withdrawn().IsZero() || !r.checker.due(checkEvery) {
		return r.line.newest.Load(), nil
	}
	err := r.check(ctx, p)
	return r.line.newest.Load(), err
}

// check asks whether the archive is the same, after checker.due.
func (r *Release) check(ctx context.Context, p *bundle.Package) error {
	defer r.checker.done() // after the new generation is known
	changed, err := r.checker.check(ctx, p.Check, r.URL, r.around.log.With("release", r.Name()))
	switch {
	case changed:
		r.around.replace(r)
	case errors.Is(err, remote.ErrNoRanges):
		r.around.log.Warn("the server answers no ranges any more; the archive is read as one stream by new opens", "release", r.Name())
		r.record.Drop()
		r.around.reopen(r)
		return nil
	}
	return err
}
