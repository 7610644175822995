package catalog

import (
	"time"

	"vmcastfs/feed"
)

// Snapshot is one immutable state of the feed.
type Snapshot struct {
	feed     *feed.Feed
	raw      []byte
	time     time.Time
	releases []*Release
	byName   map[string]*Release
}

// FeedXML is the last good feed, verbatim.
func (s *Snapshot) FeedXML() []byte { return s.raw }

// FeedTime is when it was fetched.
func (s *Snapshot) FeedTime() time.Time { return s.time }

// Title is the channel's.
func (s *Snapshot) Title() string { return s.feed.Title }

// Warnings are what was wrong with the feed.
func (s *Snapshot) Warnings() []string { return s.feed.Warnings }

// Releases lists the releases, newest first.
func (s *Snapshot) Releases() []*Release { return s.releases }

// Release finds a release by its directory name.
func (s *Snapshot) Release(name string) (*Release, bool) {
	r, ok := s.byName[name]
	return r, ok
}

// Latest is the newest release, or nil.
func (s *Snapshot) Latest() *Release {
	if len(s.releases) == 0 {
		return nil
	}
	return s.releases[0]
}
