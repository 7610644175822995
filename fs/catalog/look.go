package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/bundle"
)

const (
	// statusEvery is how often, at most, the content of status.json is made.
	statusEvery = time.Second
	// lookEvery is how often the disk is looked at though nobody asks, for what other
	// processes do to a cache that they share.
	lookEvery = 30 * time.Second
)

// A look is what only the disk can tell for a Status: how large the cache is, and
// what the trust state has against a release. It is immutable.
type look struct {
	cache store.Stats
	seen  map[*Release]seen
}

// seen is what the trust state says of a release.
type seen struct{ alarm, refusal string }

// at is what was seen of a release, or what there is to see if nobody looked yet.
func (l *look) at(r *Release, p *bundle.Package) seen {
	if s, ok := l.seen[r]; ok {
		return s
	}
	return seen{r.around.sentry.alarm(r.item.ID, r.item.Name, p.Verdict()), p.Refusal()}
}

// look looks at the disk. What it finds of images they keep, see bundle.File.Known.
func (c *Catalog) look() *look {
	l := &look{cache: c.cfg.Store.Stats(), seen: make(map[*Release]seen)}
	for _, r := range c.Snapshot().releases {
		p, ok := r.Peek()
		if !ok {
			continue
		}
		l.seen[r] = l.at(r, p)
		for _, f := range p.All() {
			f.Status()
		}
	}
	return l
}

// statusFile is the content of status.json: one for all that ask within a second.
// It is made from memory and from the last look, which the next one follows.
//
// mu guards what follows it. It is held while the content is made, and comes
// before all other locks of this room and those below.
type statusFile struct {
	mu     sync.Mutex
	made   time.Time
	raw    []byte
	last   *look
	asking chan struct{} // holds a token: somebody has asked since the last look
}

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
