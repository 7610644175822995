package trust

import (
	"encoding/json"
	"testing"
	"time"

	"vmcastfs/feed"
)

// FuzzTrust reads what is kept of a feed: whatever is in the file, it is refused
// or can be worked with, and what is written of it is read the same.
func FuzzTrust(f *testing.F) {
	f.Add([]byte(`{"version":1,"feed":"https://h/x","newest":{"id":"b","name":"two","seen":"2026-03-01T12:00:00Z"},
		"releases":{"a":{"name":"one","manifest":"00","signed":true,"first_seen":"2026-03-01T12:00:00Z"},"b":null},
		"alarms":[{"kind":"changed","id":"a","name":"one","offered":"11","text":"t","at":"2026-03-01T12:00:00Z"},{"kind":"rollback","id":"a"}]}`), "a", "00")
	f.Add([]byte(`{"version":1}`), "", "")
	f.Add([]byte(`{"version":2}`), "a", "")
	f.Add([]byte(`null`), "a", "")
	f.Add([]byte(`{"version":1,"releases":null,"newest":null,"alarms":[]} {}`), "a", "")
	f.Fuzz(func(t *testing.T, raw []byte, id, manifest string) {
		state, err := parse(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(state)
		if err != nil {
			t.Skip() // a time that JSON cannot write
		}
		back, err := parse(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if twice, err := json.Marshal(back); err != nil || string(twice) != string(again) {
			t.Fatalf("%s becomes %s, %v", again, twice, err)
		}
		now := time.Unix(1e9, 0)
		presented := Package{ID: id, Name: id, Manifest: manifest, Signed: true}
		known := back.Releases[id]
		kind, why := back.objection(presented)
		if (kind == "") != (why == "") || known != nil && manifest != "" && known.Manifest == manifest && kind != "" {
			t.Fatalf("objection %q: %q", kind, why)
		}
		back.note(presented, now)
		if known != nil && known.Signed && back.Releases[id].Manifest != known.Manifest {
			t.Fatal("what was signed has been replaced")
		}
		item := feed.Release{ID: id, Name: id, Published: now}
		back.rollback(&feed.Feed{Releases: []feed.Release{item}}, time.Now())
		back.advance(item, now)
		back.find(id)
		back.trim()
		if len(back.Releases) > maxReleases || len(back.Alarms) > maxAlarms {
			t.Fatal("it grows without bound")
		}
	})
}
