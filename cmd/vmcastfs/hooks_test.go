package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog"
)

// program writes an executable.
func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// told is what a hook wrote, one event a line.
func told(path string) string {
	raw, _ := os.ReadFile(path)
	return string(raw)
}

func TestHooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "told")
	hooks := filepath.Join(dir, "hooks")
	if err := os.Mkdir(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	one := filepath.Join(dir, "on event") // with a space: there is no shell between
	program(t, one, `#!/bin/sh
echo "$1|$VMCASTFS_EVENT|$VMCASTFS_RELEASE|$VMCASTFS_FILE|$VMCASTFS_TITLE|$VMCASTFS_PATH|$VMCASTFS_URL|$VMCASTFS_FEED|$VMCASTFS_REASON" >>`+out+`
echo "said by the hook: $VMCASTFS_EVENT"
env | grep -v '^VMCASTFS_' | cut -d= -f1 | sort | tr '\n' ' ' >`+out+`.env
`)
	program(t, filepath.Join(hooks, "20-second"), "#!/bin/sh\necho second-$VMCASTFS_EVENT >>"+out+"\n")
	program(t, filepath.Join(hooks, "30-backup~"), "#!/bin/sh\necho never >>"+out+"\n")
	program(t, filepath.Join(hooks, ".hidden"), "#!/bin/sh\necho never >>"+out+"\n")
	if err := os.WriteFile(filepath.Join(hooks, "README"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	mount := func() func() string { return w.logged("on_event="+one, "hooks="+hooks, "complete=off") }
	log := mount()

	// The first mount tells nothing: all of it would be new.
	evil := "two \"quotes\" $(touch /tmp/x) `id` ; \x1b[31m\nline"
	feed := string(w.app.Feed)
	item := fmt.Sprintf(`<item><title>%s</title><guid>third</guid><pubDate>Fri, 01 May 2026 12:00:00 GMT</pubDate><enclosure url="%s/demo-1.0.xvm" length="%d" type="application/x-xvm"/></item>`,
		strings.NewReplacer("\x1b", "", "&", "&amp;", "\"", "&quot;").Replace(evil), w.origin.URL(), len(w.app.Packages["/demo-1.0.xvm"]))
	w.origin.PutBytes(appliance.FeedPath, []byte(strings.Replace(feed, "<item>", item+"<item>", 1)))
	w.refresh()
	eventually(t, "the new release is told", 20*time.Second, func() bool { return strings.Contains(told(out), "second-new") })
	if got := told(out); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "new|new|") ||
		!strings.Contains(got, "$(touch /tmp/x) `id` ; [31m line|"+w.dir+"/") || !strings.Contains(got, "|"+w.origin.URL()+"/demo-1.0.xvm|"+w.feed+"|") {
		t.Errorf("told was\n%s", got)
	}
	eventually(t, "its output is in the log", 20*time.Second, func() bool { return strings.Contains(log(), "said by the hook: new") })
	for _, name := range strings.Fields(told(out + ".env")) {
		switch name {
		case "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "_":
		default:
			t.Errorf("the hook's environment has %s", name)
		}
	}

	// Withdrawn while nothing is mounted: told at the next mount, once.
	w.umount()
	_ = os.Remove(out)
	w.origin.PutBytes(appliance.FeedPath, []byte(feed))
	log = mount()
	eventually(t, "the withdrawn release is told", 20*time.Second, func() bool { return strings.Contains(told(out), "second-withdrawn") })
	if got := told(out); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "withdrawn|withdrawn|") {
		t.Errorf("told was\n%s", got)
	}

	// A corrupt image.
	_ = os.Remove(out)
	w.origin.Inject(origin.Fault{Path: "/demo-1.1.xvm", Kind: origin.Flip, At: 5 << 20})
	if out, err := w.run("prefetch", w.path("demo-1.1", "disk.img")); exitCode(err) != 1 {
		t.Fatalf("prefetch: %v, %s", err, out)
	}
	eventually(t, "the corrupt image is told", 20*time.Second, func() bool { return strings.Contains(told(out), "second-corrupt") })
	if got := told(out); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "corrupt|corrupt|demo-1.1|disk.img|") || !strings.Contains(got, "sha") {
		t.Errorf("told was\n%s", got)
	}
	_ = os.Remove(out)
	w.umount()
	log = mount()
	if _, err := os.ReadFile(w.path("demo-1.1", "disk.img")); err == nil {
		t.Error("the corrupt image can be read")
	}
	w.refresh()
	if got := told(out); got != "" {
		t.Errorf("told again:\n%s", got)
	}
	if strings.Contains(log(), "level=ERROR msg=\"hook failed\"") {
		t.Errorf("the log says\n%s", log())
	}
}

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
	evil := "\x1b]0;t\x07a\nb\rc\u009b2J\u202ed=e\x00"
	items := []hostileItem{{title: "old", id: "old", enclosures: enclosure("http://h/old.xvm")}}
	for i := range 2 * hookEvents {
		items = append(items, hostileItem{title: fmt.Sprintf("%d \u009b2J\u202e&#10;%s", i, strings.Repeat("x", 9000)), id: fmt.Sprint(i), enclosures: enclosure(fmt.Sprintf("http://h/%d/%s.xvm?\u202e&#x9b;#\u009b", i, strings.Repeat("y\u202e", 1000)))})
	}
	status := func(items []hostileItem) catalog.Status {
		f, err := feed.Parse(hostileFeed(items...), "http://h/feed.xml", nil)
		if err != nil {
			t.Fatal(err)
		}
		st := catalog.Status{Feed: catalog.FeedStatus{LastSuccess: &began}}
		for _, r := range f.Releases {
			st.Releases = append(st.Releases, catalog.ReleaseStatus{ID: r.ID, Name: r.Name, Title: r.Title, URL: remote.Display(r.URL), Generation: 1})
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
			if feed.Sanitize(value) != value || len(v) > 2<<10 {
				t.Errorf("release %d: %s is %.200q, %d bytes", i, name, value, len(v))
			}
		}
		if r.ID == "old" {
			now.Releases[i].Files = []catalog.FileStatus{{Name: "disk.img", State: "corrupt", Note: evil}}
		}
	}
	h.look(t.Context())
	first, rest, _ := strings.Cut(told(out), "\n")
	if n := strings.Count(rest, "new|\n"); first != "corrupt|disk.img" || n != hookEvents-1 {
		t.Errorf("first told was %q, then %d of %d new releases", first, n, 2*hookEvents)
	}
}

