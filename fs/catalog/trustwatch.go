package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/feed"
)

// seen is what a package presents to the trust state.
type seen struct {
	id, name string
	manifest string // SHA-256; "": it has none
	signed   bool
	signer   string
}

// objection says why a package is not what its release was, "" if it is, or
// was never seen.
func (t *FeedTrust) objection(s seen) (AlarmKind, string) {
	if s.manifest == "" {
		if r := t.Releases[s.id]; r != nil && r.Signed {
			return AlarmChanged, "the release had a signed manifest when it was first seen, and has none now"
		}
		return "", ""
	}
	r := t.Releases[s.id]
	switch {
	case r == nil:
	case r.Manifest == s.manifest:
		return "", ""
	case !r.Signed && s.signed:
		return "", "" // nobody vouched for what was seen
	default:
		was := "manifest"
		if r.Signed {
			was = "signed manifest"
		}
		return AlarmChanged, fmt.Sprintf("the %s of this release changed after it was first seen on %s", was, r.First.Format("2006-01-02"))
	}
	if !s.signed {
		return "", ""
	}
	// What a publisher signed says nothing of which release it is: it must not
	// come back under another one (S5).
	for id, other := range t.Releases {
		if id != s.id && other.Manifest == s.manifest && other.Signed {
			return AlarmReplayed, fmt.Sprintf("it is the package of the release %q, first seen on %s, under another guid (the signed manifest is the same): an old release offered as a new one, or published twice", other.Name, other.First.Format("2006-01-02"))
		}
	}
	return "", ""
}

// note records a package that is seen for the first time, or an alarm.
func (t *FeedTrust) note(s seen, now time.Time) {
	kind, text := t.objection(s)
	r := t.Releases[s.id]
	switch {
	case kind != "":
		t.raise(Alarm{Kind: kind, ID: s.id, Name: s.name, Offered: s.manifest, Signed: s.signed, Signer: s.signer, Text: text, At: now})
		return
	case s.manifest == "":
		return
	case r == nil, !r.Signed && s.signed:
		n := &ReleaseSeen{Name: s.name, Manifest: s.manifest, Signed: s.signed, Signer: s.signer, First: now}
		if r != nil && r.Manifest == s.manifest {
			n.First = r.First
		}
		t.Releases[s.id] = n
	}
	t.settle(func(a Alarm) bool { return a.ID == s.id && a.Kind != AlarmRollback })
}

// raise adds an alarm, or brings the one there is up to date.
func (t *FeedTrust) raise(a Alarm) {
	i := slices.IndexFunc(t.Alarms, func(b Alarm) bool { return b.Kind == a.Kind && (b.ID == a.ID || a.Kind == AlarmRollback) })
	if i < 0 {
		t.Alarms = append(t.Alarms, a)
		return
	}
	a.At = t.Alarms[i].At
	t.Alarms[i] = a
}

// settle removes alarms that are no more.
func (t *FeedTrust) settle(which func(Alarm) bool) { t.Alarms = slices.DeleteFunc(t.Alarms, which) }

// maxAhead is how far in the future a release may be dated and still count as
// the newest: a date of 2099 would make every honest feed a rollback (S10).
const maxAhead = 24 * time.Hour

// rollback says why a feed is older than what was seen of it, or "".
func (t *FeedTrust) rollback(f *feed.Feed) string {
	if t.Newest == nil || len(f.Releases) == 0 {
		return ""
	}
	for _, r := range f.Releases {
		if r.ID == t.Newest.ID {
			return ""
		}
	}
	now := f.Releases[0]
	older := now.Published.Before(t.Newest.Published)
	if now.Published.IsZero() || t.Newest.Published.IsZero() {
		older = t.Releases[now.ID] != nil // without dates, what is known is not new
	}
	if !older {
		return ""
	}
	return fmt.Sprintf("the feed went back: its newest release is %q, but on %s it was %q", now.Name, t.Newest.Seen.Format("2006-01-02"), t.Newest.Name)
}

// advance takes a release for the newest, if it is.
func (t *FeedTrust) advance(r feed.Release, now time.Time) {
	switch {
	case r.Published.After(now.Add(maxAhead)):
		return
	case t.Newest == nil, r.Published.After(t.Newest.Published):
	case r.Published.IsZero() && t.Newest.Published.IsZero() && t.Releases[r.ID] == nil:
	default:
		return
	}
	t.Newest = &NewestSeen{ID: r.ID, Name: r.Name, Published: r.Published, Seen: now}
}

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
	why := c.feedObjection(f)
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

