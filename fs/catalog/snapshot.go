package catalog

import (
	"slices"
	"time"

	"vmcastfs/feed"
)

// Snapshot is one immutable state of the feed.
type Snapshot struct {
	feed     *feed.Feed
	raw      []byte
	time     time.Time
	releases []*Release
	gone     []*Release // withdrawn, and still in the tree
	byName   map[string]*Release
}

// FeedXML is the last good feed, verbatim.
func (s *Snapshot) FeedXML() []byte { return s.raw }

// FeedTime is when it was fetched.
func (s *Snapshot) FeedTime() time.Time { return s.time }

// Releases lists the releases, newest first.
func (s *Snapshot) Releases() []*Release { return s.releases }

// All lists all releases of the tree: those of the feed, newest first, and then those
// that it has dropped.
func (s *Snapshot) All() []*Release { return slices.Concat(s.releases, s.gone) }

// with is the state with these withdrawn releases, and the same feed.
func (s *Snapshot) with(gone []*Release) *Snapshot {
	next := *s
	next.gone = slices.Clone(gone)
	next.byName = make(map[string]*Release, len(s.releases)+len(gone))
	for _, r := range next.All() {
		next.byName[r.Name()] = r
	}
	return &next
}

// Release finds a release by its directory name.
func (s *Snapshot) Release(name string) (*Release, bool) {
	r, ok := s.byName[name]
	return r, ok
}

// Latest is the newest release, or nil. It is that of the feed, see [feed.Feed.Newest],
// by the clock, or by when the feed came, if that is later: a clock may begin in the past.
func (s *Snapshot) Latest() *Release {
	now := time.Now()
	if s.time.After(now) {
		now = s.time
	}
	newest := s.feed.Newest(now)
	for _, r := range s.releases {
		if r.Item().ID == newest.ID {
			return r
		}
	}
	return nil
}
