package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// demoRun starts vmcastfs demo with a directory of its own for temporary files.
func demoRun(t *testing.T, path string, args ...string) (cmd *exec.Cmd, out *lockedBuffer, tmp string) {
	tmp = t.TempDir()
	out = new(lockedBuffer)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, fastBinary(t), append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if path != "" {
		cmd.Env = append(cmd.Env, "PATH="+path)
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out, tmp
}

var fast struct {
	sync.Mutex
	path string
}

// fastBinary is the binary without the race detector, for what makes much
// content and is no different otherwise.
func fastBinary(t *testing.T) string {
	t.Helper()
	if !raceEnabled {
		return binary
	}
	fast.Lock()
	defer fast.Unlock()
	if fast.path == "" {
		path := filepath.Join(filepath.Dir(binary), "fast", "vmcastfs")
		must(t, testkit.Build(path, ".."))
		fast.path = path
	}
	return fast.path
}

// lockedBuffer is a buffer that a running command writes to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wantNothingLeft: no files, no mounts.
func wantNothingLeft(t *testing.T, tmp string) {
	t.Helper()
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if bytes.Contains(readAll(t, "/proc/self/mounts"), []byte(tmp)) {
		t.Errorf("still mounted under %s", tmp)
	}
}

func TestDemoOnce(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	cmd, out, tmp := demoRun(t, "", "--once")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, word := range []string{"vmcastfs mount", "latest -> demo-1.1", "disk.img", "crossed the network", appliance.BootedLine, "verified", "every step worked"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("%q is missing in\n%s", word, out)
		}
	}
	wantNothingLeft(t, tmp)
}

// TestDemoWithoutQEMU still shows the rest, and says what is missing.
func TestDemoWithoutQEMU(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, tool := range []string{"fusermount3"} {
		if err := os.Symlink(testkit.Need(t, tool), filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	cmd, out, tmp := demoRun(t, bin, "--once")
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "QEMU is not installed") {
		t.Errorf("%v\n%s", err, out)
	}
	wantNothingLeft(t, tmp)
}

// TestDemoInterrupted: Ctrl-C at any time cleans up.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"making a signed appliance", "vmcastfs mount", "it stays mounted until Ctrl-C"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			cmd, out, tmp := demoRun(t, "")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, when, time.Minute, func() bool { return strings.Contains(out.String(), when) })
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if code := exitCode(err); code != exitOK && code != exitInterrupted {
				t.Errorf("%v\n%s", err, out)
			}
			wantNothingLeft(t, tmp)
		})
	}
}

// TestForegroundInterrupted: Ctrl-C on mount -f unmounts, also while a file is
// open and its reader waits for a server that says nothing.
func TestForegroundInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	cmd := exec.Command(binary, "mount", "-f", "-o", w.options(), w.feed, w.dir)
	out := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "mounted", time.Minute, func() bool {
		_, err := os.Lstat(w.path("latest"))
		return err == nil
	})
	readAll(t, w.path("latest", "xvm.xml"))
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) > 0 {
		t.Errorf("still mounted: %v, %v", entries, err)
	}
}

// TestMountInterrupted: Ctrl-C while the feed does not come.
func TestMountInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Hang})
	for _, form := range [][]string{{"mount"}, {"mount", "-f"}, {"list"}} {
		args := append(form, "-o", w.options(), w.feed)
		if form[0] == "mount" {
			args = append(args, w.dir)
		}
		cmd := exec.Command(binary, args...)
		out := new(lockedBuffer)
		cmd.Stdout, cmd.Stderr = out, out
		asked := w.origin.Stats(appliance.FeedPath).Requests
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the feed is asked for", time.Minute, func() bool { return w.origin.Stats(appliance.FeedPath).Requests > asked })
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := exitCode(cmd.Wait()); code != exitInterrupted || !strings.HasSuffix(out.String(), "vmcastfs: interrupted\n") {
			t.Errorf("%v: exit code %d\n%s", form, code, out)
		}
		for _, pid := range w.daemons() {
			w.waitGone(pid)
		}
	}
}

// fds lists what a process has open, without what comes and goes: sockets.
func fds(t *testing.T, pid int) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name()))
		if err == nil && !strings.HasPrefix(target, "socket:") {
			list = append(list, target)
		}
	}
	slices.Sort(list)
	return list
}

// TestNothingLeaks: a daemon that has been used has no more open than before,
// and at its end it has no goroutine left over.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	log := filepath.Join(t.TempDir(), "log")
	socket := filepath.Join(t.TempDir(), "metrics")
	w.mount("log="+log, "metrics=unix:"+socket)
	goroutines := func() (n int) {
		if _, err := fmt.Sscan(scrape(t, "unix", socket)["go_goroutines"], &n); err != nil || n == 0 {
			t.Fatalf("go_goroutines: %d, %v", n, err)
		}
		return n
	}
	use := func() {
		for _, name := range []string{appliance.DiskName, appliance.DataName, appliance.DataName + ".gz", "xvm.xml"} {
			var open []*os.File
			for range 3 {
				f, err := os.Open(w.path("latest", name))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.ReadAt(make([]byte, 100), 0); err != nil {
					t.Fatal(err)
				}
				open = append(open, f)
			}
			testkit.Eventually(t, name+" is verified", time.Minute, func() bool {
				state := attr(open[0].Name(), "state")
				return state == "verified"
			})
			for _, f := range open {
				f.Close()
			}
		}
		w.status()
	}
	use()
	pids := w.daemons()
	if len(pids) != 1 {
		t.Fatalf("%d daemons", len(pids))
	}
	settled := fds(t, pids[0])
	atRest := goroutines()
	for range 3 {
		use()
	}
	testkit.Eventually(t, fmt.Sprintf("there are about %d goroutines, as before", atRest), time.Minute, func() bool { return goroutines() <= atRest+8 }) // of 36 opens
	testkit.Eventually(t, "as many files are open as before", time.Minute, func() bool { return len(fds(t, pids[0])) <= len(settled) })
	testkit.Eventually(t, "no file of the cache is open any more, as nobody reads it", time.Minute, func() bool {
		return !slices.ContainsFunc(fds(t, pids[0]), func(name string) bool {
			return strings.HasSuffix(name, ".data") || strings.HasSuffix(name, ".journal")
		})
	})
	if err := syscall.Kill(pids[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.waitGone(pids[0])
	said := string(readAll(t, log))
	if !strings.Contains(said, "msg=unmounted") || strings.Contains(said, "level=ERROR") || strings.Contains(said, "DATA RACE") {
		t.Errorf("the log says\n%s", said)
	}
}
