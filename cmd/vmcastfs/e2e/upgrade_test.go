package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// changeable is the directory of a Debian that a test may change: a layer over the
// image that others boot.
func (d debian) changeable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(on string, args ...string) {
		t.Helper()
		must(t, os.MkdirAll(on, 0o755))
		if out, err := exec.Command("mount", append(args, on)...).CombinedOutput(); err != nil {
			t.Fatalf("mount %q: %v\n%s", args, err, out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", "-l", on).Run() })
	}
	mount(dir+"/image", "-o", "loop,ro", filepath.Join(d.dir, "root.img"))
	mount(dir+"/layer", "-t", "tmpfs", "tmpfs")
	must(t, os.Mkdir(dir+"/layer/upper", 0o755))
	must(t, os.Mkdir(dir+"/layer/work", 0o755))
	mount(dir+"/root", "-t", "overlay", "-o", "lowerdir="+dir+"/image,upperdir="+dir+"/layer/upper,workdir="+dir+"/layer/work", "overlay")
	mount(dir+"/root/proc", "-t", "proc", "proc")
	return dir + "/root"
}

// TestPackageUpgrade installs, upgrades, removes and purges the package in a Debian
// while a guest runs from its mount. The guest keeps its disk, and its machine.
func TestPackageUpgrade(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a Debian")
	}
	root := findDebian(t).changeable(t)
	in := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("chroot", append([]string{root}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	install := func(version string) {
		t.Helper()
		deb := "/" + version + ".deb"
		if _, err := os.Stat(root + deb); err != nil {
			must(t, os.WriteFile(root+deb, readAll(t, buildPackage(t, "deb", "VERSION="+version)), 0o644))
		}
		in("dpkg", "-i", deb)
	}
	install("1")
	w := newWorld(t, appliance.Options{Chunks: 4})
	w.dir, w.cache = root+"/srv", root+"/var/cache/vmcastfs"
	w.opts = []string{"state=" + root + "/var/lib/vmcastfs", "complete=off"}
	if out, err := runProgram(t, root+"/usr/sbin/mount.vmcastfs", w.feed, w.dir, "-o", w.options()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { _ = fs.UnmountDir(w.dir, true) })
	daemons := func() (pids []string) {
		all, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range all {
			if to, _ := os.Readlink(exe); strings.HasPrefix(to, root+"/usr/bin/vmcastfs") { // also (deleted)
				pids = append(pids, exe)
			}
		}
		return pids
	}
	served := daemons()
	guest, err := os.Open(w.path("latest", appliance.DiskName))
	must(t, err)
	defer guest.Close()
	quarter := len(w.app.Disk) / 4
	reads := func(n int, when string) {
		t.Helper()
		got := make([]byte, quarter)
		if _, err := guest.ReadAt(got, int64(n*quarter)); err != nil && err != io.EOF || !bytes.Equal(got, w.app.Disk[n*quarter:(n+1)*quarter]) {
			t.Errorf("%s the guest reads: %v", when, err)
		}
		if now := daemons(); len(now) != 1 || !slices.Equal(now, served) {
			t.Errorf("%s %v serve, not %v", when, now, served)
		}
	}
	reads(0, "at first")
	install("2")
	reads(1, "after the upgrade")
	if out := in("dpkg-query", "-W", "vmcastfs"); !strings.Contains(out, "\t2") {
		t.Errorf("installed: %s", out)
	}
	if out, err := bootDisk(t, "file="+guest.Name()+",format=raw,readonly=on"); err != nil || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("another guest after the upgrade: %v\n%s", err, out)
	}
	in("dpkg", "-r", "vmcastfs")
	reads(2, "after the removal")
	if out := in("dpkg", "-P", "vmcastfs"); !strings.Contains(out, "still mounted") {
		t.Errorf("purging under a mount says\n%s", out)
	}
	reads(3, "after the purge")
	guest.Close()
	must(t, fs.UnmountDir(w.dir, false))
	testkit.Eventually(t, "the daemon ends", 30*time.Second, func() bool { return len(daemons()) == 0 })

	install("2")
	disk := root + "/var/lib/vmcastfs/vms/web1/disks/disk.qcow2"
	conf := root + "/etc/vmcastfs/srv.conf"
	must(t, os.MkdirAll(filepath.Dir(disk), 0o700))
	must(t, os.WriteFile(disk, []byte("mine"), 0o600))
	must(t, os.WriteFile(conf, []byte("FEED="), 0o600))
	if out := in("dpkg", "-P", "vmcastfs"); !strings.Contains(out, "the machines in /var/lib/vmcastfs/vms stay") {
		t.Errorf("purging with a machine says\n%s", out)
	}
	var left []string
	for _, dir := range []string{"/var/cache/vmcastfs", "/var/lib/vmcastfs", "/etc/vmcastfs"} {
		out, _ := exec.Command("find", root+dir, "-type", "f").Output()
		left = append(left, strings.Fields(string(out))...)
	}
	for _, path := range left {
		if path != disk && path != conf && !strings.Contains(path, "/vmcastfs/kept/") {
			t.Errorf("purging leaves %s", path)
		}
	}
	if string(readAll(t, disk)) != "mine" || string(readAll(t, conf)) != "FEED=" {
		t.Errorf("purging leaves %q", left)
	}
}
