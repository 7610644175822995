package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"vmcastfs/fs/catalog/bundle"
)

const (
	// statusShare is how much of the time goes at most into making the content of
	// status.json: one part in so many. Nobody waits longer than statusEvery for it.
	statusShare = 20
	statusEvery = time.Second
	// lookEvery is how often the disk is looked at though nothing happens here.
	// Other processes may share the cache and the trust state.
	lookEvery = 10 * time.Second
	// looksLate is the longest between two looks, where one takes long: thousands of
	// releases were used. Looks share the time as statusShare has it.
	looksLate = time.Minute
)

// lookPause is how long to wait after a look that took so long.
func lookPause(took time.Duration) time.Duration {
	return min(max(lookEvery, statusShare*took), looksLate)
}

// StatusJSON is Status for .vmcastfs/status.json, from memory. The size of the
// cache, images that are not open, and alarms are as they were at the last look at
// the disk. A look follows a question if this process has fetched or evicted
// anything since, and there is one every ten seconds, or every minute where thousands
// of releases were used. Nobody may write to it.
//
// What happened before the question is in the answer. So a question that comes
// soon after the last answer waits a little, with all others that come meanwhile:
// the longer, the longer that answer took to make.
func (c *Catalog) StatusJSON() []byte {
	f := &c.status
	asked := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made.After(asked) {
		return f.raw
	}
	if f.raw != nil {
		time.Sleep(min(statusEvery, statusShare*f.took) - time.Since(f.made))
	}
	f.made = time.Now()
	raw, err := json.MarshalIndent(known(c), "", "  ")
	if err != nil {
		raw = fmt.Appendf(nil, "{\"error\": %q}", err)
	}
	f.raw, f.took = append(raw, '\n'), time.Since(f.made)
	return f.raw
}

// KnownStatus is Status from memory, as StatusJSON has it, but made for each question.
func KnownStatus(c *Catalog) Status {
	c.status.mu.Lock()
	defer c.status.mu.Unlock()
	return known(c)
}

// known makes a Status of the last look at the disk, and has another one follow if
// it is not true any more. status.mu is held.
func known(c *Catalog) Status {
	f := &c.status
	if f.last == nil {
		f.last = c.look()
	}
	if activityOf(c.cfg) != f.last.after {
		select {
		case f.asking <- struct{}{}:
		default:
		}
	}
	return c.describe(f.last, (*bundle.File).Known)
}

// keepLooking looks at the disk once in a while, and soon after a question that
// wants it.
func (c *Catalog) keepLooking(ctx context.Context) {
	for took := time.Duration(0); ; {
		idle := time.NewTimer(lookPause(took))
		select {
		case <-ctx.Done():
			idle.Stop()
			return
		case <-idle.C:
		case <-c.status.asking:
			idle.Stop()
		}
		began := time.Now()
		l := c.look()
		took = time.Since(began)
		c.status.mu.Lock()
		c.status.last = l
		c.status.mu.Unlock()
	}
}
