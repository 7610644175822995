package trust

import (
	"fmt"
	"slices"
	"time"

	"vmcastfs/feed"
)

// rollback says why a feed is older than what was seen of it, or "". A release that is
// dated ahead does not make it new.
func (t *Feed) rollback(f *feed.Feed, at time.Time) string {
	if t.Newest == nil || len(f.Releases) == 0 {
		return ""
	}
	for _, r := range f.Releases {
		if r.ID == t.Newest.ID {
			return ""
		}
	}
	now := f.Newest(at)
	older := now.Published.Before(t.Newest.Published)
	if now.Published.IsZero() || t.Newest.Published.IsZero() {
		older = t.Releases[now.ID] != nil // without dates, what is known is not new
	}
	if !older {
		return ""
	}
	return fmt.Sprintf("the feed went back: its newest release is %q, but on %s it was %q", now.Name, t.Newest.Seen.Format("2006-01-02"), t.Newest.Name)
}

// renamed are the ids of releases that earlier versions knew under another one,
// by that.
func (t *Feed) renamed(f *feed.Feed) map[string]string {
	present, ids := make(map[string]bool, len(f.Releases)), make(map[string]string)
	for _, r := range f.Releases {
		present[r.ID] = true
	}
	for _, r := range f.Releases {
		known := t.Releases[r.FormerID] != nil || t.Newest != nil && t.Newest.ID == r.FormerID
		if r.FormerID != "" && known && t.Releases[r.ID] == nil && !present[r.FormerID] && ids[r.FormerID] == "" {
			ids[r.FormerID] = r.ID
		}
	}
	return ids
}

// rename moves what is known to the ids that releases have now.
func (t *Feed) rename(ids map[string]string) {
	for former, id := range ids {
		if r := t.Releases[former]; r != nil {
			delete(t.Releases, former)
			t.Releases[id] = r
		}
		if t.Newest != nil && t.Newest.ID == former {
			t.Newest.ID = id
		}
		for i := range t.Alarms {
			if t.Alarms[i].ID == former {
				t.Alarms[i].ID = id
			}
		}
	}
}

// advance takes a release for the newest, if it is.
func (t *Feed) advance(r feed.Release, now time.Time) {
	switch {
	case feed.Ahead(r.Published, now): // 2099 would make every honest feed a rollback (S10)
		return
	case t.Newest == nil, r.Published.After(t.Newest.Published):
	case r.Published.IsZero() && t.Newest.Published.IsZero() && t.Releases[r.ID] == nil:
	default:
		return
	}
	t.Newest = &Newest{ID: r.ID, Name: r.Name, Published: r.Published, Seen: now}
}

// wouldNote tells whether there is anything to write down of a feed.
func (t *Feed) wouldNote(why string, newest feed.Release, advance bool, now time.Time) bool {
	raised := slices.ContainsFunc(t.Alarms, func(a Alarm) bool {
		return a.Kind == Rollback && (why == "" || a.ID == newest.ID && a.Text == why)
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
