package trust

import (
	"maps"
	"slices"
	"time"
)

// Feed is what this host remembers of one feed, as it is kept on disk.
type Feed struct {
	Version  int                 `json:"version"`
	Feed     string              `json:"feed"`             // its URL
	Newest   *Newest             `json:"newest,omitempty"` // the newest release so far
	Releases map[string]*Release `json:"releases"`         // by id
	Alarms   []Alarm             `json:"alarms,omitempty"` // what awaits the operator
}

// Newest is the newest release that the feed has had.
type Newest struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Published time.Time `json:"published,omitzero"`
	Seen      time.Time `json:"seen"`
}

// Release is what a release was when it was first seen, or accepted.
type Release struct {
	Name     string    `json:"name"`
	Manifest string    `json:"manifest"` // SHA-256
	Signed   bool      `json:"signed"`   // by a key that was trusted
	Signer   string    `json:"signer,omitempty"`
	First    time.Time `json:"first_seen"`
	Accepted time.Time `json:"accepted,omitzero"` // by the operator
	// Former are manifests in whose place this one came. A release that the feed
	// has dropped may still be one of those.
	Former []string `json:"former,omitempty"`
}

// succeed takes note of what r comes in the place of.
func (r *Release) succeed(was *Release) {
	r.Former = append(slices.Clone(was.Former), was.Manifest)
	r.Former = r.Former[max(0, len(r.Former)-maxFormer):]
}

// Kind says what an Alarm is about.
type Kind string

// The kinds of alarm.
const (
	// Changed: the manifest of a release is not the one first seen.
	Changed Kind = "changed"
	// Replayed: the signed manifest of one release came under another.
	Replayed Kind = "replayed"
	// Rollback: the newest release of the feed is older than one seen before.
	Rollback Kind = "rollback"
)

// Alarm is something that no honest publisher does by accident.
type Alarm struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"`   // of the release; of the newest one for a rollback
	Name string `json:"name"` // of the same
	// Offered is what Accept would record: a manifest, or for a rollback the
	// release to take for the newest.
	Offered   string    `json:"offered"`
	Published time.Time `json:"published,omitzero"` // of Offered, for a rollback
	Signed    bool      `json:"signed,omitempty"`
	Signer    string    `json:"signer,omitempty"`
	Text      string    `json:"text"`
	At        time.Time `json:"at"` // when it was first noticed
}

const (
	version     = 1
	maxFile     = 64 << 20
	maxReleases = 65536 // the first seen longest ago go
	maxAlarms   = 1000
	maxFormer   = 16 // manifests of one release
)

func (t *Feed) trim() {
	if over := len(t.Alarms) - maxAlarms; over > 0 {
		t.Alarms = t.Alarms[over:]
	}
	if len(t.Releases) <= maxReleases {
		return
	}
	ids := slices.SortedFunc(maps.Keys(t.Releases), func(a, b string) int { return t.Releases[a].First.Compare(t.Releases[b].First) })
	for _, id := range ids[:len(ids)-maxReleases] {
		delete(t.Releases, id)
	}
}

// find returns the id of a release by its id or name.
func (t *Feed) find(release string) (string, bool) {
	if t.Releases[release] != nil {
		return release, true
	}
	for id, r := range t.Releases {
		if r.Name == release {
			return id, true
		}
	}
	for _, a := range t.Alarms {
		if a.ID == release || a.Name == release {
			return a.ID, true
		}
	}
	return "", false
}
