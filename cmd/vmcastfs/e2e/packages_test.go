package e2e

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestPackages: one file makes the packages of Red Hat and Alpine too. What they
// hold is what install makes. None depends on anything: root mounts without fuse3.
func TestPackages(t *testing.T) {
	t.Parallel()
	installed := tree(t, staged(t))
	says := func(name string, args ...string) string {
		out, err := exec.Command(testkit.Need(t, name), args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %q: %v\n%s", name, args, err, out)
		}
		return "\n" + string(out)
	}
	for _, format := range []string{"rpm", "apk"} {
		pkg := buildPackage(t, format)
		list := strings.ReplaceAll(says("bsdtar", "-tf", pkg), "\n/", "\n")
		for _, name := range installed {
			if !strings.Contains(list, "\n"+name[1:]+"\n") && !strings.HasSuffix(name, "/") && !strings.HasPrefix(name, "/usr/share/vmcastfs") {
				t.Errorf("%s lacks %s:\n%s", format, name, list)
			}
		}
		// Modes, and an owner of root, as in the package of Debian.
		for line := range strings.Lines(says("bsdtar", "-tvf", pkg)) {
			f := strings.Fields(line)
			if len(f) < 9 || strings.HasPrefix(f[8], ".") {
				continue // of the package itself
			}
			mode := map[bool]string{true: "-rwxr-xr-x", false: "-rw-r--r--"}[strings.HasSuffix(f[8], "/bin/vmcastfs")]
			if f[0] != mode && f[0][0] == '-' || f[0][0] == 'd' && f[0] != "drwxr-xr-x" || !slices.Contains([]string{"root", "0"}, f[2]) {
				t.Errorf("%s: %s", format, line)
			}
		}
		var depends, rest, want string
		if format == "rpm" {
			depends, rest, want = says("rpm", "-qp", "--requires", pkg), says("rpm", "-qp", "--recommends", "--scripts", pkg), "\nfuse3\n"
		} else {
			rest, want = says("bsdtar", "-xOf", pkg, ".PKGINFO", ".post-install"), "\npkgver = 0_git"
			depends = says("bsdtar", "-xOf", pkg, ".PKGINFO")
		}
		if !strings.Contains(rest, want) || strings.Contains(depends, "fuse3") || !strings.Contains(rest, "add fuse.vmcastfs to PRUNEFS") {
			t.Errorf("%s depends on %s and says\n%s", format, depends, rest)
		}
	}
}

// buildPackage is the path of a package of the binary under test.
func buildPackage(t *testing.T, format string, env ...string) string {
	t.Helper()
	build := exec.Command("bash", "../../../.ci/package/build", format, t.TempDir())
	build.Env = append(append(os.Environ(), "BINARY="+binary), env...)
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
	// What updatedb leaves out is in a file of another package, which nothing changes.
	const updatedb = "PRUNE_BIND_MOUNTS=\"yes\"\n# PRUNENAMES=\"\"\nPRUNEFS=\"NFS fuse.sshfs fusectl\"\n"
	conf := root + "/etc/updatedb.conf"
	if err := errors.Join(os.MkdirAll(root+"/etc", 0o755), os.WriteFile(conf, []byte(updatedb), 0o644)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as an upgrade
		if out := dpkg("-i", deb); !strings.Contains(out, "add fuse.vmcastfs to PRUNEFS") {
			t.Errorf("nothing is said of updatedb: %s", out)
		}
	}
	if out := dpkg("--verify", "vmcastfs"); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	for _, path := range append(tree(t, staged(t)), "/usr/share/doc/vmcastfs/copyright", "/usr/share/doc/vmcastfs/changelog.gz") {
		path = strings.Replace(path, "/zsh/site-functions/", "/zsh/vendor-completions/", 1)
		if _, err := os.Stat(root + path); err != nil && !strings.HasPrefix(path, "/usr/share/vmcastfs/") {
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
		t.Errorf("%v, another package's file has become\n%s", err, got)
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
