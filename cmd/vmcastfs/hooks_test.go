package main

import (
	"fmt"
	"html"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// TestHookFlood: what a feed says reaches a hook in one printable line each, of
// a size that a program can be started with, and however much of it there is,
// the corrupt image is told.
func TestHookFlood(t *testing.T) {
	t.Parallel()
	s, err := store.Open(store.Options{Dir: filepath.Join(t.TempDir(), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, hook := filepath.Join(t.TempDir(), "told"), filepath.Join(t.TempDir(), "hook")
	program(t, hook, "#!/bin/sh\necho \"$1|$VMCASTFS_FILE\" >>"+out+"\n")
	began := time.Now()
	item := func(title, id, url string) string {
		return fmt.Sprintf(`<item><title>%s</title><guid>%s</guid><enclosure url="%s" length="1" type="application/x-xvm"/></item>`, title, id, html.EscapeString(url))
	}
	evil := "\x1b]0;t\x07a\nb\rc\u009b2J\u202ed=e\x00"
	items := []string{item("old", "old", "http://h/old.xvm")}
	for i := range 2 * hookEvents {
		items = append(items, item(fmt.Sprintf("%d \u009b2J\u202e&#10;%s", i, strings.Repeat("x", 9000)), fmt.Sprint(i), fmt.Sprintf("http://h/%d/%s.xvm?\u202e&#x9b;#\u009b", i, strings.Repeat("y\u202e", 1000))))
	}
	status := func(items []string) catalog.Status {
		f, err := feed.Parse(feed.Document{Body: []byte(`<rss version="2.0"><channel><title>hostile</title>` + strings.Join(items, "\n") + `</channel></rss>`), FinalURL: "http://h/feed.xml"})
		if err != nil {
			t.Fatal(err)
		}
		st := catalog.Status{Feed: catalog.FeedStatus{LastSuccess: &began}}
		for _, r := range f.Releases {
			st.Releases = append(st.Releases, catalog.ReleaseStatus{ID: r.ID, Name: r.Name, Title: r.Title, URL: show.URL(r.URL), Generation: 1})
		}
		return st
	}
	h := &hooks{program: hook, mount: "/mnt", feed: "http://h/feed.xml", store: s, log: slog.New(slog.DiscardHandler)}
	now := status(items[:1])
	h.status = func() catalog.Status { return now }
	h.load()
	h.look(t.Context())
	now = status(items)
	for i, r := range now.Releases {
		for _, v := range h.environment(event{kind: eventNew, release: known{Name: r.Name, Title: r.Title, URL: r.URL}, name: r.Name, reason: evil}) {
			name, value, _ := strings.Cut(v, "=")
			if show.Text(value) != value || len(v) > 2<<10 {
				t.Errorf("release %d: %s is %.200q, %d bytes", i, name, value, len(v))
			}
		}
		if r.ID == "old" {
			now.Releases[i].Files = []image.Status{{Name: "disk.img", State: "corrupt", Note: evil}}
		}
	}
	h.look(t.Context())
	first, rest, _ := strings.Cut(told(out), "\n")
	if n := strings.Count(rest, "new|\n"); first != "corrupt|disk.img" || n != hookEvents-1 {
		t.Errorf("first told was %q, then %d of %d new releases", first, n, 2*hookEvents)
	}
}

// TestUnsafeHookIsNotRun: nor is one that became unsafe, or came, after the mount.
func TestUnsafeHookIsNotRun(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	out := filepath.Join(t.TempDir(), "told")
	for name, spoil := range map[string]func(dir, path string) error{
		"":                       func(string, string) error { return nil },
		"open to all":            func(_, path string) error { return os.Chmod(path, 0o757) },
		"open to a group":        func(_, path string) error { return os.Chmod(path, 0o775) },
		"in an open directory":   func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"another user's":         func(_, path string) error { return os.Chown(path, nobody, nobody) },
		"in another's directory": func(dir, _ string) error { return os.Chown(dir, nobody, nobody) },
	} {
		if os.Geteuid() != 0 && strings.Contains(name, "another") {
			continue
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "hook")
		program(t, path, "#!/bin/sh\necho told >>"+out+"\n")
		if err := spoil(dir, path); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(out)
		h := &hooks{dir: dir, mount: "/mnt", log: slog.New(slog.DiscardHandler)}
		h.tell(t.Context(), event{kind: eventNew})
		if ran := told(out) != ""; ran != (name == "") {
			t.Errorf("a hook that is %q: run %v", name, ran)
		}
	}
}

// program writes an executable script.
func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// told is what the hooks have written so far.
func told(path string) string {
	raw, _ := os.ReadFile(path)
	return string(raw)
}
