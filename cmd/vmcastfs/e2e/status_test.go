package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs/catalog"
)

// mountStatus is what `status --json` prints of a mount.
type mountStatus struct {
	Dir    string          `json:"dir"`
	Feed   string          `json:"feed"`
	State  string          `json:"state"`
	Rate   *float64        `json:"rate_bytes_per_second"`
	Images []imageProgress `json:"progress"`
	Status *catalog.Status `json:"status"`
}

// imageProgress is how an image grows.
type imageProgress struct {
	Release string   `json:"release"`
	File    string   `json:"file"`
	Rate    float64  `json:"rate_bytes_per_second"`
	ETA     *float64 `json:"eta_seconds"`
}

// cacheFile is what `cache list --json` prints of a file.
type cacheFile struct {
	Key    string `json:"key"`
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	State  string `json:"state"`
	InUse  bool   `json:"in_use"`
	Pinned bool   `json:"pinned"`
}

func TestStatusCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.origin.SetBandwidth(1 << 20)
	w.mount()
	hold(t, w.path("latest", "disk.img"))
	readSome(t, w.path("latest", "disk.img"))
	var out []byte
	var m mountStatus
	testkit.Eventually(t, "a growing image", time.Minute, func() bool {
		var err error
		if out, err = exec.Command(binary, "status", "--json", w.path("latest")).Output(); err != nil { // any path in the mount
			t.Fatal(err)
		}
		var mounts []mountStatus
		if err := json.Unmarshal(out, &mounts); err != nil || len(mounts) != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		m = mounts[0]
		return len(m.Images) > 0
	})
	if m.Dir != w.dir || m.Feed != w.feed || m.State != "mounted" || m.Rate == nil || m.Status == nil || len(m.Status.Releases) != 2 {
		t.Fatalf("status is\n%s", out)
	}
	if st := m.Status; len(st.Origins) != 1 || st.Origins[0].Requests == 0 || st.Cache.Bytes == 0 || st.Reads.Reads == 0 || st.Reads.Latency.Miss.Total() == 0 || st.Reads.Latency.Miss.Nanos == 0 {
		t.Errorf("counters are\n%s", out)
	}
	// Images of which a size is being found behind the open grow, too.
	if !slices.ContainsFunc(m.Images, func(p imageProgress) bool {
		return p.Release == "demo-1.1" && p.File == "disk.img" && p.Rate > 0 && p.ETA != nil
	}) {
		t.Errorf("progress is %+v", m.Images)
	}
	text, err := w.run("status", w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{w.dir, w.feed, "2 releases", "disk.img", ", open", "demo-1.1", "LATENCY", "from the cache", " misses: ", w.origin.URL()} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	if out, err := w.run("status", t.TempDir()); exitCode(err) != 1 || !strings.Contains(out, "no feed is mounted on") {
		t.Errorf("status of another directory: %v, %s", err, out)
	}
}

func readSome(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
}

func TestStatusWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	cmd := exec.Command(binary, "status", "--json", "--watch", w.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(out)
	for i := range 2 {
		var mounts []mountStatus
		if err := dec.Decode(&mounts); err != nil || len(mounts) != 1 || mounts[0].State != "mounted" || (mounts[0].Rate != nil) != (i > 0) {
			t.Errorf("look %d: %v, %+v", i, err, mounts)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C ends a watch with %v", err)
	}
}

func TestPrefetch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	out, err := exec.Command(binary, "prefetch", w.path("latest")).Output()
	if err != nil {
		t.Fatalf("prefetch: %v\n%s", err, out)
	}
	for _, name := range []string{"disk.img", "data.img", "data.img.gz"} {
		if state := attr(w.path("latest", name), "state"); state != "verified" {
			t.Errorf("%s is %s", name, state)
		}
		if !strings.Contains(string(out), w.path("demo-1.1", name)+"\tverified") {
			t.Errorf("the output lacks %s:\n%s", name, out)
		}
	}
	w.origin.ResetStats()
	if out, err := w.run("prefetch", w.path("latest", "disk.img")); err != nil {
		t.Errorf("prefetch again: %v\n%s", err, out)
	}
	if st := w.origin.Stats("/demo-1.1.xvm"); st.Requests != 0 {
		t.Errorf("prefetching what is there made %d requests", st.Requests)
	}
	for _, arg := range []string{w.dir, w.path("none"), w.path("latest", "none"), t.TempDir()} {
		if out, err := w.run("prefetch", arg); exitCode(err) != 1 {
			t.Errorf("prefetch %s: %v\n%s", arg, err, out)
		}
	}
}

