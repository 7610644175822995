package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// machines prepares a world whose mount looks for machines in a directory of its own.
func (w *world) machines() *machineRoom {
	w.t.Helper()
	m := &machineRoom{vms: filepath.Join(w.t.TempDir(), "vms")}
	w.opts = append(w.opts, "vms="+m.vms)
	return m
}

// wantNot runs a command that fails with a code and says why on one line.
func (m *machineRoom) wantNot(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	out, err := m.vm(t, args...)
	if exitCode(err) != code || !strings.Contains(out, says) || strings.Count(out, "\n") != 1 || strings.Contains(out, ".tmp-") {
		t.Errorf("vm %q: %v, and not %q:\n%s", args, err, says, out)
	}
}

// one is the machine that list knows.
func (m *machineRoom) one(t *testing.T) (found struct {
	State, Problem string
	Images         []struct{ File, Digest, Disk string }
}) {
	t.Helper()
	out, err := m.vm(t, "list", "--json")
	list := []any{&found}
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return found
}

// TestMachineCommands: what is wrong is told on one line, with the exit status of the
// manual, and changes nothing.
func TestMachineCommands(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-img")
	w := newWorld(t, appliance.Options{})
	m := w.machines()
	w.mount("complete=off")
	latest := w.path("latest")
	m.want(t, "made web1 of demo-1.1: qcow2", "create", "web1", latest, "--accel", "tcg")
	record := readAll(t, filepath.Join(m.vms, "web1", "machine.json"))
	if one := m.one(t); one.State != "stopped" || one.Problem != "" || len(one.Images) != 2 || !strings.Contains(one.Images[0].Digest, "sha256:") {
		t.Errorf("%+v", one)
	}

	if out, err := runBinary(t, "__complete", "vm", "reset", "--vms", m.vms, ""); err != nil || !strings.Contains(out, "web1\tdemo-1.1\n") {
		t.Errorf("completing a machine: %v\n%s", err, out)
	}
	m.wantNot(t, exitFailed, "there is a machine of this name", "create", "web1", latest)
	for _, name := range []string{"7", "a b", "../x", ".x", "x/y", strings.Repeat("x", 65), "ä"} {
		m.wantNot(t, exitFailed, "name", "create", name, latest)
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"no release of a mount", []string{"create", "x", w.dir}},
		{"no such file", []string{"create", "x", w.path("nothing")}},
		{"no feed is mounted", []string{"create", "x", t.TempDir()}},
		{"--disk must be", []string{"create", "x", latest, "--disk", "vmdk"}},
		{"--for must be", []string{"create", "x", latest, "--for", "bhyve"}},
		{"--memory must be", []string{"create", "x", latest, "--memory", "-1"}},
		{"--cpus must be", []string{"create", "x", latest, "--cpus", "-1"}},
		{"no such file", []string{"create", "x", latest, "--kernel", "/nothing"}},
		{"--for xl", []string{"create", "x", latest, "--disk", "snapshot"}},
		{"prefetch", []string{"create", "x", latest, "--disk", "raw"}},
		{"no machine x", []string{"start", "x"}}, {"no machine x", []string{"reset", "x"}}, {"no machine x", []string{"remove", "x"}},
		{"no machine x", []string{"commit", "x", "-o", "y"}}, {"needs -o", []string{"commit", "web1"}}, {"needs the NAME", []string{"start"}},
	} {
		m.wantNot(t, exitFailed, c.says, c.args...)
	}
	if _, err := os.Stat("/dev/mapper/control"); err != nil {
		m.wantNot(t, exitFailed, "device-mapper", "create", "x", latest, "--disk", "snapshot", "--for", "xl")
	}
	elsewhere := &machineRoom{vms: filepath.Join(t.TempDir(), "other")}
	elsewhere.wantNot(t, exitFailed, "give --vms "+m.vms, "create", "x", latest)

	// Without qemu-img.
	cmd := exec.Command(binary, "vm", "create", "x", latest, "--vms", m.vms)
	cmd.Env = append(os.Environ(), "PATH="+t.TempDir())
	wantFailure(t, cmd, exitFailed, "qemu-img is not installed", "qemu-utils")

	// A record that was planted is told of, and does not keep the others from being shown.
	if err := errors.Join(os.Mkdir(filepath.Join(m.vms, "planted"), 0o700),
		os.WriteFile(filepath.Join(m.vms, "planted", "machine.json"), bytes.Replace(record, []byte(`"file": "`), []byte(`"file": "../../`), 1), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := m.vm(t, "list")
	if exitCode(err) != exitFailed || !strings.Contains(out, "web1") || !strings.Contains(out, "planted/machine.json") {
		t.Errorf("%v: %s", err, out)
	}
	m.wantNot(t, exitFailed, "machine.json", "start", "planted")
	must(t, os.RemoveAll(filepath.Join(m.vms, "planted")))

	// A mount that hangs, is dead, or is away.
	pid := w.daemons()[0]
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	m.wantNot(t, exitFailed, "hung", "create", "x", latest)
	if one := m.one(t); !strings.Contains(one.Problem, "hung") {
		t.Errorf("%+v", one)
	}
	interrupted := exec.Command(binary, "vm", "create", "x", latest, "--vms", m.vms)
	must(t, interrupted.Start())
	must(t, interrupted.Process.Signal(os.Interrupt))
	if err := interrupted.Wait(); exitCode(err) != exitInterrupted && exitCode(err) != -1 { // it had not begun to listen
		t.Errorf("Ctrl-C: %v", err)
	}
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	w.umount()
	m.wantNot(t, exitFailed, "mount "+w.feed, "start", "web1")
	if names, err := os.ReadDir(m.vms); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	m.want(t, "removed web1", "remove", "web1")
}

// TestMachineDiskFull: a full disk leaves nothing of a new machine, and an old one as
// it was.
func TestMachineDiskFull(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-img")
	w := newWorld(t, appliance.Options{})
	m := &machineRoom{vms: filepath.Join(tmpfs(t, "640k"), "vms")}
	w.mount("vms=" + m.vms)
	m.want(t, "made a", "create", "a", w.path("latest"))
	m.wantNot(t, exitSystem, "is full, and nothing was changed", "create", "b", w.path("latest"))
	m.wantNot(t, exitSystem, "is full, and nothing was changed", "reset", "a")
	m.wantNot(t, exitSystem, "is full, and nothing was changed", "commit", "a", "-o", filepath.Join(t.TempDir(), "a.xvm"))
	if one := m.one(t); one.State != "stopped" || one.Problem != "" {
		t.Errorf("%+v", one)
	}
}

// TestMachineBaseChanged: a machine whose base is another one now does not start, is
// not reset and not packed, and is told of. The cached data of a base may be removed as
// soon as the machine is.
func TestMachineBaseChanged(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-img")
	w := bareWorld(t)
	m := w.machines()
	w.publish("one", packListed(t, member{"root.img", sectorDisk("first")}))
	w.mount()
	m.want(t, "made a", "create", "a", w.path("one"))
	testkit.Eventually(t, "the mount keeps the base", time.Minute, func() bool {
		out, err := w.run("cache", "list", "--cache", w.cache)
		return err == nil && strings.Contains(out, "needed")
	})
	m.want(t, "removed a", "remove", "a")
	if out, err := w.run("cache", "remove", w.path("one")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	m.want(t, "made a", "create", "a", w.path("one"))
	w.umount()
	// The host has lost what it knew, so that nothing keeps the old release.
	must(t, os.RemoveAll(w.cache))
	must(t, os.RemoveAll(w.cache+"-state"))
	w.items = nil
	w.publish("one", packListed(t, member{"root.img", sectorDisk("other")}))
	w.mount()
	for _, args := range [][]string{{"start", "a"}, {"reset", "a"}, {"commit", "a", "-o", filepath.Join(t.TempDir(), "a.xvm")}} {
		m.wantNot(t, exitFailed, "is not what it was", args...)
	}
	if one := m.one(t); !strings.Contains(one.Problem, "vmcastfs vm remove a") {
		t.Errorf("%+v", one)
	}
	m.want(t, "removed a", "remove", "a")
}

// TestMachineRaw: a disk of 1 GiB, in the long form 10 GiB, that shares all its blocks with the cache takes no
// space, and does not need the mount any more.
func TestMachineRaw(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "mkfs.xfs")
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root, for a file system with reflinks,")
	}
	work := t.TempDir()
	image, xfs := filepath.Join(work, "xfs"), filepath.Join(work, "mnt")
	must(t, errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20), os.Mkdir(xfs, 0o700)))
	for _, args := range [][]string{{"mkfs.xfs", "-q", "-m", "reflink=1", image}, {"mount", "-o", "loop", image, xfs}} {
		if out, err := command(t, "/", args[0], args[1:]...); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(xfs, unix.MNT_DETACH) })
	size := int64(1 << 30)
	if os.Getenv("VMCASTFS_TEST_LONG") != "" {
		size *= 10
	}
	disk := filepath.Join(work, "root.img")
	content := append(sectorDisk("raw"), noise(40<<20, 1)...)
	must(t, errors.Join(os.WriteFile(disk, content, 0o600), os.Truncate(disk, size)))
	xml, pkg := filepath.Join(work, "xvm.xml"), filepath.Join(work, "one.xvm")
	must(t, os.WriteFile(xml, []byte(`<xvm><name>raw</name><disk file="root.img" target="vda"/></xvm>`), 0o600))
	if out, err := runBinary(t, "pack", "-o", pkg, xml, disk); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w := bareWorld(t)
	w.cache = filepath.Join(xfs, "cache")
	m := &machineRoom{vms: filepath.Join(xfs, "vms")}
	w.publish("one", readAll(t, pkg))
	w.mount("vms=" + m.vms)
	m.wantNot(t, exitFailed, "vmcastfs prefetch", "create", "a", w.path("one"), "--disk", "raw")
	stdout(t, "prefetch", w.path("one"))
	free := func() int64 {
		var st unix.Statfs_t
		unix.Sync()
		must(t, unix.Statfs(xfs, &st))
		return int64(st.Bfree) * st.Bsize
	}
	before, began := free(), time.Now()
	m.want(t, "raw in", "create", "a", w.path("one"), "--disk", "raw", "--accel", "tcg")
	t.Logf("vm create --disk raw of %d GiB: %s", size>>30, time.Since(began).Round(time.Millisecond))
	if used := before - free(); used > 4<<20 {
		t.Errorf("it takes %d bytes", used)
	}
	raw := filepath.Join(m.vms, "a", "disks", "a-root.raw")
	f, err := os.OpenFile(raw, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	got := make([]byte, len(content))
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if info, err := f.Stat(); err != nil || info.Size() != size || !bytes.Equal(got, content) {
		t.Errorf("%v, %v: the disk is not the image", info, err)
	}
	// What the machine writes does not reach the cache.
	_, err = f.WriteAt(noise(4096, 9), 1<<20)
	must(t, err)
	base := w.open("one", "root.img")
	w.wantAt(base, content, 0)
	must(t, base.Close())
	if out, err := w.run("cache", "verify", "--cache", w.cache); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	m.want(t, "reset a", "reset", "a")
	again, err := os.Open(raw)
	must(t, err)
	defer again.Close()
	if _, err = again.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%v: the disk is not the image after a reset", err)
	}

	// Another file system cannot.
	other := &machineRoom{vms: filepath.Join(t.TempDir(), "vms")}
	w.umount()
	w.mount("vms=" + other.vms)
	other.wantNot(t, exitFailed, "must be one, and able to share blocks", "create", "a", w.path("one"), "--disk", "raw")
}

