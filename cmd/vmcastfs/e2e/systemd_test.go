package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

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
	testkit.Eventually(t, "reload asks for the feed", time.Minute, func() bool { return w.origin.Stats(appliance.FeedPath).Requests > asked })

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
