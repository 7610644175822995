package machines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
	"vmcastfs/cache/testkit"
	"vmcastfs/fs/catalog/bases"
)

// killEnv makes the test binary do one work and kill itself after a step of it.
const killEnv = "VMCASTFS_TEST_KILL"

func TestMain(m *testing.M) {
	if todo := os.Getenv(killEnv); todo != "" {
		dieAt(strings.Fields(todo))
	}
	os.Exit(m.Run())
}

// dieAt does "create|reset|remove DIR STEP". It prints the step that it dies after.
func dieAt(todo []string) {
	if strings.HasSuffix(todo[0], "activate") {
		size, err := strconv.ParseInt(todo[3], 10, 64)
		if err := errors.Join(err, activate(todo[0], todo[1], todo[2], size)); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	last, err := strconv.Atoi(todo[2])
	if err != nil {
		panic(err)
	}
	w, err := open(todo[1])
	if err != nil {
		panic(err)
	}
	n := 0
	w.Step = func(what string) {
		if n++; n == last {
			fmt.Println(what)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	if err := do(w, todo[0], "new"); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func open(dir string) (*Work, error) {
	d, err := bases.Open(dir, true)
	return &Work{Dir: d}, err
}

func record() *bases.Record {
	im := bases.Image{File: "a.img", Format: "raw", Size: 5, Digest: "sha1:" + strings.Repeat("0", 40), Disk: "a"}
	other := im
	other.Disk = "b"
	return &bases.Record{Version: 1, Name: "web1", Feed: "/feed.xml", GUID: "g", Release: "one", Mount: "/srv", Engine: "qemu", Disk: "raw", Images: []bases.Image{im, other}}
}

// text makes disks that hold it.
func text(content string) (disks []Disk) {
	for _, name := range []string{"a", "b"} {
		disks = append(disks, Disk{name, func(_ context.Context, path string) error { return os.WriteFile(path, []byte(content), 0o600) }})
	}
	return disks
}

func do(w *Work, what, content string) error {
	if what == "create" {
		return w.Create(context.Background(), record(), text(content), map[string]string{"qemu.sh": "true\n"})
	}
	m, err := w.Open("web1")
	if err != nil {
		return err
	}
	defer m.Close()
	if what == "remove" {
		return m.Remove()
	}
	return m.Reset(context.Background(), text(content))
}

// state is "" without a machine, else what its disks hold.
func state(t *testing.T, dir string) string {
	t.Helper()
	records, faults := bases.List(dir)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if len(records) == 0 {
		return ""
	}
	var held []string
	for _, im := range records[0].Images {
		raw, err := os.ReadFile(filepath.Join(dir, "web1", disksName, im.Disk))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, string(raw))
	}
	if _, err := os.Stat(filepath.Join(dir, "web1", "qemu.sh")); err != nil {
		t.Fatal(err)
	}
	return strings.Join(held, " ")
}

// TestKilled: after SIGKILL at each step there is the old state or the new one, for
// all disks together, and the next command leaves nothing of the killed one.
func TestKilled(t *testing.T) {
	for _, c := range []struct{ what, old, new string }{{"create", "", "new new"}, {"reset", "old old", "new new"}, {"remove", "old old", ""}} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			states := make(map[string]bool)
			for step := 1; ; step++ {
				dir := filepath.Join(t.TempDir(), "vms")
				w, err := open(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Dir.Close() //nolint:errcheck // only read
				if c.old != "" {
					if err := do(w, "create", "old"); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", killEnv, c.what, dir, step))
				out, err := cmd.CombinedOutput()
				if err == nil {
					break
				}
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("%v: %s", err, out)
				}
				got := state(t, dir)
				if got != c.old && got != c.new {
					t.Errorf("killed when %s: the machine holds %q", strings.TrimSpace(string(out)), got)
				}
				states[got] = true
				if err := w.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
					if strings.Contains(path, privdir.TempPrefix) {
						t.Errorf("killed when %s: %s is left", strings.TrimSpace(string(out)), path)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if after := state(t, dir); after != got {
					t.Errorf("the sweep made %q of %q", after, got)
				}
			}
			if !states[c.old] && c.what != "remove" || !states[c.new] {
				t.Errorf("states seen: %v", states)
			}
		})
	}
}

// TestFailed: what fails leaves the old state, and nothing else.
func TestFailed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vms")
	w, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Dir.Close() //nolint:errcheck // only read
	full := append(text("new"), Disk{"c", func(context.Context, string) error { return unix.ENOSPC }})
	if err := w.Create(t.Context(), record(), full, nil); !errors.Is(err, unix.ENOSPC) || state(t, dir) != "" {
		t.Error(err, state(t, dir))
	}
	if err := do(w, "create", "old"); err != nil {
		t.Fatal(err)
	}
	if err := do(w, "create", "new"); !errors.Is(err, ErrExists) || state(t, dir) != "old old" {
		t.Error(err, state(t, dir))
	}
	m, err := w.Open("web1")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(t.Context(), full); !errors.Is(err, unix.ENOSPC) || state(t, dir) != "old old" {
		t.Error(err, state(t, dir))
	}
	if _, err := w.Open("web1"); err == nil || !strings.Contains(err.Error(), "another command") {
		t.Error(err)
	}
	// A sweep leaves what somebody works on.
	if err := os.WriteFile(m.Temp("x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.Temp("x")); err != nil {
		t.Error(err)
	}
	m.Close()
	// A link that is planted is not followed, by no command.
	away := filepath.Join(t.TempDir(), "away")
	if err := errors.Join(os.Mkdir(away, 0o700), os.WriteFile(filepath.Join(away, "x"), nil, 0o600),
		os.Symlink(away, filepath.Join(dir, privdir.TempPrefix+"link")), os.Symlink(away, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open("link"); err == nil {
		t.Error("a link is taken for a machine")
	}
	if err := os.Remove(filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := do(w, "remove", ""); err != nil || state(t, dir) != "" {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(away, "x")); err != nil {
		t.Error(err)
	}
	names, err := w.Dir.Names()
	if slices.Sort(names); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "web") }) {
		t.Error(names, err)
	}
}

// TestAtOnce: of commands on one name at once, one alone works on the machine, and the
// machine is there whole or not at all.
func TestAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vms")
	var all sync.WaitGroup
	for range 6 {
		w, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Dir.Close() //nolint:errcheck // only read
		all.Go(func() {
			for i := range 200 {
				err := w.Create(context.Background(), record(), text("new"), map[string]string{"qemu.sh": "true\n"})
				if err != nil && !errors.Is(err, ErrExists) {
					t.Errorf("create: %v", err)
				}
				m, err := w.Open("web1")
				if err != nil {
					if !errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "another command") {
						t.Errorf("open: %v", err)
					}
					continue
				}
				mine := filepath.Join(dir, "web1", "held")
				if f, err := os.OpenFile(mine, os.O_CREATE|os.O_EXCL, 0o600); err != nil {
					t.Errorf("two commands work on the machine: %v", err)
				} else if f.Close(); i%3 == 0 {
					err = m.Reset(context.Background(), text("new"))
					if err = errors.Join(err, os.Remove(mine)); err != nil {
						t.Errorf("reset: %v", err)
					}
				} else if err := m.Remove(); err != nil {
					t.Errorf("remove: %v", err)
				}
				m.Close()
			}
		})
	}
	all.Wait()
	if got := state(t, dir); got != "" && got != "new new" {
		t.Errorf("the machine holds %q", got)
	}
}

