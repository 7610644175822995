package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The package is built by its one command, installed into a directory and
// removed from it.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb")
	if os.Geteuid() != 0 {
		t.Skip("dpkg installs as root only")
	}
	dir := t.TempDir()
	build := exec.Command("bash", "../../../.ci/deb", dir)
	build.Env = append(os.Environ(), "BINARY="+binary, "DPKG_DEB_COMPRESSOR_TYPE=gzip", "DPKG_DEB_COMPRESSOR_LEVEL=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf(".ci/deb: %v\n%s", err, out)
	}
	debs, err := filepath.Glob(dir + "/vmcastfs_*.deb")
	if err != nil || len(debs) != 1 {
		t.Fatalf("built %q, %v", debs, err)
	}
	field, err := exec.Command("dpkg-deb", "-f", debs[0], "Package", "Depends", "Maintainer", "Description").Output()
	for _, want := range []string{"Package: vmcastfs\n", "Depends: fuse3\n", "Maintainer: ", "Description: mount a VMcast feed"} {
		if err != nil || !strings.Contains(string(field), want) {
			t.Errorf("the package's fields lack %q: %v\n%s", want, err, field)
		}
	}

	root := dir + "/root"
	for _, d := range []string{"/var/lib/dpkg/info", "/var/lib/dpkg/updates", "/var/lib/dpkg/triggers", "/var/cache/vmcastfs", "/var/lib/vmcastfs"} {
		if err := os.MkdirAll(root+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"/var/lib/dpkg/status", "/var/cache/vmcastfs/CACHEDIR.TAG", "/var/lib/vmcastfs/trust"} {
		if err := os.WriteFile(root+f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dpkg := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--force-depends", "--log=" + dir + "/log"}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	dpkg("-i", debs[0])
	dpkg("-i", debs[0]) // as an upgrade
	if out := dpkg("--verify", "vmcastfs"); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	for _, path := range []string{
		"/usr/sbin/mount.vmcastfs", "/usr/lib/systemd/system/vmcastfs@.service", "/usr/lib/systemd/system/vmcastfs-verify.timer", "/usr/share/man/man8/mount.vmcastfs.8.gz",
		"/usr/share/zsh/vendor-completions/_vmcastfs", "/usr/share/doc/vmcastfs/copyright", "/usr/share/doc/vmcastfs/changelog.gz", "/etc/vmcastfs/keys",
	} {
		if _, err := os.Stat(root + path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(root + "/sbin"); err == nil {
		t.Error("the package holds /sbin, which is a link on every Debian since 12")
	}
	if out, err := exec.Command(root+"/usr/bin/vmcastfs", "--version").CombinedOutput(); err != nil {
		t.Errorf("the packaged program: %v\n%s", err, out)
	}
	dpkg("-r", "vmcastfs")
	if _, err := os.Stat(root + "/var/lib/vmcastfs/trust"); err != nil {
		t.Errorf("removing took the state away: %v", err)
	}
	dpkg("-P", "vmcastfs")
	for _, name := range tree(t, root) {
		if !strings.HasPrefix(name, "/var/lib/dpkg/") && name != "/var/" && name != "/var/lib/" && name != "/var/cache/" {
			t.Errorf("purging leaves %s", name)
		}
	}
}
