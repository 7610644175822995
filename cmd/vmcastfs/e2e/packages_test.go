package e2e

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestPackages: one file makes the packages of Red Hat and Alpine too. What they
// hold is what the package of Debian holds; bsdtar reads both.
func TestPackages(t *testing.T) {
	t.Parallel()
	for format, more := range map[string]string{"rpm": "usr/share/zsh/site-functions/_vmcastfs", "apk": "PKGINFO"} {
		pkg := buildPackage(t, format)
		out, err := exec.Command(testkit.Need(t, "bsdtar"), "-tf", pkg).CombinedOutput()
		for _, want := range []string{"usr/bin/vmcastfs\n", "usr/sbin/mount.vmcastfs\n", "usr/lib/systemd/system/vmcastfs@.service\n", "usr/share/man/man7/vmcastfs-security.7.gz\n", "etc/vmcastfs/keys", more} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s lacks %s: %v\n%s", format, want, err, out)
			}
		}
	}
}

// buildPackage is the path of a package of the binary under test.
func buildPackage(t *testing.T, format string) string {
	t.Helper()
	build := exec.Command("bash", "../../../.ci/package/build", format, t.TempDir())
	build.Env = append(os.Environ(), "BINARY="+binary)
	var stderr strings.Builder
	build.Stderr = &stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", format, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// TestDebianPackage installs the package into a directory and removes it.
func TestDebianPackage(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "dpkg-deb")
	if os.Geteuid() != 0 {
		t.Skip("dpkg installs as root only")
	}
	dir := t.TempDir()
	deb := buildPackage(t, "deb")
	field, err := exec.Command("dpkg-deb", "-f", deb, "Package", "Depends", "Recommends", "Maintainer", "Description").Output()
	if strings.Contains(string(field), "Depends:") { // root needs nothing
		t.Errorf("it depends on something:\n%s", field)
	}
	for _, want := range []string{"Package: vmcastfs\n", "Recommends: fuse3\n", "Maintainer: ", "Description: mount a VMcast feed"} {
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
		cmd := exec.Command("dpkg", append([]string{"--root=" + root, "--force-script-chrootless", "--log=" + dir + "/log"}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// What updatedb leaves out is a file of another package, so it is put back.
	const updatedb = "PRUNE_BIND_MOUNTS=\"yes\"\n# PRUNENAMES=\"\"\nPRUNEFS=\"NFS fuse.sshfs fusectl\"\n"
	conf := root + "/etc/updatedb.conf"
	if err := errors.Join(os.MkdirAll(root+"/etc", 0o755), os.WriteFile(conf, []byte(updatedb), 0o644)); err != nil {
		t.Fatal(err)
	}
	dpkg("-i", deb)
	dpkg("-i", deb) // as an upgrade
	if got, err := os.ReadFile(conf); err != nil || strings.Count(string(got), "fuse.vmcastfs") != 1 || strings.Replace(string(got), "fuse.vmcastfs ", "", 1) != updatedb {
		t.Errorf("%v, updatedb is told:\n%s", err, got)
	}
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
	if got, err := os.ReadFile(conf); err != nil || string(got) != updatedb {
		t.Errorf("%v, after the package is gone updatedb is told:\n%s", err, got)
	}
	os.Remove(conf)
	if _, err := os.Stat(root + "/var/lib/vmcastfs/trust"); err != nil {
		t.Errorf("removing took the state away: %v", err)
	}
	dpkg("-P", "vmcastfs")
	for _, name := range tree(t, root) {
		if !strings.HasPrefix(name, "/var/lib/dpkg/") && name != "/var/" && name != "/etc/" && name != "/var/lib/" && name != "/var/cache/" {
			t.Errorf("purging leaves %s", name)
		}
	}
}