// feedObjection compares a feed with the trust state, which learns from it.
func (c *Catalog) feedObjection(f *feed.Feed) (why string) {
	t := c.cfg.Trust
	if t == nil {
		return ""
	}
	t.look(func(ft *FeedTrust) { why = ft.rollback(f) })
	now := time.Now().UTC().Truncate(time.Second)
	var newest feed.Release
	if len(f.Releases) > 0 {
		newest = f.Releases[0]
	}
	t.changeIf(func(ft *FeedTrust) bool { return ft.wouldNote(why, newest, !c.cfg.RequireSigned, now) }, func(ft *FeedTrust) {
		if why != "" {
			ft.raise(Alarm{Kind: AlarmRollback, ID: newest.ID, Name: newest.Name, Offered: newest.ID, Published: newest.Published, Text: why, At: now})
			return
		}
		ft.settle(func(a Alarm) bool { return a.Kind == AlarmRollback })
		if !c.cfg.RequireSigned && newest.ID != "" {
			ft.advance(newest, now)
		}
	})
	return why
}

// wouldNote tells whether there is anything to write down of a feed.
func (t *FeedTrust) wouldNote(why string, newest feed.Release, advance bool, now time.Time) bool {
	raised := slices.ContainsFunc(t.Alarms, func(a Alarm) bool {
		return a.Kind == AlarmRollback && (why == "" || a.ID == newest.ID && a.Text == why)
	})
	if why != "" {
		return !raised
	}
	if raised {
		return true
	}
	before := t.Newest
	if advance && newest.ID != "" {
		copied := *t
		copied.advance(newest, now)
		return copied.Newest != before
	}
	return false
}

// changeIf is change, if there is anything to change.
func (s *TrustState) changeIf(needed func(*FeedTrust) bool, fn func(*FeedTrust)) {
	s.mu.Lock()
	s.refresh()
	needs := needed(s.now)
	s.mu.Unlock()
	if needs {
		s.change(fn)
	}
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
		c.cfg.Trust.look(func(ft *FeedTrust) { why = ft.rollback(f) })
		if why != "" {
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
func (p *Package) presented() seen {
	s := seen{
		id: p.release.item.ID, name: p.release.Name(), manifest: p.manifestSum,
		signed: p.trust.Manifest.State == "good", signer: p.signer(),
	}
	if p.trust.By == bySidecar {
		s.signed = true
		if s.manifest == "" { // that of the sidecar names the package, too
			sum := sha256.Sum256(p.doc.Sidecar.Manifest)
			s.manifest = hex.EncodeToString(sum[:])
		}
	}
	return s
}

// remember tells the trust state of a package that has been indexed, and the
// log of what is wrong with it.
func (p *Package) remember() {
	c := p.cat
	if why := p.trust.Refused; why != "" {
		c.cfg.Logger.Error("release is refused", "release", p.release.Name(), "reason", why)
	}
	t := c.cfg.Trust
	if t == nil || c.cfg.RequireSigned && p.trust.Refused != "" {
		return // nobody vouches for it: there is nothing to remember
	}
	if why := p.misplaced(); why != "" {
		c.cfg.Logger.Error("a release holds the package of another", "release", p.release.Name(), "reason", why)
		return // what the release really is has not been seen
	}
	s, item := p.presented(), p.release.item
	now := time.Now().UTC().Truncate(time.Second)
	why := p.alarm()
	if why != "" {
		c.cfg.Logger.Error("a release is not what it was", "release", p.release.Name(), "reason", why, "hint", c.toAccept(p.release.Name()))
	}
	t.changeIf(func(ft *FeedTrust) bool {
		if r := ft.Releases[s.id]; why == "" && (s.manifest == "" || r != nil && r.Manifest == s.manifest && r.Signed == s.signed) {
			copied := *ft
			copied.advance(item, now)
			return copied.Newest != ft.Newest || slices.ContainsFunc(ft.Alarms, func(a Alarm) bool { return a.ID == s.id && a.Kind != AlarmRollback })
		}
		return true
	}, func(ft *FeedTrust) {
		if s.signed && why == "" || !c.cfg.RequireSigned {
			ft.advance(item, now)
		}
		ft.note(s, now)
	})
}

// alarm says in what the package contradicts what was seen before, or "".
func (p *Package) alarm() (why string) {
	if why := p.misplaced(); why != "" {
		return why
	}
	if t := p.cat.cfg.Trust; t != nil {
		t.look(func(ft *FeedTrust) { _, why = ft.objection(p.presented()) })
	}
	return why
}

// misplaced says that the manifest names another release as the one it is for,
// or "". That is no matter of what was seen before, so it cannot be accepted.
func (p *Package) misplaced() string {
	if p.manifest == nil || p.manifest.Release() == "" || p.manifest.Release() == p.release.item.ID {
		return ""
	}
	return fmt.Sprintf("its manifest was made for the release %q, not for this one: tell the publisher, who can pack it with --guid %q", p.manifest.Release(), p.release.item.ID)
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
	if why := p.trust.Refused; why != "" || !c.cfg.RequireSigned {
		return why
	}
	if why := p.misplaced(); why != "" {
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
		if err := t.broken(); err != nil {
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
		if err := t.broken(); err != nil {
			problem = err.Error()
		}
	}
	return rollback, kept, problem
}
