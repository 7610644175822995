package feed

import (
	"encoding/json"
	"errors"
	"runtime/metrics"
	"testing"
	"time"
)

// allocated runs what is fuzzed and returns how many bytes of memory it asked for.
func allocated(run func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	run()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// FuzzSaved starts a poller from any saved document: it has the feed in it or
// none, and is able to go on.
func FuzzSaved(f *testing.F) {
	const url = "https://feeds.example/vmcast.xml"
	body := []byte(rssOf(item("a", "1", ""), item("a", "2", "")))
	seed, err := json.Marshal(saved{Version: 1, URL: feedKey(url), FinalURL: url, Body: body, Fetched: time.Unix(1e9, 0), Names: new(nameTable)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1,"names":{"version":1,"round":9223372036854775807,"names":{"x":null,"y":{"name":"../x"},"z":{"name":"a","seen":-1}}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var p *Poller
		used := allocated(func() {
			var err error
			p, err = NewPoller(PollerOptions{URL: url, Fetch: FetchFile, Load: func() ([]byte, error) { return doc, nil }})
			if err != nil {
				t.Fatal(err)
			}
		})
		if used > 16<<20+200*uint64(len(doc)) {
			t.Errorf("%d bytes took %d of memory", len(doc), used)
		}
		list := []Release{{ID: "1", Title: "a"}, {ID: "2", Title: "a"}, {ID: "new", Title: "../a"}}
		p.names.assign(list)
		for i, r := range list {
			checkName(t, r.Name)
			for _, other := range list[:i] {
				if fold(r.Name) == fold(other.Name) {
					t.Errorf("%q and %q", r.Name, other.Name)
				}
			}
		}
		loaded, raw := p.Feed()
		if loaded == nil {
			return
		}
		if again, err := Parse(Document{Body: raw, FinalURL: p.saved.FinalURL, ContentType: p.saved.ContentType}); err != nil && !errors.Is(err, ErrNoReleases) {
			t.Errorf("a feed that does not parse was taken: %v", err)
		} else if again != nil && len(again.Releases) != len(loaded.Releases) {
			t.Errorf("%d releases, then %d", len(loaded.Releases), len(again.Releases))
		}
	})
}