// TestCommitKilled: SIGKILL in the middle of each part of the work of a commit leaves
// the machine and OUT as they were, and the next command removes what it left. So
// does Ctrl-C, by itself.
func TestCommitKilled(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-img")
	w := bareWorld(t)
	m := w.machines()
	w.publish("one", packListed(t, member{"root.img", append(sectorDisk("x"), noise(24<<20, 1)...)}))
	w.mount()
	m.want(t, "made a", "create", "a", w.path("one"))
	disk := filepath.Join(m.vms, "a", "disks", "a-root.qcow2")
	if out, err := command(t, "/", "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", disk); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	overlay := readAll(t, disk)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.xvm")
	must(t, os.WriteFile(out, []byte("old"), 0o600))
	// Stand-ins do their work, say so, and then take for ever.
	flatten, sign, at := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "at")
	stop := "echo $$ >" + at + ".new && mv " + at + ".new " + at + " && exec sleep 600\n"
	program(t, filepath.Join(flatten, "qemu-img"), "#!/bin/sh\n"+testkit.Need(t, "qemu-img")+` "$@"`+"\n"+stop)
	program(t, filepath.Join(sign, "gpg"), "#!/bin/sh\n"+stop)
	leftovers := func() (left []string) {
		for _, pattern := range []string{filepath.Join(dir, ".*"), filepath.Join(m.vms, "a", ".tmp-*")} {
			found, _ := filepath.Glob(pattern)
			left = append(left, found...)
		}
		return left
	}
	for _, signal := range []os.Signal{syscall.SIGKILL, os.Interrupt} {
		for _, bin := range []string{flatten, sign} {
			_ = os.Remove(at)
			cmd := exec.Command(binary, "vm", "commit", "a", "-o", out, "--vms", m.vms, "--gpg", "x")
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			must(t, cmd.Start())
			testkit.Eventually(t, "the commit is half done", time.Minute, func() bool { _, err := os.Stat(at); return err == nil })
			if len(leftovers()) == 0 {
				t.Errorf("%v: nothing is half done", signal)
			}
			must(t, cmd.Process.Signal(signal))
			err := cmd.Wait()
			var pid int
			if _, err := fmt.Sscan(string(readAll(t, at)), &pid); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // the stand-in
			}
			if left := leftovers(); signal == os.Interrupt && (exitCode(err) != exitInterrupted || len(left) > 0) {
				t.Errorf("Ctrl-C: %v, %q is left", err, left)
			}
			if string(readAll(t, out)) != "old" || !bytes.Equal(readAll(t, disk), overlay) {
				t.Errorf("%v: the package or the machine has changed", signal)
			}
		}
	}
	m.want(t, "out.xvm", "commit", "a", "-o", out)
	if left := leftovers(); len(left) > 0 || !bytes.Equal(readAll(t, disk), overlay) {
		t.Errorf("%q is left", left)
	}
	w.publish("two", readAll(t, out))
	w.refresh()
	want := append(sectorDisk("x"), noise(24<<20, 1)...)
	copy(want[1<<20:], bytes.Repeat([]byte{7}, 64<<10))
	w.wantFile(want, "two", "root.img")
}
