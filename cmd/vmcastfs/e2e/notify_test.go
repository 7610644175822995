package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// manager is what systemd is for a service of Type=notify.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	env  []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	addr := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, append(os.Environ(), "NOTIFY_SOCKET="+addr.Name, "WATCHDOG_USEC=300000")}
}

// wait reads messages until one has the line, and returns that one.
func (m *manager) wait(line string) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	p := make([]byte, 64<<10)
	for {
		n, err := m.conn.Read(p)
		if err != nil {
			m.t.Fatalf("waiting for %q: %v", line, err)
		}
		for l := range strings.Lines(string(p[:n])) {
			if strings.HasPrefix(l, line) {
				return string(p[:n])
			}
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	m := newManager(t)
	cmd := exec.Command(binary, "mount", "-f", "-o", w.options(), "--", w.feed, w.dir)
	cmd.Env = m.env
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fs.UnmountDir(w.dir, true) }()
	if msg := m.wait("READY=1"); !strings.Contains(msg, "STATUS="+w.dir+": 2 releases, 0 open") {
		t.Errorf("ready with %q", msg)
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) == 0 {
		t.Errorf("ready, but the root shows %v, %v", entries, err)
	}
	for range 3 {
		m.wait("WATCHDOG=1")
	}
	before := w.origin.Stats(appliance.FeedPath).Requests
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if msg := m.wait("RELOADING=1"); !strings.Contains(msg, "MONOTONIC_USEC=") {
		t.Errorf("reloading with %q", msg)
	}
	m.wait("READY=1")
	if after := w.origin.Stats(appliance.FeedPath).Requests; after != before+1 {
		t.Errorf("reloading made %d requests for the feed", after-before)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.wait("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("stopping: %v\n%s", err, log.String())
	}
}

// A dead mount is told from others, and replaced by the next one.
func TestStaleMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	disk := readAll(t, w.path("latest", "disk.img"))
	if out, err := w.run("prefetch", w.path("latest")); err != nil {
		t.Fatalf("prefetch: %v\n%s", err, out)
	}
	w.allListed()
	pids := w.daemons()
	if len(pids) != 1 {
		t.Fatalf("%d daemons", len(pids))
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.waitGone(pids[0])
	testkit.Eventually(t, "the mount is dead", time.Minute, func() bool { return fs.IsStale(w.dir) })
	if out, err := w.run("status", w.dir); exitCode(err) != 1 || !strings.Contains(out, "dead") {
		t.Errorf("status of a dead mount: %v\n%s", err, out)
	}
	w.origin.ResetStats()
	began := w.now()
	w.mount()
	if d := w.now() - began; d > time.Minute {
		t.Errorf("mounting over a dead mount took %s", d)
	}
	if !bytes.Equal(readAll(t, w.path("latest", "disk.img")), disk) {
		t.Error("disk.img differs")
	}
	if st := w.packageStats(); st.BytesSent > 256<<10 { // a look whether the archive is still the same one
		t.Errorf("%d requests, %d bytes for what had been verified", st.Requests, st.BytesSent)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Count(string(table), " "+w.dir+" ") != 1 {
		t.Errorf("mounts on %s: %v\n%s", w.dir, err, table)
	}
	// umount cleans a dead mount up too.
	pids = w.daemons()
	if len(pids) != 1 {
		t.Fatalf("%d daemons", len(pids))
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.waitGone(pids[0])
	if out, err := w.run("umount", w.dir); err != nil {
		t.Errorf("umount of a dead mount: %v\n%s", err, out)
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
		t.Errorf("still mounted: %v, %v", entries, err)
	}
}