func TestHookTakesTooLong(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for the limit of 10 s")
	}
	w := newWorld(t, appliance.Options{})
	dir := t.TempDir()
	slow, pid := filepath.Join(dir, "slow"), filepath.Join(dir, "pid")
	program(t, slow, "#!/bin/sh\nsleep 100 &\necho $! >>"+pid+"\nwait\n")
	log := w.logged("on_event=" + slow)
	w.origin.PutBytes(appliance.FeedPath, []byte(strings.Replace(string(w.app.Feed), "vmcastfs-demo-1.1", "another", 1)))
	w.refresh()
	eventually(t, "the hook is ended", 40*time.Second, func() bool { return strings.Contains(log(), "it took more than 10s") })
	child, _, _ := strings.Cut(told(pid), "\n") // there are two events
	eventually(t, "its child is ended", 10*time.Second, func() bool {
		raw, err := os.ReadFile("/proc/" + child + "/cmdline")
		return err != nil || len(raw) == 0
	})
}

func TestUnsafeHooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	dir := t.TempDir()
	path := filepath.Join(dir, "hook")
	program(t, path, "#!/bin/sh\n")
	refuse := func(option, say string) {
		t.Helper()
		if out, err := w.run("mount", "-o", w.options(option), w.feed, w.dir); exitCode(err) != 1 || !strings.Contains(out, say) {
			t.Errorf("%s: %v, %s", option, err, out)
		}
	}
	refuse("on_event="+dir+"/none", "no such file")
	refuse("on_event="+dir, "no program")
	refuse("hooks="+path, "no directory")
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	refuse("on_event="+path, "written to by others")
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		refuse("on_event="+path, "belongs to another user")
	}
}

// TestUnsafeHookIsNotRun: nor is one that became unsafe, or came, after the mount.
func TestUnsafeHookIsNotRun(t *testing.T) {
	t.Parallel()
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