// TestQuiet: a disk that QEMU has open is not touched, and QEMU does not open one
// that is being worked on.
func TestQuiet(t *testing.T) {
	testkit.Need(t, "qemu-img")
	qemu := testkit.Need(t, "qemu-system-x86_64")
	dir := t.TempDir()
	base, disk := filepath.Join(dir, "base"), filepath.Join(dir, "disk.qcow2")
	if err := errors.Join(os.WriteFile(base, nil, 0o600), os.Truncate(base, 1<<20), Overlay(base, "raw")(t.Context(), disk)); err != nil {
		t.Fatal(err)
	}
	release, err := Quiet([]string{disk})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := Run(t.Context(), "qemu-img", "check", "-q", "-r", "all", disk); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("qemu-img opens it: %v %s", err, out)
	}
	release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-S", "-drive", "file="+disk+",format=qcow2,if=virtio")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()
	testkit.Eventually(t, "QEMU locks its disk", time.Minute, func() bool {
		release, err := Quiet([]string{disk})
		if err == nil {
			release()
		}
		return err != nil && strings.Contains(err.Error(), "it runs") && Running([]string{disk})
	})
}

// TestRun: a program that is missing, fails, or does not end.
func TestRun(t *testing.T) {
	var missing *MissingError
	if _, err := Run(t.Context(), "vmcastfs-no-such-program"); !errors.As(err, &missing) {
		t.Error(err)
	}
	if _, err := Run(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, "sleep", "600"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