// Interrupted, it ends at once even if the server does not answer, and what was
// fetched is not fetched again.
func TestPrefetchResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off", "stall=1h")
	disk := w.path("latest", "disk.img")
	if _, err := os.ReadDir(w.path("latest")); err != nil {
		t.Fatal(err)
	}
	w.origin.SetBandwidth(2 << 20)
	cmd := exec.Command(binary, "prefetch", disk)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "something is fetched", time.Minute, func() bool { return w.file("demo-1.1", "disk.img").CachedBytes > 1<<20 })
	remove := w.origin.Inject(origin.Fault{Path: "/*", Kind: origin.Stall})
	began := w.now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); exitCode(err) != 8 {
		t.Errorf("interrupted: %v\n%s", err, out.String())
	}
	if d := w.now() - began; d > time.Minute {
		t.Errorf("ending took %s", d)
	}
	remove()
	w.origin.SetBandwidth(0)
	had := w.file("demo-1.1", "disk.img").CachedBytes
	w.origin.ResetStats()
	if out, err := w.run("prefetch", disk); err != nil {
		t.Fatalf("prefetch: %v\n%s", err, out)
	}
	if st := w.packageStats(); st.BytesSent > int64(len(w.app.Disk))-had+512<<10 {
		t.Errorf("%d bytes fetched of %d although %d were there", st.BytesSent, len(w.app.Disk), had)
	}
}

func TestPrefetchCorrupt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.origin.Inject(origin.Fault{Path: "/demo-1.1.xvm", Kind: origin.Flip, At: 5 << 20})
	w.mount("complete=off")
	out, err := w.run("prefetch", w.path("latest", "disk.img"), w.path("demo-1.0", "disk.img"))
	if exitCode(err) != 1 || !strings.Contains(out, "corrupt") || !strings.Contains(out, w.path("demo-1.0", "disk.img")+"\tverified") {
		t.Errorf("prefetch: %v\n%s", err, out)
	}
	if _, err := os.ReadFile(w.path("latest", "disk.img")); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading the corrupt image: %v", err)
	}
}

func TestCacheCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	readAll(t, w.path("latest", "disk.img"))
	readAll(t, w.path("demo-1.0", "disk.img"))
	cache := func(code int, args ...string) string {
		t.Helper()
		out, err := w.run(append([]string{"cache", "--cache", w.cache}, args...)...)
		if exitCode(err) != code {
			t.Errorf("cache %q: exit code %d, want %d\n%s", args, exitCode(err), code, out)
		}
		return out
	}
	list := func() map[string]cacheFile {
		t.Helper()
		var files []cacheFile
		if err := json.Unmarshal([]byte(cache(0, "list", "--json")), &files); err != nil {
			t.Fatal(err)
		}
		named := make(map[string]cacheFile)
		for _, f := range files {
			named[f.Name] = f
		}
		return named
	}
	f, err := os.Open(w.path("latest", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "only the open file is in use, and all is in the list", time.Minute, func() bool { // closing is not waited for
		got := list()
		return got["demo-1.1/disk.img"].InUse && !got["demo-1.0/disk.img"].InUse && got["demo-1.0/disk.img"].Bytes == 8<<20
	})
	if out := cache(1, "remove", "demo-1.1/disk.img"); !strings.Contains(out, "in use") {
		t.Errorf("removing what is open: %s", out)
	}
	f.Close()
	w.umount()

	cache(0, "verify")
	cache(0, "pin", "demo-1.1")
	if out := cache(0, "list"); !strings.Contains(out, "demo-1.1/disk.img") || !strings.Contains(out, "pinned") {
		t.Errorf("the list is\n%s", out)
	}
	if out := cache(0, "prune"); !strings.Contains(out, "freed") {
		t.Errorf("prune: %s", out)
	}
	if got := list(); !got["demo-1.1/disk.img"].Pinned || len(got["demo-1.0/disk.img"].Key) != 0 {
		t.Errorf("after pruning there are %+v", got)
	}
	key := list()["demo-1.1/disk.img"].Key
	damage(t, filepath.Join(w.cache, "files", key+".data"), 3<<20)
	if out := cache(1, "verify"); !strings.Contains(out, "1 damaged") {
		t.Errorf("verify: %s", out)
	}
	cache(0, "verify")
	cache(1, "remove", key[:12])
	cache(0, "unpin", "demo-1.1/disk.img")
	cache(0, "remove", key[:12])
	cache(1, "remove", "demo-1.1")
	cache(1, "nonsense")
	if out, err := w.run("cache", "list", "-o", "soft,cache="+w.cache); err != nil || !strings.Contains(out, "demo-1.1/data.img") {
		t.Errorf("cache list -o cache=: %v, %s", err, out)
	}
	if out, err := w.run("trust", "list", "--state", w.cache+"-state"); err != nil || !strings.Contains(out, w.feed) {
		t.Errorf("trust list --state: %v, %s", err, out)
	}
	if out, err := w.run("cache", "list", "--cache", t.TempDir()); exitCode(err) != 1 || !strings.Contains(out, "no cache in") {
		t.Errorf("no cache: %v, %s", err, out)
	}
}

