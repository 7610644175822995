package trust

import (
	"fmt"
	"slices"
	"time"
)

// Package is what a package presents itself as.
type Package struct {
	ID, Name string // of the release
	Manifest string // SHA-256; "": it has none
	Signed   bool   // somebody who is trusted vouches for it
	Signer   string
	Former   bool // another package may have had the release's id since
}

// objection says why a package is not what its release was, "" if it is, or
// was never seen.
func (t *Feed) objection(s Package) (Kind, string) {
	if s.Manifest == "" {
		if r := t.Releases[s.ID]; r != nil && r.Signed {
			return Changed, "the release had a signed manifest when it was first seen, and has none now"
		}
		return "", ""
	}
	r := t.Releases[s.ID]
	switch {
	case r == nil:
	case r.Manifest == s.Manifest, s.Former && slices.Contains(r.Former, s.Manifest):
		return "", ""
	case !r.Signed && s.Signed:
		return "", "" // nobody vouched for what was seen
	default:
		was := "manifest"
		if r.Signed {
			was = "signed manifest"
		}
		return Changed, fmt.Sprintf("the %s of this release changed after it was first seen on %s", was, r.First.Format("2006-01-02"))
	}
	if !s.Signed {
		return "", ""
	}
	// What a publisher signed says nothing of which release it is: it must not
	// come back under another one (S5).
	for id, other := range t.Releases {
		if id != s.ID && other.Manifest == s.Manifest && other.Signed {
			return Replayed, fmt.Sprintf("it is the package of the release %q, first seen on %s, under another guid (the signed manifest is the same): an old release offered as a new one, or published twice", other.Name, other.First.Format("2006-01-02"))
		}
	}
	return "", ""
}

// note records a package that is seen for the first time, or an alarm.
func (t *Feed) note(s Package, now time.Time) {
	kind, text := t.objection(s)
	r := t.Releases[s.ID]
	switch {
	case kind != "":
		t.raise(Alarm{Kind: kind, ID: s.ID, Name: s.Name, Offered: s.Manifest, Signed: s.Signed, Signer: s.Signer, Text: text, At: now})
		return
	case s.Manifest == "":
		return
	case r == nil, !r.Signed && s.Signed:
		n := &Release{Name: s.Name, Manifest: s.Manifest, Signed: s.Signed, Signer: s.Signer, First: now}
		if r != nil && r.Manifest == s.Manifest {
			n.First = r.First
		} else if r != nil {
			n.succeed(r)
		}
		t.Releases[s.ID] = n
	}
	t.settle(func(a Alarm) bool { return a.ID == s.ID && a.Kind != Rollback })
}

// raise adds an alarm, or brings the one there is up to date.
func (t *Feed) raise(a Alarm) {
	i := slices.IndexFunc(t.Alarms, func(b Alarm) bool { return b.Kind == a.Kind && (b.ID == a.ID || a.Kind == Rollback) })
	if i < 0 {
		t.Alarms = append(t.Alarms, a)
		return
	}
	a.At = t.Alarms[i].At
	t.Alarms[i] = a
}

// settle removes alarms that are no more.
func (t *Feed) settle(which func(Alarm) bool) { t.Alarms = slices.DeleteFunc(t.Alarms, which) }
