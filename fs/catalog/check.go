package catalog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/fs/catalog/archive"
)

const (
	// checkEvery is how often, at most, opening a file of a release has its
	// server asked whether the archive is still the same.
	checkEvery   = time.Minute
	checkTimeout = 30 * time.Second
)

// A checker asks whether an archive is still the same. A replaced archive is
// noticed by the next range that is fetched of it. One that is all in the cache
// would never be asked for again. So a conditional request asks besides: behind
// an open, and after each look at the feed. Only an answer that says "another"
// counts: a server that is down, or that has lost the archive, changes nothing.
//
// mu guards what follows it; it is a leaf.
type checker struct {
	mu       sync.Mutex
	checking bool
	checked  time.Time // when the answer was last known, or tried; zero: never
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
}

// check asks once, after due; changed: the archive is another one.
func (c *checker) check(ctx context.Context, a *archive.Archive, url func() string, log *slog.Logger) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	defer c.done()
	at := url()
	err = a.Check(ctx)
	for remote.IsLost(err) && url() != at { // it moved meanwhile
		at = url()
		err = a.Check(ctx)
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
