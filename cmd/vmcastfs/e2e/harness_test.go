package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
	"vmcastfs/fs/catalog"
)

var binary string // path of the built vmcastfs

func TestMain(m *testing.M) { os.Exit(testkit.Main(m, buildBinary)) }

// buildBinary builds what VMCASTFS_TEST_BINARY does not name.
func buildBinary() error {
	if binary = os.Getenv("VMCASTFS_TEST_BINARY"); binary != "" {
		return nil
	}
	binary = filepath.Join(os.TempDir(), "bin", "vmcastfs")
	build := testkit.Build
	if raceEnabled {
		build = testkit.BuildRace
	}
	if err := build(binary, ".."); err != nil {
		return err
	}
	return os.Symlink("vmcastfs", filepath.Join(filepath.Dir(binary), "mount.vmcastfs"))
}

// world is a served appliance and the directories of one vmcastfs.
type world struct {
	t      *testing.T
	origin *origin.Server
	app    *appliance.Appliance
	feed   string // URL
	dir    string // mount point
	cache  string
	opts   []string // further -o options
	items  []item   // what publish has put into the feed
	relay  *relay   // before the origin, or nil
	netns  string   // the network that the binary runs in; "": this one
	plain  string   // the binary without the race detector, for what it takes; "": as built

	clock func() *testkit.Clock // for limits of time
}

// bareWorld prepares a mount of an origin that serves nothing yet.
func bareWorld(t *testing.T) *world {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testkit.Missing(t, "/dev/fuse")
	}
	w := &world{t: t, origin: origin.New(), app: &appliance.Appliance{}, dir: t.TempDir(), cache: t.TempDir()}
	w.clock = sync.OnceValue(func() *testkit.Clock { return testkit.StartClock(t) })
	if err := w.origin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.origin.Close() })
	t.Cleanup(func() { w.end(w.dir, w.cache) })
	w.feed = w.origin.URL() + appliance.FeedPath
	return w
}

// newWorld serves a small appliance and prepares a mount of it.
func newWorld(t *testing.T, o appliance.Options) *world {
	t.Helper()
	w := bareWorld(t)
	app, err := buildAppliance(o)
	if err != nil {
		t.Fatal(err)
	}
	own := *app
	own.Feed = bytes.ReplaceAll(app.Feed, []byte(nowhere), []byte(w.origin.URL()))
	w.app = &own
	w.origin.PutBytes(appliance.FeedPath, own.Feed)
	for path, content := range own.Packages {
		w.origin.PutBytes(path, content)
	}
	return w
}

// nowhere is the server in the feeds that buildAppliance returns.
const nowhere = "http://nowhere.invalid"

var appliances struct {
	sync.Mutex
	built map[appliance.Options]*appliance.Appliance
}

// buildAppliance makes an appliance once for all tests that want the same;
// nobody may change it.
func buildAppliance(o appliance.Options) (*appliance.Appliance, error) {
	if o.DiskSize == 0 {
		o.DiskSize = 8 << 20
	}
	if o.DataSize == 0 {
		o.DataSize = 2 << 20
	}
	appliances.Lock()
	defer appliances.Unlock()
	if app := appliances.built[o]; app != nil {
		return app, nil
	}
	app, err := appliance.Build(nowhere, o, tarred)
	if err != nil {
		return nil, err
	}
	if appliances.built == nil {
		appliances.built = make(map[appliance.Options]*appliance.Appliance)
	}
	appliances.built[o] = app
	return app, nil
}

// now is the time of the world's clock, which goes slower on a busy machine: what
// must not take longer than some time is measured by it.
func (w *world) now() time.Duration { return w.clock().Elapsed() }

// options is the -o list. A mount that cannot succeed is not tried again.
func (w *world) options(more ...string) string {
	list := append([]string{"retry=0", "prewarm=off", "cache=" + w.cache, "state=" + w.cache + "-state", "cache_free=0"}, w.opts...)
	return strings.Join(append(list, more...), ",")
}

