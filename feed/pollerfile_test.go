package feed

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

func TestPollerOnLocalFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "vmcast.xml")
	write := func(items ...string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(rssOf(items...)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(`<item><guid>1</guid><enclosure url="a.xvm"/></item>`)
	calls := 0
	p, err := NewPoller(PollerOptions{URL: path, Fetch: FetchFile, OnFeed: func(*Feed, []byte) { calls++ }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f, _ := p.Feed()
	if calls != 1 || f.Releases[0].URL != "file://"+filepath.Join(filepath.Dir(path), "a.xvm") {
		t.Errorf("%d calls, %+v", calls, f)
	}
	write(`<item><guid>2</guid><enclosure url="b.xvm"/></item>`) // the same size
	if err := p.Refresh(t.Context()); err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if p.interval() != localInterval {
		t.Errorf("%v", p.interval())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := p.Refresh(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if f, _ := p.Feed(); f == nil || f.Releases[0].ID != "2" {
		t.Error("the last good feed went with the file")
	}
}

func TestFetchFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, MaxBody+1); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{dir, big, fifo, "/dev/zero", filepath.Join(dir, "none"), "http://h/x", "file://host/x", "file:x"} {
		if d, err := FetchFile(t.Context(), spec, "", ""); err == nil {
			t.Errorf("%s: %+v", spec, d)
		}
	}
	for spec, want := range map[string]string{"/a/b.xml": "/a/b.xml", "file:///a%20b.xml": "/a b.xml", "FILE://localhost/x": "/x", "/a/../b": "/b"} {
		if path, ok, err := LocalPath(spec); path != want || !ok || err != nil {
			t.Errorf("%s: %q %v %v", spec, path, ok, err)
		}
	}
	for _, spec := range []string{"http://h/x", "https://h/x", "ftp://h/x"} {
		if path, ok, _ := LocalPath(spec); ok {
			t.Errorf("%s: %q", spec, path)
		}
	}
	if path, ok, err := LocalPath("vmcast.xml"); !ok || err != nil || !filepath.IsAbs(path) {
		t.Errorf("%q %v %v", path, ok, err)
	}
}

// TestL2WriterOfALocalFeed: who could have put a feed where it is, is who can
// exchange it.
func TestL2WriterOfALocalFeed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, and another user")
	}
	const stranger, second = 65534, 12345
	top := t.TempDir()
	made := func(name string, uid int, make func(path string) error) string {
		path := filepath.Join(top, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }
	link := func(to string) func(string) error { return func(p string) error { return os.Symlink(to, p) } }
	mkdir := func(p string) error { return os.Mkdir(p, 0o755) }
	made("ours", 0, mkdir)
	made("theirs", stranger, mkdir)
	for path, want := range map[string]int{
		made("ours/feed.xml", 0, file):                                 0,
		made("ours/given.xml", second, file):                           second,
		made("theirs/feed.xml", 0, file):                               stranger,
		made("theirs/given.xml", second, file):                         stranger,
		made("link.xml", 0, link("ours/feed.xml")):                     0,
		made("back.xml", 0, link(filepath.Join(top, "ours/feed.xml"))): 0,
		made("planted.xml", stranger, link("ours/feed.xml")):           stranger,
		made("theirs/link.xml", stranger, link("../ours/feed.xml")):    stranger,
		made("through.xml", 0, link("theirs/link.xml")):                stranger, // a link of ours, that leads to theirs, that leads to ours
		made("by", stranger, link("ours")) + "/feed.xml":               stranger,
		made("up", 0, link("theirs/..")) + "/ours/feed.xml":            stranger,
	} {
		d, err := FetchFile(t.Context(), path, "", "")
		if err != nil || d.From != strconv.Itoa(want) {
			t.Errorf("%s: %+v, %v; want %d", path, d, err, want)
			continue
		}
		if d, err = FetchFile(t.Context(), path, d.ETag, ""); err != nil || !d.NotModified || d.From != strconv.Itoa(want) {
			t.Errorf("%s, again: %+v, %v", path, d, err)
		}
	}
}
