package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestF4F8F15PollerKeepsLastGood(t *testing.T) {
	t.Parallel()
	good := []byte(rssOf(item("a", "1", ""), item("b", "2", "")))
	s := &fakeServer{doc: Document{Body: good, ETag: "1"}}
	var seen []int
	o := PollerOptions{Refresh: time.Minute, OnFeed: func(f *Feed, raw []byte) { seen = append(seen, len(f.Releases)) }}
	polling(t, s, o, func(t *testing.T, p *Poller) {
		first, _ := p.Feed()
		for name, bad := range map[string]func(){
			"F8 html":        func() { s.doc = Document{Body: fixture(t, "portal.html")} },
			"F1 entities":    func() { s.doc = Document{Body: []byte("<!DOCTYPE a [<!ENTITY b 'c'>]>" + rssOf())} },
			"F3 too large":   func() { s.doc = Document{Body: make([]byte, MaxBody+1)} },
			"F9 binary":      func() { s.doc = Document{Body: []byte("\x00\xff\x00")} },
			"F10 no package": func() { s.doc = Document{Body: []byte(rssOf("<item><title>x</title></item>"))} },
			"F15 downgrade":  func() { s.doc = Document{Body: good, FinalURL: "http://h.example/feed.xml"} },
			"other scheme":   func() { s.doc = Document{Body: good, FinalURL: "file:///etc/passwd"} },
			"empty body":     func() { s.doc = Document{} },
			"no item left":   func() { s.doc = Document{Body: []byte(rssOf())} },
			"cut off":        func() { s.doc = Document{Body: good[:len(good)-20]} },
			"unreachable":    func() { s.err = errors.New("no route to host") },
			"never ending":   func() { s.delay = time.Hour }, // F4
		} {
			s.set(func() { s.doc, s.err, s.delay = Document{Body: good, ETag: "1"}, nil, 0; bad() })
			err := p.Refresh(t.Context())
			f, raw := p.Feed()
			st := p.Status()
			if err == nil || f != first || string(raw) != string(good) || !st.Stale || st.LastError == "" || st.Releases != 2 {
				t.Errorf("%s: %v, %+v", name, err, st)
			}
			if name == "F15 downgrade" && !errors.Is(err, errDowngrade) {
				t.Errorf("%v", err)
			}
			if name == "never ending" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			s.set(func() { s.doc, s.err, s.delay = Document{Body: good, ETag: "1"}, nil, 0 })
			if err := p.Refresh(t.Context()); err != nil || p.Status().Stale {
				t.Errorf("after %s: %v", name, err)
			}
		}
		if fmt.Sprint(seen) != "[2]" {
			t.Errorf("OnFeed: %v", seen)
		}
	})
}

func TestF12NewPackageUnderOldID(t *testing.T) {
	t.Parallel()
	s := &fakeServer{doc: Document{Body: []byte(rssOf(item("a", "1", ""), item("b", "2", "")))}}
	var got []*Feed
	polling(t, s, PollerOptions{OnFeed: func(f *Feed, _ []byte) { got = append(got, f) }}, func(t *testing.T, p *Poller) {
		s.set(func() { s.doc.Body = []byte(strings.Replace(string(s.doc.Body), "/1.xvm", "/1-new.xvm", 1)) })
		if err := p.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || !warned(got[1], "release a has a new package") || len(got[1].Warnings) != 1 || got[0].Releases[0].Name != got[1].Releases[0].Name {
			t.Errorf("%+v", got)
		}
	})
}

func TestPollerRestart(t *testing.T) {
	t.Parallel()
	var store []byte
	o := PollerOptions{
		Load: func() ([]byte, error) {
			if store == nil {
				return nil, os.ErrNotExist
			}
			return store, nil
		},
		Save: func(b []byte) error { store = b; return nil },
	}
	s := &fakeServer{doc: Document{Body: []byte(rssOf(item("vm", "young", "2021-01-01"), item("vm", "old", "2020-01-01"))), ETag: "1"}}
	var names map[string]string
	polling(t, s, o, func(t *testing.T, p *Poller) {
		f, _ := p.Feed()
		names = nameMap(f.Releases)
	})
	if strings.Contains(string(store), "secret") {
		t.Error("credentials are saved")
	}
	if names["old"] != "vm" {
		t.Fatalf("%q", names)
	}

	// The server is down: the feed is there all the same, and says that it is stale.
	s.set(func() { s.err = errors.New("down") })
	s.take()
	polling(t, s, o, func(t *testing.T, p *Poller) {
		f, raw := p.Feed()
		st := p.Status()
		if f == nil || fmt.Sprint(nameMap(f.Releases)) != fmt.Sprint(names) || string(raw) != string(s.doc.Body) || !st.Stale || st.LastSuccess.IsZero() {
			t.Errorf("%+v", st)
		}
		if c := s.take(); c[0].etag != "1" {
			t.Errorf("%+v", c)
		}
		// Back again with an older release that would like the name.
		s.set(func() {
			s.err = nil
			s.doc = Document{Body: []byte(rssOf(item("vm", "oldest", "2019-01-01"), item("vm", "young", "2021-01-01"))), ETag: "2"}
		})
		if err := p.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, _ = p.Feed()
		if got := nameMap(f.Releases); got["young"] != names["young"] || got["oldest"] == "vm" {
			t.Errorf("%q", got)
		}
	})

	// Another feed's document, and a damaged one, are of no use.
	whole := store
	for name, damage := range map[string]func(){
		"other feed": func() { o.URL = "https://other.example/feed.xml" },
		"cut off":    func() { o.URL, store = "", whole[:len(whole)/2] },
		"empty":      func() { store = []byte("{}") },
		"no names": func() {
			store = []byte(`{"version":1,"url":"` + feedKey("https://user:secret@h.example/feed.xml?key=abc") + `","names":null,"body":"eA=="}`)
		},
	} {
		damage()
		s.set(func() { s.err = errors.New("down") })
		polling(t, s, o, func(t *testing.T, p *Poller) {
			if f, _ := p.Feed(); f != nil {
				t.Errorf("%s: there is a feed", name)
			}
			s.set(func() { s.err = nil })
			if err := p.Refresh(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