// mount mounts in the background and unmounts at the end of the test.
func (w *world) mount(more ...string) {
	w.t.Helper()
	for tries := 1; ; tries++ {
		out, err := w.run("mount", "-o", w.options(more...), w.feed, w.dir)
		if err == nil {
			break
		}
		// The origin is in this process: on a busy machine it may have nothing to
		// say for longer than a short stall= allows.
		if tries == 5 || !strings.Contains(out, "the server sends nothing") {
			w.t.Fatalf("mount: %v\n%s", err, out)
		}
	}
	w.t.Cleanup(func() { w.end(w.dir) }) // another mount may have the cache
}

// end unmounts and waits for all that still write to directories which are about to be
// removed: daemons, whoever started them, and commands.
func (w *world) end(dirs ...string) {
	_ = fs.UnmountDir(w.dir, true)
	testkit.Eventually(w.t, fmt.Sprintf("all processes of %q end", dirs), time.Minute, func() bool {
		return len(processes(func(line []byte) bool {
			return slices.ContainsFunc(dirs, func(dir string) bool { return bytes.Contains(line, []byte(dir)) })
		})) == 0
	})
}

// umount unmounts and waits for the daemon to end, so that the cache is free
// and what it held is on disk.
func (w *world) umount() {
	w.t.Helper()
	pids := w.daemons()
	if out, err := w.run("umount", w.dir); err != nil {
		w.t.Fatalf("umount: %v\n%s", err, out)
	}
	for _, pid := range pids {
		w.waitGone(pid)
	}
}

// run executes the binary to its end.
func (w *world) run(args ...string) (string, error) {
	if w.netns != "" {
		return runProgram(w.t, "nsenter", append([]string{"--net=" + w.netns, "--", binary}, args...)...)
	}
	return runProgram(w.t, cmp.Or(w.plain, binary), args...)
}

func runBinary(t testing.TB, args ...string) (string, error) { return runProgram(t, binary, args...) }

func runProgram(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// The exit codes that the manual promises.
const (
	exitOK          = 0
	exitFailed      = 1
	exitSystem      = 2
	exitInterrupted = 8
	exitMount       = 32
)

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// daemons are the processes that serve the mount point.
func (w *world) daemons() []int {
	return processes(func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(cmp.Or(w.plain, binary))) && bytes.Contains(line, []byte(w.dir))
	})
}

// processes are those whose command line is of a kind.
func processes(of func(line []byte) bool) (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		line, err := os.ReadFile(p)
		if err != nil || !of(line) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(p, "/proc/%d/", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (w *world) waitGone(pid int) {
	w.t.Helper()
	// A process that has ended but that nobody has waited for yet has no
	// command line any more.
	testkit.Eventually(w.t, fmt.Sprintf("the daemon %d ends", pid), time.Minute, func() bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || len(line) == 0
	})
}

// path is a file of the mount.
func (w *world) path(name ...string) string {
	return filepath.Join(append([]string{w.dir}, name...)...)
}

// packageStats sums what crossed the network for packages.
func (w *world) packageStats() origin.Stats {
	var sum origin.Stats
	for path := range w.app.Packages {
		st := w.origin.Stats(path)
		sum.Requests += st.Requests
		sum.BytesSent += st.BytesSent
	}
	return sum
}

func (w *world) status() catalog.Status {
	w.t.Helper()
	raw, err := os.ReadFile(w.path(".vmcastfs/status.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	var st catalog.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		w.t.Fatalf("status.json: %v", err)
	}
	return st
}

// readAll reads a file whole through the mount.
func readAll(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// attr is user.vmcast.NAME of a file; "" if it has none.
func attr(path, name string) string {
	value := make([]byte, 256)
	n, err := unix.Getxattr(path, "user.vmcast."+name, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

// distFile is a file that `vmcastfs install` puts in place.
func distFile(t testing.TB, name string) string {
	t.Helper()
	return string(readAll(t, "../dist/"+name))
}

// hold keeps a file open, so that its background completion goes on.
func hold(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
}
