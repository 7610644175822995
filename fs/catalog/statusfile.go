package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"vmcastfs/fs/catalog/bundle"
)

const (
	// statusEvery is how often, at most, the content of status.json is made.
	statusEvery = time.Second
	// lookEvery is how often the disk is looked at though nobody asks, for what other
	// processes do to a cache that they share.
	lookEvery = 30 * time.Second
)

// StatusJSON is Status for .vmcastfs/status.json, from memory: images that are not
// open, and the size of the cache, are as they were at the last look, which was a
// second before the last question, or half a minute ago. Nobody may write to it.
func (c *Catalog) StatusJSON() []byte {
	f := &c.status
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.raw != nil && time.Since(f.made) < statusEvery {
		return f.raw
	}
	if f.last == nil {
		f.last = c.look()
	}
	raw, err := json.MarshalIndent(c.describe(f.last, (*bundle.File).Known), "", "  ")
	if err != nil {
		raw = fmt.Appendf(nil, "{\"error\": %q}", err)
	}
	f.raw, f.made = append(raw, '\n'), time.Now()
	select {
	case f.asking <- struct{}{}:
	default:
	}
	return f.raw
}

// keepLooking looks at the disk once in a while, and soon after each question.
func (c *Catalog) keepLooking(ctx context.Context) {
	for {
		idle := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			idle.Stop()
			return
		case <-idle.C:
		case <-c.status.asking:
			idle.Stop()
		}
		l := c.look()
		c.status.mu.Lock()
		c.status.last = l
		c.status.mu.Unlock()
	}
}
