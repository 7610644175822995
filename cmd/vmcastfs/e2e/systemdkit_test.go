package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// machine is a systemd that runs as the first process of namespaces of its own,
// over a copy of this system that forgets what is written to it: as a container
// would. It has vmcastfs installed and the network of this machine.
type machine struct {
	t     *testing.T
	init  *exec.Cmd
	ended chan struct{}
}

// bootMachine starts systemd. $1 is where to build the root, $2 what to put
// into it, $3 the program to install. Of the units that Debian has only those
// are there that the ones tested here are ordered by.
const bootMachine = `
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
# What a host may have of vmcastfs: the machine must be the same with it.
mkdir -p upper/usr/sbin upper/usr/local/share/vmcastfs upper/usr/local/bin upper/etc/vmcastfs upper/var/cache/vmcastfs
for f in usr/sbin/mount.vmcastfs usr/local/bin/vmcastfs etc/vmcastfs/other.conf var/cache/vmcastfs/version; do echo host >upper/$f; done
echo /usr/local/bin/vmcastfs >upper/usr/local/share/vmcastfs/installed
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
rm -rf usr/local/* usr/sbin/mount.vmcastfs usr/bin/vmcastfs etc/vmcastfs etc/fstab var/cache/vmcastfs var/lib/vmcastfs
rm -f usr/lib/tmpfiles.d/vmcastfs.conf
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run dev usr/lib/systemd/system usr/lib/systemd/system-generators etc/systemd/system; do
	mount -t tmpfs -o mode=755 tmpfs $d
done
for n in null zero full random urandom tty fuse autofs; do cp -a /dev/$n dev/; done
cd usr/lib/systemd
for u in sysinit basic multi-user local-fs remote-fs network network-online nss-lookup shutdown umount final exit; do
	cp /usr/lib/systemd/system/$u.target system/
done
for u in systemd-exit.service systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
	cp /usr/lib/systemd/system/$u system/
done
cp /usr/lib/systemd/system-generators/systemd-fstab-generator system-generators/
cd "$1/root"
cp -r "$2/." .
mkdir -p result
mount --bind "$2/result" result
"$3" install --destdir . >/dev/null
pivot_root . mnt
umount -l /mnt
cd /
exec env -i container=test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal`

// newMachine boots a machine that has the files given, by their path in it.
// What it leaves in /result is in the directory returned.
func newMachine(t *testing.T, files map[string]string) (m *machine, result string) {
	t.Helper()
	for _, file := range []string{"/lib/systemd/systemd", "/dev/autofs"} {
		if _, err := os.Stat(file); err != nil {
			testkit.Missing(t, file)
		}
	}
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root")
	}
	files["/etc/systemd/system/sysinit.target.d/journal.conf"] = "[Unit]\nWants=systemd-journald.service\n"
	files["/etc/machine-id"] = strings.Repeat("5", 32) + "\n"
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/files/result", 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		path = dir + "/files" + path
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/root", 0o755); err != nil {
		t.Fatal(err)
	}

	// systemd wants a control group to itself.
	groups := dir + "/cgroup"
	if err := os.Mkdir(groups, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("cgroup2", groups, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(groups, syscall.MNT_DETACH) })
	group, err := os.MkdirTemp(groups, "vmcastfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroups(t, group) })
	fd, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()

	m = &machine{t: t, ended: make(chan struct{})}
	var output bytes.Buffer
	m.init = exec.Command("unshare", "--cgroup", "sh", "-c", bootMachine, "sh", dir+"/root", dir+"/files", binary)
	m.init.Stdout, m.init.Stderr = &output, &output
	m.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		UseCgroupFD: true, CgroupFD: int(fd.Fd()),
		Setsid: true, Pdeathsig: syscall.SIGKILL,
	}
	if err := m.init.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.init.Wait(); close(m.ended) }()
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := m.run("journalctl", "--no-pager", "-q")
			t.Logf("the machine said:\n%s%s", output.Bytes(), journal)
		}
		_ = m.init.Process.Kill() // and with it all that runs in it
		<-m.ended
	})
	testkit.Eventually(t, "the machine is up", 60*time.Second, func() bool {
		select {
		case <-m.ended:
			t.Fatalf("it ended:\n%s", output.Bytes())
		default:
		}
		if _, err := os.Stat(m.path("/run/systemd/private")); err != nil {
			return false
		}
		state, _ := m.run("systemctl", "is-system-running")
		return state == "running\n" || state == "degraded\n"
	})
	return m, dir + "/files/result"
}

// removeGroups removes a control group that nobody is in any more, and those in it.
func removeGroups(t *testing.T, group string) {
	inner, _ := os.ReadDir(group)
	for _, g := range inner {
		if g.IsDir() {
			removeGroups(t, filepath.Join(group, g.Name()))
		}
	}
	testkit.Eventually(t, "the control group is empty", time.Minute, func() bool { return os.Remove(group) == nil })
}

// path is a file of the machine, seen from here.
func (m *machine) path(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.init.Process.Pid, name)
}

// run executes a command in the machine.
func (m *machine) run(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(m.init.Process.Pid), "-m", "-p", "-u", "-i", "-C", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	return string(out), exitCode(err)
}

// ok is run for what has to succeed.
func (m *machine) ok(args ...string) string {
	m.t.Helper()
	out, code := m.run(args...)
	if code != 0 {
		m.t.Fatalf("%q: exit code %d\n%s", args, code, out)
	}
	return out
}

func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.ok("systemctl", "show", "--value", "-p", name, unit))
}

// when is a time that systemd has kept.
func (m *machine) when(unit, name string) int64 {
	m.t.Helper()
	n, err := strconv.ParseInt(m.property(unit, name), 10, 64)
	if err != nil || n == 0 {
		m.t.Errorf("%s of %s: %d, %v", name, unit, n, err)
	}
	return n
}

// mounts is what the machine has mounted on dir, from bottom to top.
func (m *machine) mounts(dir string) []string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", m.init.Process.Pid))
	var types []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == dir {
			types = append(types, f[2])
		}
	}
	return types
}

// known waits until systemd has seen a mount that was made by hand.
func (m *machine) known(unit string) {
	m.t.Helper()
	testkit.Eventually(m.t, "systemd knows of "+unit, time.Minute, func() bool { return m.property(unit, "ActiveState") == "active" })
}

// kill ends the processes of a unit as a fault would.
func (m *machine) kill(unit string) {
	m.t.Helper()
	raw, err := os.ReadFile(m.path("/sys/fs/cgroup" + m.property(unit, "ControlGroup") + "/cgroup.procs"))
	if err != nil || len(raw) == 0 {
		m.t.Fatalf("%s has no process: %v", unit, err)
	}
	for _, line := range strings.Fields(string(raw)) {
		if pid, err := strconv.Atoi(line); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
