package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"vmcastfs/cmd/internal/appliance"
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
	testkit.Eventually(m.t, "systemd knows of "+unit, 20*time.Second, func() bool { return m.property(unit, "ActiveState") == "active" })
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

// guests is a service that needs dir from its start to its end, as libvirtd
// and xendomains do.
func guests(order string, dirs ...string) string {
	look := func(when string) string {
		return fmt.Sprintf("/bin/sh -c 'for d in %s; do sha256sum $$d/latest/data.img; done >/result/%%p.%s 2>&1'", strings.Join(dirs, " "), when)
	}
	return "[Unit]\n" + order + "\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=" + look("start") + "\nExecStop=" + look("stop") + "\n"
}

// A boot, a day and a shutdown under systemd.
func TestSystemd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	var fstab strings.Builder // the lines that are installed as an example
	for line := range strings.Lines(distFile(t, "example.fstab")) {
		if line = strings.TrimPrefix(line, "#"); strings.HasPrefix(line, "https:") {
			dir := "/srv/plain"
			if strings.Contains(line, "x-systemd.automount") {
				dir = "/srv/auto"
			}
			line = strings.NewReplacer("https://example.org/vmcast.xml", w.feed, "/srv/vmcast", dir, "_netdev", "_netdev,cache_free=0").Replace(line)
			fstab.WriteString(line)
			if dir == "/srv/plain" { // and one that does not stop the boot
				fstab.WriteString(strings.NewReplacer(w.feed, "http://127.0.0.1:1/none.xml", dir, "/srv/lost", "_netdev", "retry=0,_netdev").Replace(line))
			}
		}
	}
	const unit, held, hung = "vmcastfs@srv-unit.service", "vmcastfs@srv-held.service", "vmcastfs@srv-hung.service"
	conf := "FEED=" + w.feed + "\nOPTIONS=cache_free=0\n"
	m, result := newMachine(t, map[string]string{
		"/etc/fstab":                                   fstab.String(),
		"/etc/vmcastfs/srv-unit.conf":                  conf,
		"/etc/vmcastfs/srv-held.conf":                  strings.Replace(conf, "OPTIONS=", "OPTIONS=complete=off,cache=/var/held,", 1),
		"/etc/vmcastfs/srv-hung.conf":                  conf,
		"/etc/vmcastfs/srv-typo.conf":                  conf[:len(conf)-1] + ",cache_fre=0\n",
		"/etc/systemd/system/" + hung + ".d/soon.conf": "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n",
		// A network that takes its time.
		"/etc/systemd/system/online.service": "[Unit]\nDefaultDependencies=no\nBefore=network-online.target\n" +
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0.3\n",
		"/etc/systemd/system/network-online.target.d/wants.conf": "[Unit]\nWants=online.service\n",
		"/etc/systemd/system/libvirtd.service":                   guests("After=remote-fs.target", "/srv/plain"),
		"/etc/systemd/system/libvirt-guests.service":             guests("", "/srv/unit"),
		"/etc/systemd/system/xendomains.service":                 guests("After=remote-fs.target", "/srv/auto"),
		"/etc/systemd/system/multi-user.target.d/wants.conf":     "[Unit]\nWants=remote-fs.target " + unit + " libvirtd.service libvirt-guests.service xendomains.service\n",
	})
	if failed := m.ok("systemctl", "list-units", "--failed", "--plain", "--no-legend"); !strings.HasPrefix(failed, "srv-lost.mount ") || strings.Count(failed, "\n") != 1 {
		t.Errorf("failed: %s", failed)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(w.app.Data))
	saw := func(file string, dirs ...string) {
		t.Helper()
		want := ""
		for _, dir := range dirs {
			want += sum + "  " + dir + "/latest/data.img\n"
		}
		if got, err := os.ReadFile(filepath.Join(result, file)); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", file, err, got)
		}
	}
	saw("libvirtd.start", "/srv/plain")
	saw("libvirt-guests.start", "/srv/unit")
	saw("xendomains.start", "/srv/auto")

	// Stopped and started anew while a guest has an image open: that takes a while,
	// in which the test goes on, see below.
	m.ok("systemctl", "start", held)
	guest, err := os.OpenFile(m.path("/srv/held/latest/data.img"), os.O_RDONLY|syscall.O_DIRECT, 0)
	must(t, err)
	defer guest.Close()
	old := m.property(held, "MainPID")
	m.ok("systemctl", "restart", "--no-block", held)

	// Who hangs is killed and started anew, who has wrong options is not.
	if out, code := m.run("systemctl", "start", "vmcastfs@srv-typo"); code == 0 || m.property("vmcastfs@srv-typo", "ActiveState") != "failed" {
		t.Errorf("wrong options: %d, %s", code, out)
	}
	m.ok("systemctl", "start", hung)
	testkit.Eventually(t, "it hangs", time.Minute, func() bool {
		_, code := m.run("systemctl", "kill", "--signal=STOP", hung)
		return code == 0
	})

	// Order at the start.
	online := m.when("online.service", "ExecMainExitTimestampMonotonic")
	for _, u := range []string{unit, "srv-plain.mount"} {
		if from := m.when(u, "InactiveExitTimestampMonotonic"); from < online {
			t.Errorf("%s starts %d µs before the network is there", u, online-from)
		}
		if at, guest := m.when(u, "ActiveEnterTimestampMonotonic"), m.when("libvirtd.service", "InactiveExitTimestampMonotonic"); at > guest {
			t.Errorf("%s is there %d µs after libvirtd", u, at-guest)
		}
	}

	// The service tells what it does, and logs to the journal.
	if out := m.ok("systemctl", "status", "--no-pager", unit); !strings.Contains(out, "Active: active (running)") ||
		!strings.Contains(out, `Status: "/srv/unit: 2 releases, 0 open`) {
		t.Errorf("systemctl status:\n%s", out)
	}
	if out := m.ok("journalctl", "--no-pager", "-o", "cat", "-p", "warning", "-u", unit); !strings.Contains(out, "signatures are not required") || strings.Contains(out, "msg=mounted") {
		t.Errorf("warnings of %s:\n%s", unit, out)
	}
	asked := w.origin.Stats(appliance.FeedPath).Requests
	m.ok("systemctl", "reload", unit)
	testkit.Eventually(t, "reload asks for the feed", time.Minute, func() bool { return w.origin.Stats(appliance.FeedPath).Requests == asked+1 })

	// mount -a finds everything mounted.
	all := func() string { return fmt.Sprint(m.mounts("/srv/plain"), m.mounts("/srv/auto"), m.mounts("/srv/unit")) }
	const mounted = "[fuse.vmcastfs] [autofs fuse.vmcastfs] [fuse.vmcastfs]"
	for range 2 {
		out, code := m.run("mount", "-a")
		if code == 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "127.0.0.1:1/none.xml") || all() != mounted {
			t.Errorf("mount -a: %d, %s; mounted are %s", code, out, all())
		}
	}

	// A mount on demand ends and comes back, by hand or when it is used.
	for _, by := range []string{"hand", "use"} {
		m.ok("systemctl", "stop", "srv-auto.mount")
		if got := m.mounts("/srv/auto"); len(got) != 1 || got[0] != "autofs" {
			t.Errorf("stopped, it is still %q", got)
		}
		if by == "hand" {
			m.ok("mount", "/srv/auto")
			m.known("srv-auto.mount")
		}
	}
	if out := m.ok("sha256sum", "/srv/auto/latest/data.img"); !strings.HasPrefix(out, sum) || all() != mounted {
		t.Errorf("first access: %s, %s", out, all())
	}

	// A killed service is started again over its dead mount, and one of fstab by hand.
	pid := m.property(unit, "MainPID")
	m.kill(unit)
	testkit.Eventually(t, "the service is back", time.Minute, func() bool {
		out, _ := m.run("systemctl", "show", "--value", "-p", "MainPID,ActiveState", unit)
		return strings.Contains(out, "active\n") && !strings.Contains(out, "activating") && !strings.Contains("\n"+out, "\n"+pid+"\n") && !strings.Contains(out, "deactivating")
	})
	for _, name := range []string{"plain", "auto"} { // below the second is autofs
		m.kill("srv-" + name + ".mount")
		testkit.Eventually(t, "the mount is dead", time.Minute, func() bool {
			out, _ := m.run("ls", "/srv/"+name)
			return strings.Contains(out, "not connected")
		})
		m.ok("mount", "/srv/"+name)
	}
	for _, dir := range []string{"/srv/unit", "/srv/plain", "/srv/auto"} {
		if out := m.ok("sha256sum", dir+"/latest/data.img"); !strings.HasPrefix(out, sum) || all() != mounted {
			t.Errorf("after a fault: %s, %s", out, all())
		}
	}
	testkit.Eventually(t, "who hangs is started anew", time.Minute, func() bool {
		out, _ := m.run("journalctl", "--no-pager", "-o", "cat", "-u", hung)
		return strings.Contains(out, "Watchdog timeout") && strings.Count(out, "Started ") > 1
	})
	if out := m.ok("sha256sum", "/srv/hung/latest/data.img"); !strings.HasPrefix(out, sum) {
		t.Errorf("after the watchdog: %s", out)
	}
	// One of fstab is replaced by hand under a guest.
	plain, err := os.OpenFile(m.path("/srv/plain/latest/data.img"), os.O_RDONLY|syscall.O_DIRECT, 0)
	must(t, err)
	m.ok("umount", "-l", "/srv/plain")
	m.ok("mount", "/srv/plain")
	if err := compareAt(plain, w.app.Data, 0); err != nil || all() != mounted {
		t.Errorf("a guest whose mount was replaced: %v, %s", err, all())
	}
	plain.Close()
	m.known("srv-plain.mount")
	m.ok("systemctl", "restart", unit, "srv-plain.mount")
	if all() != mounted {
		t.Errorf("after a restart: %s", all())
	}

	// The guest of before keeps its image, until it closes it.
	testkit.Eventually(t, "the unit is started anew under a guest", 60*time.Second, func() bool {
		pid := m.property(held, "MainPID")
		return pid != old && pid != "0" && m.property(held, "ActiveState") == "active"
	})
	if err := compareAt(guest, w.app.Data, 3<<19); err != nil {
		t.Errorf("a guest whose mount was started anew: %v", err)
	}
	if out := m.ok("sha256sum", "/srv/held/latest/data.img"); !strings.HasPrefix(out, sum) {
		t.Errorf("started anew: %s", out)
	}
	guest.Close()
	testkit.Eventually(t, "the old process ends with its last user", time.Minute, func() bool {
		_, code := m.run("kill", "-0", old)
		return code != 0
	})

	// At the end the guests go first, and nothing is left or killed.
	m.ok("systemctl", "stop", unit)
	if got := m.mounts("/srv/unit"); len(got) != 0 || m.property(unit, "Result") != "success" {
		t.Errorf("stopped: %q, %s", got, m.property(unit, "Result"))
	}
	m.ok("systemctl", "enable", "--now", unit)
	if _, err := os.Readlink(m.path("/etc/systemd/system/multi-user.target.wants/" + unit)); err != nil {
		t.Error(err)
	}
	m.ok("systemctl", "exit")
	select {
	case <-m.ended:
	case <-time.After(5 * time.Minute):
		t.Fatal("the machine does not end")
	}
	saw("libvirtd.stop", "/srv/plain")
	saw("libvirt-guests.stop", "/srv/unit")
	saw("xendomains.stop", "/srv/auto")
}
