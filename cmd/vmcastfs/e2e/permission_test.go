package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

const (
	nobody = 65534 // an ordinary user
	other  = 65533 // and another, like libvirt-qemu
)

// open makes the way to a directory of the tests passable for all users.
func open(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for ; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// as is the command line that runs another as that user.
func as(uid int, args ...string) []string {
	return append([]string{"setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups", "--"}, args...)
}

func runAs(args []string) *exec.Cmd { return exec.Command(args[0], args[1:]...) }

// The defaults of root: everybody may read, nobody may write.
func TestRootDefaults(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	testkit.Need(t, "setpriv")
	qemuImg := testkit.Need(t, "qemu-img")
	w := newWorld(t, appliance.Options{})
	open(t, w.dir)
	w.mount()
	disk := w.path("latest", "disk.img")
	for path, mode := range map[string]os.FileMode{
		w.dir: os.ModeDir | 0o555, w.path("demo-1.1"): os.ModeDir | 0o555, disk: 0o444, w.path("feed.xml"): 0o444,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode {
			t.Errorf("%s has %v, %v", path, info, err)
			continue
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
	}
	if _, err := os.OpenFile(disk, os.O_RDWR, 0); !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("opening for writing: %v", err)
	}
	if info, err := os.Stat(w.cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache directory is %v, %v", info, err)
	}
	// QEMU as another user, as libvirt runs it.
	out := filepath.Join(t.TempDir(), "copy")
	open(t, filepath.Dir(out))
	if err := os.Chmod(filepath.Dir(out), 0o777); err != nil {
		t.Fatal(err)
	}
	if msg, err := runAs(as(other, qemuImg, "convert", "-f", "raw", "-O", "raw", disk, out)).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img as another user: %v\n%s", err, msg)
	}
	if !bytes.Equal(readAll(t, out), w.app.Disk) {
		t.Error("another user reads something else")
	}
	if _, err := runAs(as(other, "ls", w.cache)).CombinedOutput(); err == nil {
		t.Error("another user may look into the cache")
	}
	if msg, err := runAs(as(other, binary, "status", w.dir)).CombinedOutput(); err != nil {
		t.Errorf("status as another user: %v\n%s", err, msg)
	}
}

