package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"vmcastfs/feed"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// feedWatch is what a Catalog knows of a feed that went back.
//
// mu guards what follows it; it is a leaf.
type feedWatch struct {
	mu       sync.Mutex
	rollback string    // why the last feed is older than what was seen; "": it is not
	backward *heldFeed // that feed, if it is not shown
	awaiting bool      // somebody looks whether it has been accepted
}

// heldFeed is a feed that is not shown, because it went back.
type heldFeed struct {
	feed *feed.Feed
	raw  []byte
	at   time.Time
	save []byte // what the poller wants kept of it
}

// takeFeed shows a feed that has come, unless it went back and signatures are
// required: then the newer one stays. If there is none, the older one is shown
// and nothing of it is served.
func (c *Catalog) takeFeed(f *feed.Feed, raw []byte, at time.Time, save []byte) {
	why := ""
	if t := c.cfg.Trust; t != nil {
		why = t.TakeFeed(f, !c.cfg.RequireSigned)
	}
	c.watch.mu.Lock()
	keep := why != "" && c.cfg.RequireSigned && len(c.Snapshot().releases) > 0
	said := c.watch.rollback
	c.watch.rollback = why
	c.watch.backward = nil
	if keep {
		c.watch.backward = &heldFeed{f, raw, at, save}
	}
	c.watch.mu.Unlock()
	if why != "" && said != why {
		c.cfg.Logger.Error("the feed went back", "feed", displayURL(c.cfg.FeedURL), "err", why, "kept", keep,
			"hint", c.toAccept(""))
	}
	if why != "" && c.cfg.RequireSigned {
		c.background(c.awaitAcceptance)
	}
	if keep {
		c.notify()
		return
	}
	if save != nil {
		if err := c.cfg.Store.PutDoc(kindFeed, c.cfg.FeedURL, save); err != nil {
			c.cfg.Logger.Warn("the feed is not kept on disk: a mount without network will not have it", "err", err)
		}
	}
	c.publish(f, raw, at)
	c.background(c.judgeNewest)
}

// awaitAcceptance looks whether the operator has accepted that the feed went
// back, as long as that is not so.
func (c *Catalog) awaitAcceptance(ctx context.Context) {
	c.watch.mu.Lock()
	if c.watch.awaiting {
		c.watch.mu.Unlock()
		return
	}
	c.watch.awaiting = true
	c.watch.mu.Unlock()
	defer func() {
		c.watch.mu.Lock()
		c.watch.awaiting = false
		c.watch.mu.Unlock()
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.watch.mu.Lock()
		held, why := c.watch.backward, c.watch.rollback
		c.watch.mu.Unlock()
		if why == "" {
			return
		}
		f := c.Snapshot().feed
		if held != nil {
			f = held.feed
		}
		if c.cfg.Trust.Rollback(f) != "" {
			continue
		}
		if held == nil {
			c.watch.mu.Lock()
			c.watch.rollback = ""
			c.watch.mu.Unlock()
			c.notify()
			return
		}
		c.watch.mu.Lock()
		still := c.watch.backward == held
		c.watch.mu.Unlock()
		if still {
			c.takeFeed(held.feed, held.raw, held.at, held.save)
		}
	}
}

// judgeNewest indexes the newest release when signatures are required: only
// what a trusted key signed counts as seen, so that nobody else can make an
// honest feed look old.
func (c *Catalog) judgeNewest(ctx context.Context) {
	if r := c.Snapshot().Latest(); r != nil && c.cfg.Trust != nil && c.cfg.RequireSigned {
		_, _ = r.Package(ctx) // its error is told to who wants the release
	}
}

// presented is what the package is to the trust state.
func (p *Package) presented() trust.Package {
	s := trust.Package{
		ID: p.release.item.ID, Name: p.release.Name(), Manifest: p.manifestSum,
		Signed: p.verdict.Manifest.State == xvm.Good, Signer: p.verdict.Signer(),
	}
	if p.verdict.By == xvm.BySidecar {
		s.Signed = true
		if s.Manifest == "" { // that of the sidecar names the package, too
			sum := sha256.Sum256(p.doc.Sidecar.Manifest)
			s.Manifest = hex.EncodeToString(sum[:])
		}
	}
	return s
}

// remember tells the trust state of a package that has been indexed, and the
// log of what is wrong with it.
func (p *Package) remember() {
	c := p.cat
	v := p.verdict
	switch {
	case v.Misplaced != "": // what the release really is has not been seen
		c.cfg.Logger.Error("a release holds the package of another", "release", p.release.Name(), "reason", v.Misplaced)
		return
	case v.Refused != "": // nobody vouches for it: there is nothing to remember
		c.cfg.Logger.Error("release is refused", "release", p.release.Name(), "reason", v.Refused)
		return
	}
	t := c.cfg.Trust
	if t == nil {
		return
	}
	if why := t.TakePackage(p.presented(), p.release.item, !c.cfg.RequireSigned); why != "" {
		c.cfg.Logger.Error("a release is not what it was", "release", p.release.Name(), "reason", why, "hint", c.toAccept(p.release.Name()))
	}
}

// alarm says in what the package contradicts what was seen before, or "".
func (p *Package) alarm() (why string) {
	if why := p.verdict.Misplaced; why != "" {
		return why
	}
	if t := p.cat.cfg.Trust; t != nil {
		why = t.Objection(p.presented())
	}
	return why
}

// toAccept says what to do about an alarm; release "" is the whole feed.
func (c *Catalog) toAccept(release string) string {
	address := displayURL(c.cfg.FeedURL)
	if address != c.cfg.FeedURL {
		address = "FEED"
	}
	command := strings.TrimSpace("vmcastfs trust accept " + address + " " + release)
	return "ask the publisher; if it is meant so, accept it: " + command
}

// refusal says why nothing of the package is served, or "".
func (p *Package) refusal() string {
	c := p.cat
	if why := p.verdict.Refused; why != "" || !c.cfg.RequireSigned {
		return why
	}
	c.watch.mu.Lock()
	why, release := c.watch.rollback, ""
	if c.watch.backward != nil {
		why = "" // what is shown is the newer state
	}
	c.watch.mu.Unlock()
	if why == "" {
		why, release = p.alarm(), p.release.Name()
	}
	if why != "" {
		return why + "; " + c.toAccept(release)
	}
	if t := c.cfg.Trust; t != nil {
		if err := t.Err(); err != nil {
			return fmt.Sprintf("what is seen of the feed cannot be kept: %v", err)
		}
	}
	return ""
}

// trustStatus is what the feed's status says of it.
func (c *Catalog) trustStatus() (rollback string, kept bool, problem string) {
	c.watch.mu.Lock()
	rollback, kept = c.watch.rollback, c.watch.backward != nil
	c.watch.mu.Unlock()
	if t := c.cfg.Trust; t != nil {
		if err := t.Err(); err != nil {
			problem = err.Error()
		}
	}
	return rollback, kept, problem
}
