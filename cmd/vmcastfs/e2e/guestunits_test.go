package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// debianUnits unpacks the packages of Debian that match, in a directory that a
// variable names, and returns where.
func debianUnits(t *testing.T, variable, cached, pattern string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		dir, _ = filepath.Abs("../../../.ci/.cache/" + cached)
	}
	debs, _ := filepath.Glob(filepath.Join(dir, pattern))
	if len(debs) == 0 {
		testkit.Missing(t, pattern+" (bash .ci/test downloads it; "+variable+" names its directory)")
	}
	to := t.TempDir()
	for _, deb := range debs {
		if out, err := command(t, "", "dpkg-deb", "-x", deb, to); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return to
}

// TestGuestUnits boots and ends a machine with the line of fstab and the units of
// Debian's libvirt, and one with those of its Xen. Their order is Debian's; what
// they run is replaced by something that reads an image, and at the end takes its
// time, as guests do.
func TestGuestUnits(t *testing.T) {
	t.Parallel()
	const sysv = "/usr/lib/systemd/system-generators/systemd-sysv-generator"
	if _, err := os.Stat(sysv); err != nil {
		testkit.Missing(t, sysv)
	}
	libvirt := filepath.Join(debianUnits(t, "VMCASTFS_TEST_UNITS", "units", "libvirt-daemon-system_*.deb"), "lib/systemd/system")
	if _, err := os.Stat(libvirt); err != nil {
		libvirt = filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(libvirt))), "usr/lib/systemd/system")
	}
	// What systemd makes of the script that starts the guests of Xen.
	scripts, xen := t.TempDir(), t.TempDir()
	script := readAll(t, filepath.Join(debianUnits(t, "VMCASTFS_TEST_DOM0", "dom0", "xen-utils-common_*.deb"), "etc/init.d/xendomains"))
	must(t, os.WriteFile(filepath.Join(scripts, "xendomains"), script, 0o755))
	cmd := exec.CommandContext(t.Context(), sysv, xen, xen, xen)
	cmd.Env = append(os.Environ(), "SYSTEMD_SYSVINIT_PATH="+scripts, "SYSTEMD_SYSVRCND_PATH="+scripts)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line := ""
	for l := range strings.Lines(distFile(t, "example.fstab")) {
		if strings.HasPrefix(l, "https:") {
			line = l
		}
	}
	for _, c := range []struct {
		name, from string
		units      []string // they are wanted at boot
	}{
		{"libvirt", libvirt, []string{"libvirtd.service", "libvirt-guests.service"}},
		{"xen", xen, []string{"xendomains.service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, appliance.Options{})
			files := map[string]string{
				"/etc/fstab": strings.NewReplacer("https://example.org/vmcast.xml", w.feed, "_netdev", "_netdev,cache_free=0").Replace(line),
				"/etc/systemd/system/multi-user.target.d/wants.conf": "[Unit]\nWants=remote-fs.target " + strings.Join(c.units, " ") + "\n",
				// A network that takes its time.
				"/etc/systemd/system/online.service": "[Unit]\nDefaultDependencies=no\nBefore=network-online.target\n" +
					"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 1\n",
				"/etc/systemd/system/network-online.target.d/wants.conf": "[Unit]\nWants=online.service\n",
			}
			all, _ := filepath.Glob(filepath.Join(c.from, "*.*"))
			for _, unit := range all {
				if info, err := os.Lstat(unit); err == nil && info.Mode().IsRegular() {
					files["/usr/lib/systemd/system/"+filepath.Base(unit)] = string(readAll(t, unit))
				}
			}
			look := func(when string) string {
				return "/bin/sh -c 'sleep 2; sha256sum /srv/vmcast/latest/data.img >/result/%p." + when + " 2>&1'\n"
			}
			for _, unit := range c.units {
				files["/etc/systemd/system/"+unit+".d/look.conf"] = "[Service]\nType=oneshot\nRemainAfterExit=yes\nRestart=no\nTimeoutStopSec=60\n" +
					"ExecStart=\nExecStart=" + look("start") + "ExecStop=\nExecStop=" + look("stop") + "ExecReload=\n"
			}
			m, result := newMachine(t, files)
			saw := func(when string) {
				t.Helper()
				want := fmt.Sprintf("%x  /srv/vmcast/latest/data.img\n", sha256.Sum256(w.app.Data))
				for _, unit := range c.units {
					file := strings.TrimSuffix(unit, "service") + when
					if got, err := os.ReadFile(filepath.Join(result, file)); err != nil || string(got) != want {
						t.Errorf("%s: %v\n%s", file, err, got)
					}
				}
			}
			saw("start")
			mounted := m.when("srv-vmcast.mount", "ActiveEnterTimestampMonotonic")
			for _, unit := range c.units {
				if at := m.when(unit, "InactiveExitTimestampMonotonic"); at < mounted {
					t.Errorf("%s starts %d µs before the mount is there", unit, mounted-at)
				}
			}
			m.ok("systemctl", "exit")
			select {
			case <-m.ended:
			case <-time.After(5 * time.Minute):
				t.Fatal("the machine does not end")
			}
			saw("stop")
		})
	}
}