func TestOwnerAndMask(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	testkit.Need(t, "setpriv")
	w := newWorld(t, appliance.Options{})
	open(t, w.dir)
	w.mount(fmt.Sprintf("uid=%d,gid=%d,umask=027", nobody, nobody))
	disk := w.path("latest", "disk.img")
	info, err := os.Stat(disk)
	if err != nil || info.Mode() != 0o440 {
		t.Fatalf("disk.img has %v, %v", info, err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody {
		t.Errorf("it belongs to %d:%d", st.Uid, st.Gid)
	}
	if out, err := runAs(as(nobody, "sha256sum", disk)).CombinedOutput(); err != nil {
		t.Errorf("its owner: %v\n%s", err, out)
	}
	if out, err := runAs(as(other, "sha256sum", disk)).CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("others: %v\n%s", err, out)
	}
}

// The cache is private to one user.
func TestForeignCache(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	w := newWorld(t, appliance.Options{})
	if err := os.Chown(w.cache, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	out, err := w.run("mount", "-o", w.options(), w.feed, w.dir)
	if exitCode(err) != 2 || !strings.Contains(out, "belongs to user 65534") {
		t.Errorf("a foreign cache: %v\n%s", err, out)
	}
	if err := os.Chown(w.cache, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.cache, 0o755); err != nil {
		t.Fatal(err)
	}
	w.mount()
	if info, err := os.Stat(w.cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache directory is made private: %v, %v", info, err)
	}
}

// userHost is a host on which ordinary users may use FUSE, and whose fuse.conf
// is the one given.
func userHost(t *testing.T, conf string) *host {
	t.Helper()
	h := newHost(t)
	testkit.Need(t, "fusermount3")
	file := filepath.Join(h.dir, "fuse.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `cp -a /dev/fuse "$0/fuse" && chmod 666 "$0/fuse" && mount --bind "$0/fuse" /dev/fuse &&
		{ test -e /etc/fuse.conf || : >/etc/fuse.conf; } && mount --bind "$0/fuse.conf" /etc/fuse.conf`
	if out, code := h.command(nil, "/bin/sh", "-c", script, h.dir); code != 0 {
		t.Fatalf("prepare FUSE for users: %s", out)
	}
	return h
}

func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	testkit.Need(t, "setpriv")
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprintf("user_allow_other %v", allowed), func(t *testing.T) {
			t.Parallel()
			conf := "# nothing\n"
			if allowed {
				conf = "user_allow_other\n"
			}
			w := newWorld(t, appliance.Options{})
			h := userHost(t, conf)
			home := t.TempDir()
			open(t, w.dir, home, filepath.Dir(binary))
			for _, dir := range []string{w.dir, home} {
				if err := os.Chown(dir, nobody, nobody); err != nil {
					t.Fatal(err)
				}
			}
			run := func(uid int, args ...string) (string, int) {
				return h.command([]string{"HOME=" + home, "PATH=/usr/bin:/bin"}, append([]string{"/usr/bin/setpriv"}, as(uid, args...)[1:]...)...)
			}
			opts := ""
			if allowed {
				opts = "allow_other"
			} else if out, code := run(nobody, binary, "mount", "-o", "allow_other", w.feed, w.dir); code != 32 || !strings.Contains(out, "user_allow_other") {
				t.Errorf("allow_other without leave: exit code %d\n%s", code, out)
			}
			if out, code := run(nobody, binary, "mount", "-o", opts, w.feed, w.dir); code != 0 {
				t.Fatalf("mount: exit code %d\n%s", code, out)
			}
			disk := filepath.Join(w.dir, "latest/disk.img")
			if out, code := run(nobody, "cmp", disk, diskFile(t, w)); code != 0 {
				t.Errorf("reading: %s", out)
			}
			out, code := run(other, "head", "-c", "512", disk)
			if allowed != (code == 0) {
				t.Errorf("reading as another user: exit code %d\n%.200s", code, out)
			}
			if out, code := run(nobody, "stat", "-c", "%u:%g %A", disk); code != 0 || out != fmt.Sprintf("%d:%d -r--r--r--\n", nobody, nobody) {
				t.Errorf("stat says %q", out)
			}
			out, _ = run(nobody, "findmnt", "-rno", "SOURCE,FSTYPE,OPTIONS", w.dir)
			if !strings.HasPrefix(out, w.feed+" fuse.vmcastfs ro,nosuid,nodev,noexec") || !strings.Contains(out, "default_permissions") {
				t.Errorf("the mount is %s", out)
			}
			for _, dir := range []string{".cache/vmcastfs", ".local/state"} {
				if info, err := os.Stat(filepath.Join(home, dir)); err != nil || info.Mode().Perm()&0o077 != 0 && dir == ".cache/vmcastfs" {
					t.Errorf("%s is %v, %v", dir, info, err)
				}
			}
			if out, code := run(nobody, binary, "status", w.dir); code != 0 || !strings.Contains(out, "disk.img") {
				t.Errorf("status: %d\n%s", code, out)
			}
			if out, code := run(nobody, binary, "umount", w.dir); code != 0 {
				t.Errorf("umount: %d\n%s", code, out)
			}
			if got := h.mounts(); len(got) != 0 {
				t.Errorf("still mounted: %q", got)
			}
		})
	}
}

// diskFile is the disk as published, in a file.
func diskFile(t *testing.T, w *world) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	open(t, filepath.Dir(path))
	if err := os.WriteFile(path, w.app.Disk, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// An fstab line with "user" lets its user mount, through mount(8).
func TestFstabUser(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "setpriv")
	w := newWorld(t, appliance.Options{})
	h := userHost(t, "")
	home := t.TempDir()
	open(t, w.dir, home, h.dir, filepath.Dir(binary))
	for _, dir := range []string{w.dir, home} {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	fstab := h.fstab(w.feed + " " + w.dir + " vmcastfs user,noauto,_netdev 0 0")
	script := `touch /etc/fstab && mount --bind "$0" /etc/fstab &&
		sed "/^nobody:/s#/nonexistent#$1#" /etc/passwd >"$2" && mount --bind "$2" /etc/passwd`
	if out, code := h.command(nil, "/bin/sh", "-c", script, fstab, home, h.dir+"/passwd"); code != 0 {
		t.Fatalf("%s", out)
	}
	run := func(args ...string) (string, int) {
		return h.command([]string{"HOME=" + home, "PATH=/usr/bin:/bin"}, append([]string{"/usr/bin/setpriv"}, as(nobody, args...)[1:]...)...)
	}
	if out, code := run("mount", w.dir); code != 0 {
		t.Fatalf("mount: exit code %d\n%s", code, out)
	}
	if out, code := run("cmp", filepath.Join(w.dir, "latest/disk.img"), diskFile(t, w)); code != 0 {
		t.Errorf("reading: %s", out)
	}
	if _, err := os.Stat(filepath.Join(home, ".cache/vmcastfs/CACHEDIR.TAG")); err != nil { // mount(8) takes HOME away
		t.Error(err)
	}
	if out, code := run("fusermount3", "-u", w.dir); code != 0 {
		t.Errorf("fusermount3 -u: %s", out)
	}
	testkit.Eventually(t, "unmounted", time.Minute, func() bool { return len(h.mounts()) == 0 })
}
