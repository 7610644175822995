package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// countingInit counts on its root how often it has booted, and says so.
const countingInit = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -o remount,rw /
echo boot >>/boots
busybox sync
busybox mount -o remount,ro /
set -- $(busybox wc -l /boots)
echo "GUEST: boot number $1"
busybox poweroff -f
`

// bootNumber is what countingInit says.
func bootNumber(n int) string { return fmt.Sprintf("GUEST: boot number %d\n", n) }

// countingGuest is a package of a Linux guest that writes to its root: ext4 with some
// MiB of files, a kernel and a ramdisk.
func countingGuest(t *testing.T) (archive []byte) {
	t.Helper()
	dir := t.TempDir()
	g, err := buildGuest(t.Context(), dir, kernelPackage(t), 16)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "counting")
	if err := guestTree(root, testkit.Need(t, "busybox"), map[string]string{"sbin/init": countingInit}, "sbin", "dev", "proc", "data"); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "root.img")
	xml := filepath.Join(dir, "xvm.xml")
	out := filepath.Join(dir, "out.xvm")
	if err := errors.Join(
		os.Remove(g.root), fillRoot(root, 8<<20),
		os.WriteFile(xml, []byte(`<xvm><name>counting</name><memory unit="MiB">256</memory><kernel>vmlinuz</kernel><ramdisk>initrd</ramdisk>
			<cmdline>console=ttyS0 panic=-1 quiet no_timer_check root=/dev/vda1</cmdline><disk file="root.img" target="vda1"/></xvm>`), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	if said, err := command(t, dir, "mke2fs", "-q", "-t", "ext4", "-d", root, disk, "32M"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if said, err := runBinary(t, "pack", "-o", out, xml, disk, g.kernel, g.initrd); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return readAll(t, out)
}

// countingScript does the same at the end of the boot of a Debian.
const countingScript = `#!/bin/sh
mount -o remount,rw /
echo boot >>/boots
echo "GUEST: boot number $(wc -l </boots)" >/dev/console
sync
poweroff -f
`

// countingDebian is a package of a Debian that does the same.
func countingDebian(t *testing.T) (archive []byte) {
	t.Helper()
	from, dir := findDebian(t).dir, t.TempDir()
	script, disk, xml, out := filepath.Join(dir, "count"), filepath.Join(dir, "root.img"), filepath.Join(dir, "xvm.xml"), filepath.Join(dir, "out.xvm")
	must(t, errors.Join(os.WriteFile(script, []byte(countingScript), 0o755),
		os.WriteFile(xml, []byte(`<xvm><name>debian</name><memory unit="MiB">512</memory><kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk>
			<cmdline>root=/dev/sda1 rw console=hvc0</cmdline><disk file="root.img" target="sda1"/></xvm>`), 0o644)))
	for _, args := range [][]string{
		{"cp", "--sparse=always", filepath.Join(from, "root.img"), disk},
		{"sh", "-c", `debugfs -R "cat /etc/inittab" "$1" >inittab && echo zz:2:once:/count >>inittab &&
			printf "write count count\nset_inode_field count mode 0100755\ncd /etc\nrm inittab\nwrite inittab inittab\n" >edit && debugfs -w -f edit "$1"`, "sh", disk},
		{binary, "pack", "-o", out, xml, disk, filepath.Join(from, "vmlinuz"), filepath.Join(from, "initrd.img")},
	} {
		if said, err := command(t, dir, args[0], args[1:]...); err != nil {
			t.Fatalf("%q: %v: %s", args, err, said)
		}
	}
	return readAll(t, out)
}

// TestMachines: a Linux guest is created, started, written to, stopped, reset,
// committed, published, and booted from the new entry of the feed, with QEMU and with
// libvirt. The new release costs a host that has the first one what the machine
// changed. In the long form the guest is a Debian.
func TestMachines(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	testkit.Need(t, "mke2fs")
	open := openDir(t, "vmvm", 0o755)
	w := bareWorld(t)
	w.dir = filepath.Join(open, "mnt")
	vms := filepath.Join(open, "vms")
	w.opts = []string{"vms=" + vms}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	guest := countingGuest
	if os.Getenv("VMCASTFS_TEST_LONG") != "" {
		guest = countingDebian
	}
	w.publish("one", guest(t))
	w.mount()
	l := startLibvirt(t, w.dir)
	m := &machineRoom{vms: vms, libvirt: l}

	two, three := filepath.Join(t.TempDir(), "two.xvm"), filepath.Join(t.TempDir(), "three.xvm")
	t.Run("first", func(t *testing.T) {
		t.Run("qemu", func(t *testing.T) {
			t.Parallel()
			m.want(t, bootNumber(1), "create", "q1", w.path("latest"), "--accel", "tcg", "--start")
			m.want(t, bootNumber(2), "start", "q1")
			m.want(t, bootNumber(1), "reset", "q1", "--start")
			m.want(t, "two.xvm", "commit", "q1", "-o", two, "--guid", "two")
		})
		t.Run("libvirt", func(t *testing.T) {
			t.Parallel()
			m.want(t, "made l1", "create", "l1", w.path("one"), "--for", "libvirt", "--accel", "tcg", "--memory", "400", "--cpus", "2")
			if text := string(readAll(t, filepath.Join(vms, "l1", "domain.xml"))); !strings.Contains(text, `<memory unit="MiB">400</memory>`) || !strings.Contains(text, "<vcpu>2</vcpu>") {
				t.Errorf("%s", text)
			}
			boots := m.console(t, "l1")
			m.want(t, "started l1", "start", "l1")
			if out, err := m.vm(t, "reset", "l1"); err == nil || !strings.Contains(out, "it runs") {
				t.Errorf("reset of a machine that runs: %v %s", err, out)
			}
			boots(1)
			m.want(t, "reset l1", "reset", "l1", "--start")
			boots(1)
			m.want(t, "three.xvm", "commit", "l1", "-o", three)
		})
	})

	// Both are published. The host has all of the first release.
	stdout(t, "prefetch", w.path("one"))
	before := w.packageStats().BytesSent
	w.publish("two", readAll(t, two))
	w.publish("three", readAll(t, three))
	w.refresh()
	changed := changedBytes(t, w.path("one", "root.img"), w.path("two", "root.img"), 64<<10)
	sent := w.packageStats().BytesSent - before
	t.Logf("%d bytes were fetched for the second release, %d are in blocks that changed", sent, changed)
	if sent > changed+changed/20+metaBytes(t, two) {
		t.Errorf("%d bytes were fetched for a release of which %d changed", sent, changed)
	}
	t.Run("second", func(t *testing.T) {
		t.Run("qemu", func(t *testing.T) {
			t.Parallel()
			m.want(t, bootNumber(2), "create", "q2", w.path("two"), "--accel", "tcg", "--start")
		})
		t.Run("libvirt", func(t *testing.T) {
			t.Parallel()
			m.want(t, "made l2", "create", "l2", w.path("three"), "--for", "libvirt", "--accel", "tcg")
			boots := m.console(t, "l2")
			m.want(t, "started l2", "start", "l2")
			boots(2)
		})
	})
	for _, name := range []string{"q1", "q2", "l1", "l2"} {
		m.want(t, "removed "+name, "remove", name)
	}
	if out, err := l.virsh("list", "--all", "--name"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("libvirt still has %q, %v", out, err)
	}
}

// machineRoom runs `vmcastfs vm`.
type machineRoom struct {
	vms     string
	libvirt *libvirt // nil: there is none
}

func (m *machineRoom) vm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"vm", "--vms", m.vms}, args...)...)
	if m.libvirt != nil {
		cmd.Env = append(os.Environ(), "LIBVIRT_DEFAULT_URI="+m.libvirt.uri)
	}
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), "\r", ""), err
}

// want runs a command that succeeds and says something.
func (m *machineRoom) want(t *testing.T, says string, args ...string) {
	t.Helper()
	began := time.Now()
	if out, err := m.vm(t, args...); err != nil || !strings.Contains(out, says) {
		t.Fatalf("vm %q: %v, and not %q:\n%s", args, err, says, out)
	}
	t.Logf("%.1f s: vm %q", time.Since(began).Seconds(), args)
}

// console edits the domain of a machine before its first start, so that its serial
// line is kept in a file, and it has one processor: two that are emulated take a Debian
// three times as long on a busy machine. boots waits for the end of the domain and looks there.
func (m *machineRoom) console(t *testing.T, name string) (boots func(number int)) {
	t.Helper()
	console := filepath.Join(openDir(t, "vmlv", 0o777), "console.log")
	domain := filepath.Join(m.vms, name, "domain.xml")
	text := string(readAll(t, domain))
	edited := strings.NewReplacer(`<serial type="pty"/>`, `<serial type="file"><source path="`+console+`"/></serial>`, `<console type="pty"/>`, "", "<vcpu>2</vcpu>", "<vcpu>1</vcpu>").Replace(text)
	if err := os.WriteFile(domain, []byte(edited), 0o600); err != nil || edited == text {
		t.Fatal(err, text)
	}
	t.Cleanup(func() {
		if said, err := os.ReadFile(console); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", name, said[max(0, len(said)-4000):])
		}
	})
	return func(number int) {
		t.Helper()
		began := time.Now()
		defer func() { t.Logf("%.1f s: %s ran", time.Since(began).Seconds(), name) }()
		testkit.Eventually(t, "the domain ends", 4*time.Minute, func() bool {
			out, err := m.libvirt.virsh("domstate", name)
			return err == nil && strings.TrimSpace(out) == "shut off"
		})
		if said := strings.ReplaceAll(string(readAll(t, console)), "\r", ""); !strings.Contains(said, bootNumber(number)) {
			t.Fatalf("the domain said %q, and not %q", said, bootNumber(number))
		}
	}
}

// changedBytes is how many bytes are in the blocks of a new image that differ from an
// old one. It reads both.
func changedBytes(t *testing.T, old, new string, block int) (n int64) {
	t.Helper()
	was, is := readAll(t, old), readAll(t, new)
	if len(was) != len(is) {
		t.Fatalf("%d bytes became %d", len(was), len(is))
	}
	for at := 0; at < len(is); at += block {
		if end := min(at+block, len(is)); string(was[at:end]) != string(is[at:end]) {
			n += int64(end - at)
		}
	}
	return n
}

// metaBytes is what a package has beside its images: what a host reads to know them.
func metaBytes(t *testing.T, pkg string) (n int64) {
	t.Helper()
	out, err := command(t, "/", "tar", "-tvf", pkg)
	if err != nil {
		t.Fatal(out, err)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		var size int64
		if _, err := fmt.Sscan(f[2], &size); err == nil && !strings.HasSuffix(f[len(f)-1], ".gz") {
			n += size + 1024
		}
	}
	return n + 64<<10 // and one block that a walk of the archive touches
}
