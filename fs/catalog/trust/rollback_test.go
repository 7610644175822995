package trust

import (
	"strings"
	"testing"
	"time"

	"vmcastfs/feed"
)

// TestRollbackRules: what counts as going back.
func TestRollbackRules(t *testing.T) {
	day := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return testTime().AddDate(0, 0, n)
	}
	type rel struct {
		id  string
		day int
	}
	for name, c := range map[string]struct {
		newest rel
		known  string // releases seen before
		feed   []rel
		back   bool
	}{
		"the same":                       {rel{"b", 2}, "a b", []rel{{"b", 2}, {"a", 1}}, false},
		"a newer one":                    {rel{"b", 2}, "a b", []rel{{"c", 3}, {"b", 2}}, false},
		"a newer one, the others gone":   {rel{"b", 2}, "a b", []rel{{"c", 3}}, false},
		"the newest gone":                {rel{"b", 2}, "a b", []rel{{"a", 1}}, true},
		"the newest gone, others unseen": {rel{"b", 2}, "b", []rel{{"a", 1}}, true},
		"its date changed":               {rel{"b", 2}, "b", []rel{{"b", 1}}, false},
		"no dates, a new one":            {rel{"b", 0}, "a b", []rel{{"c", 0}}, false},
		"no dates, an old one":           {rel{"b", 0}, "a b", []rel{{"a", 0}}, true},
		"dates gone, a new one":          {rel{"b", 2}, "a b", []rel{{"c", 0}}, false},
		"dates gone, an old one":         {rel{"b", 2}, "a b", []rel{{"a", 0}}, true},
		"nothing seen yet":               {rel{}, "", []rel{{"a", 1}}, false},
	} {
		ft := &Feed{Releases: map[string]*Release{}}
		if c.newest.id != "" {
			ft.Newest = &Newest{ID: c.newest.id, Published: day(c.newest.day)}
		}
		for id := range strings.FieldsSeq(c.known) {
			ft.Releases[id] = &Release{}
		}
		f := &feed.Feed{}
		for _, r := range c.feed {
			f.Releases = append(f.Releases, feed.Release{ID: r.id, Name: r.id, Published: day(r.day)})
		}
		if got := ft.rollback(f, testTime()); got != "" != c.back {
			t.Errorf("%s: %q", name, got)
		}
	}
	// A date far ahead does not make all others old.
	ft := &Feed{}
	now := testTime()
	ft.advance(feed.Release{ID: "a", Published: now}, now)
	ft.advance(feed.Release{ID: "z", Published: now.AddDate(50, 0, 0)}, now)
	if ft.Newest.ID != "a" {
		t.Error("a release of the far future is the newest")
	}
	// Nor does one make an old feed new.
	old := &feed.Feed{Releases: []feed.Release{{ID: "z", Published: now.AddDate(50, 0, 0)}, {ID: "0", Published: now.AddDate(-1, 0, 0)}}}
	if ft.rollback(old, now) == "" {
		t.Error("an old feed with a release of the far future is not called old")
	}
}

func testTime() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// TestFormerIDs: what was seen of a release under the id that an earlier version
// gave it is known of the release.
func TestFormerIDs(t *testing.T) {
	ft := &Feed{
		Newest:   &Newest{ID: "urn:uuid:B"},
		Releases: map[string]*Release{"urn:uuid:A": {Name: "a", Signed: true, Manifest: "1"}, "urn:uuid:B": {Name: "b"}, "urn:uuid:C": {Name: "c"}},
		Alarms:   []Alarm{{Kind: Changed, ID: "urn:uuid:A"}},
	}
	f := &feed.Feed{Releases: []feed.Release{
		{ID: "URN:uuid:B", FormerID: "urn:uuid:B"}, {ID: "URN:uuid:A", FormerID: "urn:uuid:A"}, {ID: "Urn:uuid:A", FormerID: "urn:uuid:A"},
		{ID: "URN:uuid:C", FormerID: "urn:uuid:C"}, {ID: "urn:uuid:C"}, {ID: "URN:uuid:D", FormerID: "urn:uuid:D"},
	}}
	ft.rename(ft.renamed(f))
	if why := ft.rollback(f, testTime()); why != "" || ft.Newest.ID != "URN:uuid:B" || ft.Alarms[0].ID != "URN:uuid:A" {
		t.Errorf("%q, %+v, %+v", why, ft.Newest, ft.Alarms)
	}
	if kind, why := ft.objection(Package{ID: "URN:uuid:A", Manifest: "1", Signed: true}); kind != "" {
		t.Errorf("the same package under the id as it is written: %s", why)
	}
	if kind, _ := ft.objection(Package{ID: "URN:uuid:A", Manifest: "2", Signed: true}); kind != Changed {
		t.Error("another package under the id as it is written is not noticed")
	}
	if len(ft.Releases) != 3 || ft.Releases["urn:uuid:C"] == nil || len(ft.renamed(f)) != 0 {
		t.Errorf("%v, then %v", ft.Releases, ft.renamed(f))
	}
}
