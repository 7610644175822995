package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
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
	testkit.Eventually(t, "the new release is told", time.Minute, func() bool { return strings.Contains(told(out), "second-new") })
	if got := told(out); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "new|new|") ||
		!strings.Contains(got, "$(touch /tmp/x) `id` ; [31m line|"+w.dir+"/") || !strings.Contains(got, "|"+w.origin.URL()+"/demo-1.0.xvm|"+w.feed+"|") {
		t.Errorf("told was\n%s", got)
	}
	testkit.Eventually(t, "its output is in the log", time.Minute, func() bool { return strings.Contains(log(), "said by the hook: new") })
	for name := range strings.FieldsSeq(told(out + ".env")) {
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
	testkit.Eventually(t, "the withdrawn release is told", time.Minute, func() bool { return strings.Contains(told(out), "second-withdrawn") })
	if got := told(out); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "withdrawn|withdrawn|") {
		t.Errorf("told was\n%s", got)
	}

	// A corrupt image.
	_ = os.Remove(out)
	w.origin.Inject(origin.Fault{Path: "/demo-1.1.xvm", Kind: origin.Flip, At: 5 << 20})
	if out, err := w.run("prefetch", w.path("demo-1.1", "disk.img")); exitCode(err) != 1 {
		t.Fatalf("prefetch: %v, %s", err, out)
	}
	testkit.Eventually(t, "the corrupt image is told", time.Minute, func() bool { return strings.Contains(told(out), "second-corrupt") })
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
	testkit.Eventually(t, "the hook is ended", time.Minute, func() bool { return strings.Contains(log(), "it took more than 10s") })
	child, _, _ := strings.Cut(told(pid), "\n") // there are two events
	testkit.Eventually(t, "its child is ended", time.Minute, func() bool {
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