// TestPinByPath pins what nobody has read yet: once it is there it stays, and
// more than the cache may hold is refused with what to do.
func TestPinByPath(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disks := map[string][]byte{"one": noise(6<<20, 70), "two": noise(6<<20, 71), "big": noise(6<<20, 72)}
	for name, disk := range disks {
		w.publish(name, packListed(t, member{"disk.img", disk}))
	}
	w.mount("cache_size=16M", "complete=off")
	if out, err := w.run("cache", "pin", w.path("one")); err != nil {
		t.Fatalf("pin: %v, %s", err, out)
	}
	if out, err := command(t, filepath.Dir(w.dir), binary, "cache", "pin", filepath.Join(filepath.Base(w.dir), "two/disk.img")); err != nil {
		t.Fatalf("pin: %v, %s", err, out)
	}
	if out, err := w.run("cache", "--cache", w.cache, "list"); err != nil || !regexp.MustCompile(`two/disk.img +[0-9a-f]{8} .*, pinned `).MatchString(out) {
		t.Errorf("the list does not show what is pinned: %v\n%s", err, out)
	}
	if out, err := w.run("cache", "pin", w.path("big")); exitCode(err) != 1 || !strings.Contains(out, "cache_size=") {
		t.Errorf("pinning more than the cache may hold: %v, %s", err, out)
	}
	if out, err := w.run("cache", "--cache", w.cache, "pin", "big/disk.img"); exitCode(err) != 1 || !strings.Contains(out, "by its path in a mount") {
		t.Errorf("pinning by name what is not cached: %v, %s", err, out)
	}
	if out, err := w.run("prefetch", w.path("one")); err != nil {
		t.Fatalf("prefetch: %v, %s", err, out)
	}
	testkit.Eventually(t, "the others have passed through", time.Minute, func() bool {
		w.wantFile(disks["big"], "big", "disk.img")
		w.wantFile(disks["two"], "two", "disk.img")
		return w.status().Cache.EvictedFiles > 0 || w.status().Cache.Full > 0
	})
	if got := attr(w.path("one", "disk.img"), "cached_bytes"); got != fmt.Sprint(len(disks["one"])) {
		t.Errorf("of the pinned image %s bytes are left", got)
	}
	if out, err := w.run("cache", "unpin", w.path("one")); err != nil {
		t.Fatalf("unpin: %v, %s", err, out)
	}
	w.umount()
	if out, err := w.run("cache", "--cache", w.cache, "prune"); err != nil {
		t.Fatalf("prune: %v, %s", err, out)
	}
	if out, err := w.run("cache", "--cache", w.cache, "list"); err != nil || strings.Contains(out, "one/disk.img") || !strings.Contains(out, "two/disk.img") {
		t.Errorf("with the one unpinned and the other pinned pruning leaves: %v\n%s", err, out)
	}
}

// damage flips a byte.
func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 1
	if _, err := f.WriteAt(p, at); err != nil {
		t.Fatal(err)
	}
}
