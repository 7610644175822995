package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// needMapper leaves a test out where it is not run in a guest, see TestSnapshotDisks of
// the end-to-end tests.
func needMapper(t *testing.T) {
	t.Helper()
	if err := MapperThere(); err != nil {
		t.Skip("a long form: TestSnapshotDisks runs it in a guest that has device-mapper:", err)
	}
}

// wantNoDevices wants no loop device on a file below dir.
func wantNoDevices(t *testing.T, dir string) {
	t.Helper()
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range loops {
		if raw, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(raw), dir) {
			t.Errorf("a loop device is left on %s", raw)
		}
	}
}

// TestSnapshot: what is written to the block device is there again after the device
// was made anew, and the base is not touched.
func TestSnapshot(t *testing.T) {
	needMapper(t)
	dir := t.TempDir()
	base, file := filepath.Join(dir, "base"), filepath.Join(dir, "web1-root.raw")
	const size = 8 << 20
	content := bytes.Repeat([]byte("base"), size/4)
	if err := errors.Join(os.WriteFile(base, content, 0o600), CopyOnWrite(size)(t.Context(), file)); err != nil {
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte("disk"), 1024)
	for i := range 2 {
		if err := Activate(t.Context(), base, file, size); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(DevicePath(filepath.Base(file)), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := f.WriteAt(other, 1<<20); err != nil {
				t.Fatal(err)
			}
		}
		if err := Deactivate(t.Context(), file); err == nil || !strings.Contains(err.Error(), "it runs") || !InUse(t.Context(), file) {
			t.Errorf("a device that is open: %v", err)
		}
		got := make([]byte, 2<<20)
		_, err = f.ReadAt(got, 0)
		want := bytes.Clone(content[:2<<20])
		copy(want[1<<20:], other)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: the device holds something else", err)
		}
		// A machine of the same name in another directory does not get this disk.
		namesake := filepath.Join(t.TempDir(), filepath.Base(file))
		if err := CopyOnWrite(size)(t.Context(), namesake); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("another disk of the same name: %v", err)
		}
		if InUse(t.Context(), file) || InUse(t.Context(), namesake) {
			t.Error("a device that nobody has open is in use")
		}
		if i == 0 {
			if err := Deactivate(t.Context(), file); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The device of a disk that somebody has removed is not taken for that of a new one.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(CopyOnWrite(size)(t.Context(), file), Activate(t.Context(), base, file, size)); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(DevicePath(filepath.Base(file))); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%v: a new disk is not the base", err)
	}
	if err := Deactivate(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(base); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%v: the base has changed", err)
	}
	wantNoDevices(t, dir)
}

// activate makes or removes the block device of a disk in a process of its own.
func activate(what, base, file string, size int64) error {
	if what == "activate" {
		return Activate(context.Background(), base, file, size)
	}
	return Deactivate(context.Background(), file)
}

// dmsetupKills is a dmsetup that kills whoever runs it before or after its call
// number N.
const dmsetupKills = `#!/bin/sh
n=$(($(cat DIR/n 2>/dev/null) + 1))
echo $n >DIR/n
[ $n = BEFORE ] && kill -9 $PPID && exit
REAL "$@"
status=$?
[ $n = AFTER ] && kill -9 $PPID
exit $status
`

// TestSnapshotKilled: after SIGKILL before or after each step of making and removing a
// block device, it is made and removed all the same, holds what was written, and nothing
// is left.
func TestSnapshotKilled(t *testing.T) {
	needMapper(t)
	real, err := exec.LookPath("dmsetup")
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	content := bytes.Repeat([]byte("base"), size/4)
	for _, what := range []string{"activate", "deactivate"} {
		steps := 0
		for n := 1; ; n++ {
			ended := 0
			for _, when := range []string{"BEFORE", "AFTER"} {
				dir := t.TempDir()
				base, file := filepath.Join(dir, "base"), filepath.Join(dir, "killed-root.raw")
				program := strings.NewReplacer("DIR", dir, "REAL", real, when, fmt.Sprint(n), "BEFORE", "0", "AFTER", "0").Replace(dmsetupKills)
				if err := errors.Join(os.WriteFile(base, content, 0o600), CopyOnWrite(size)(t.Context(), file), os.WriteFile(filepath.Join(dir, "dmsetup"), []byte(program), 0o700)); err != nil {
					t.Fatal(err)
				}
				want := bytes.Clone(content)
				copy(want[4096:], "written")
				if err := Activate(t.Context(), base, file, size); err != nil {
					t.Fatal(err)
				}
				device := DevicePath(filepath.Base(file))
				if err := writeTo(device, "written", 4096); err != nil {
					t.Fatal(err)
				}
				if what == "activate" {
					if err := Deactivate(t.Context(), file); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), fmt.Sprintf("%s=%s %s %s %d", killEnv, what, base, file, size))
				out, err := cmd.CombinedOutput()
				if err == nil {
					ended++
				} else if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("%v: %s", err, out)
				}
				if err := Activate(t.Context(), base, file, size); err != nil {
					t.Errorf("killed in %s, %s call %d: %v", what, when, n, err)
				}
				if got, err := os.ReadFile(device); err != nil || !bytes.Equal(got, want) {
					t.Errorf("killed in %s, %s call %d: the disk holds something else: %v", what, when, n, err)
				}
				if err := Deactivate(t.Context(), file); err != nil {
					t.Error(err)
				}
				wantNoDevices(t, dir)
			}
			if ended > 0 {
				break
			}
			steps++
		}
		if steps < 2 {
			t.Errorf("%s has %d steps", what, steps)
		}
	}
	out, err := Run(t.Context(), "dmsetup", "ls")
	if err != nil || strings.Contains(out, "killed") {
		t.Errorf("%v: devices are left: %s", err, out)
	}
}

// writeTo writes a text into a disk, durably.
func writeTo(path, text string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Sync(), f.Close())
}
