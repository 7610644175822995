package catalog

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// sentry compares feeds and packages with what was seen before.
type sentry struct {
	state    *trust.State // nil: nothing is remembered
	required func() bool  // signatures are
	feedURL  string
	log      *slog.Logger

	// mu guards what follows it; it is a leaf.
	mu       sync.Mutex
	rollback string    // why the last feed is older than what was seen; "": it is not
	backward *heldFeed // that feed, if it is not shown
	awaiting bool      // somebody looks whether it has been accepted
	// expiring are the keys that expire soon and have been told of, by key and
	// the day on which that was.
	expiring map[string]bool
}

// heldFeed is a feed that is not shown, because it went back.
type heldFeed struct {
	feed *feed.Feed
	raw  []byte
	at   time.Time
	save []byte // what the poller wants kept of it
}

// takeFeed tells whether a feed that has come went back, and why, and whether the
// newer one that is shown stays.
func (s *sentry) takeFeed(held heldFeed, shown bool) (why string, keep bool) {
	if s.state != nil {
		why = s.state.TakeFeed(held.feed, !s.required())
	}
	keep = why != "" && s.required() && shown
	s.mu.Lock()
	said := s.rollback
	s.rollback, s.backward = why, nil
	if keep {
		s.backward = &held
	}
	s.mu.Unlock()
	if why != "" && said != why {
		s.log.Error("the feed went back", "feed", show.URL(s.feedURL), "err", why, "kept", keep, "hint", s.toAccept(""))
	}
	return why, keep
}

// remember tells the trust state of a package that has been indexed, and the
// log of what is wrong with it.
func (s *sentry) remember(item feed.Release, p trust.Package, v *xvm.Verdict) {
	switch {
	case v.Misplaced != "": // what the release really is has not been seen
		s.log.Error("a release holds the package of another", "release", item.Name, "reason", v.Misplaced)
		return
	case v.Refused != "": // nobody vouches for it: there is nothing to remember
		s.log.Error("release is refused", "release", item.Name, "reason", v.Refused)
		return
	case s.state == nil:
		return
	}
	if why := s.state.TakePackage(p, item, !s.required()); why != "" {
		s.log.Error("a release is not what it was", "release", item.Name, "reason", why, "hint", s.toAccept(item.Name))
	}
}

// watchKey warns of a key that expires soon, once a day.
func (s *sentry) watchKey(release string, v *xvm.Verdict, now time.Time) {
	why := v.ExpiresSoon(now)
	if why == "" {
		return
	}
	_, of := v.Expires()
	told := of.KeyID + " " + now.UTC().Format(time.DateOnly)
	s.mu.Lock()
	known := s.expiring[told]
	if s.expiring == nil || len(s.expiring) > maxExpiring {
		s.expiring = make(map[string]bool)
	}
	s.expiring[told] = true
	s.mu.Unlock()
	if !known {
		s.log.Warn("a key expires soon that releases depend on", "release", release, "warning", why)
	}
}

// maxExpiring bounds sentry.expiring.
const maxExpiring = 1000

// alarm says in what a package contradicts what was seen before, or "".
func (s *sentry) alarm(p trust.Package, v *xvm.Verdict) string {
	switch {
	case v.Misplaced != "":
		return v.Misplaced
	case s.state != nil:
		return s.state.Objection(p)
	}
	return ""
}

// refusal says why nothing of a package is served that the verdict does not
// refuse, or "".
func (s *sentry) refusal(p trust.Package, v *xvm.Verdict) string {
	if !s.required() {
		return ""
	}
	s.mu.Lock()
	why, release := s.rollback, ""
	if s.backward != nil {
		why = "" // what is shown is the newer state
	}
	s.mu.Unlock()
	if why == "" {
		why, release = s.alarm(p, v), p.Name
	}
	if why != "" {
		return why + "; " + s.toAccept(release)
	}
	if err := s.err(); err != nil {
		return fmt.Sprintf("what is seen of the feed cannot be kept: %v", err)
	}
	return ""
}

// err is why what is seen cannot be kept.
func (s *sentry) err() error {
	if s.state == nil {
		return nil
	}
	return s.state.Err()
}

// watch makes the caller the one that looks whether a feed that went back has
// been accepted, until it calls done. Not ok: somebody does that already.
func (s *sentry) watch() (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaiting {
		return nil, false
	}
	s.awaiting = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.awaiting = false
	}, true
}

// accepted looks whether the feed that went back has been accepted; shown is the
// feed that is shown. It returns the feed that is to be shown in its place, nil if
// there is none, and whether looking has come to an end.
func (s *sentry) accepted(shown *feed.Feed) (held *heldFeed, end bool) {
	s.mu.Lock()
	held, why := s.backward, s.rollback
	s.mu.Unlock()
	if why == "" {
		return nil, true
	}
	f := shown
	if held != nil {
		f = held.feed
	}
	if s.state.Rollback(f) != "" {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case held == nil:
		s.rollback = ""
		return nil, true
	case s.backward == held:
		return held, false
	}
	return nil, false
}

// status is what the feed's status says of it.
func (s *sentry) status() (rollback string, kept bool, problem string) {
	s.mu.Lock()
	rollback, kept = s.rollback, s.backward != nil
	s.mu.Unlock()
	if err := s.err(); err != nil {
		problem = err.Error()
	}
	return rollback, kept, problem
}

// toAccept says what to do about an alarm; release "" is the whole feed.
func (s *sentry) toAccept(release string) string {
	address := show.URL(s.feedURL)
	if address != s.feedURL {
		address = "FEED"
	}
	command := strings.TrimSpace("vmcastfs trust accept " + address + " " + release)
	return "ask the publisher; if it is meant so, accept it: " + command
}
