package e2e

import (
	"bytes"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// tree lists what is below dir, directories with a slash.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if path == dir || err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		if d.IsDir() {
			name += "/"
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestInstall(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	foreign := dest + "/etc/other/"
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dest)
	out, err := exec.Command(binary, "install", "--prefix", "/usr", "--destdir", dest).Output()
	if err != nil {
		t.Fatalf("install: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("printed, but not there: %v", err)
		}
	}
	installed := tree(t, dest)
	for _, name := range installed {
		if !strings.HasSuffix(name, "/") && !strings.Contains(string(out), dest+name+"\n") {
			t.Errorf("installed, but not printed: %s", name)
		}
	}
	if to, err := filepath.EvalSymlinks(dest + "/usr/sbin/mount.vmcastfs"); err != nil || to != dest+"/usr/bin/vmcastfs" {
		t.Errorf("the helper leads to %q, %v", to, err)
	}
	for _, name := range installed {
		if strings.HasSuffix(name, "/") || name == "/usr/bin/vmcastfs" {
			continue
		}
		if content, err := os.ReadFile(dest + name); err == nil && strings.Contains(string(content), dest) {
			t.Errorf("%s mentions the staging directory", name)
		}
	}
	if out, err := exec.Command(dest+"/usr/bin/vmcastfs", "--version").CombinedOutput(); err != nil {
		t.Errorf("the installed program: %v\n%s", err, out)
	}
	// Again, over a program that is there, and by another program of the same name.
	if out, err := runBinary(t, "install", "--prefix", "/usr", "--destdir", dest); err != nil {
		t.Fatalf("install again: %v\n%s", err, out)
	}
	if again := tree(t, dest); !slices.Equal(again, installed) {
		t.Errorf("installing again made %q of %q", again, installed)
	}
	if out, err := runBinary(t, "install", "--uninstall", "--prefix", "/usr", "--destdir", dest); err != nil {
		t.Fatalf("uninstall: %v\n%s", err, out)
	}
	if after := tree(t, dest); !slices.Equal(after, before) {
		t.Errorf("uninstall leaves %q of %q", after, before)
	}
	if out, err := runBinary(t, "install", "--uninstall", "--prefix", "/usr", "--destdir", dest); exitCode(err) != 1 || !strings.Contains(out, "nothing is installed") {
		t.Errorf("uninstalling nothing: %v, %s", err, out)
	}
}

func TestInstallLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	// A system whose /sbin is a directory of its own, and a foreign helper in it.
	helper := dest + "/sbin/mount.vmcastfs"
	if err := os.MkdirAll(filepath.Dir(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(helper, []byte("foreign"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := runBinary(t, "install", "--destdir", dest)
	if exitCode(err) != 2 || !strings.Contains(out, "did not make it") {
		t.Errorf("over a foreign helper: %v, %s", err, out)
	}
	if got := tree(t, dest); len(got) != 2 {
		t.Errorf("it left %q", got)
	}
	if err := os.Remove(helper); err != nil {
		t.Fatal(err)
	}
	if out, err := runBinary(t, "install", "--destdir", dest); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if to, err := os.Readlink(helper); err != nil || to != "../usr/local/bin/vmcastfs" {
		t.Errorf("the helper in /sbin leads to %q, %v", to, err)
	}
	// What others put into the directories stays, and so do these.
	key := dest + "/etc/vmcastfs/keys/ours.asc"
	if err := os.WriteFile(key, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := runBinary(t, "install", "--uninstall", "--destdir", dest); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := tree(t, dest); !slices.Equal(got, []string{"/etc/", "/etc/vmcastfs/", "/etc/vmcastfs/keys/", "/etc/vmcastfs/keys/ours.asc", "/sbin/"}) {
		t.Errorf("uninstall leaves %q", got)
	}
}

// staged is an installation under /usr in a directory.
func staged(t *testing.T) string {
	t.Helper()
	dest := t.TempDir()
	if out, err := runBinary(t, "install", "--prefix", "/usr", "--destdir", dest); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	return dest
}

// The manual names the examples where this installation has them.
func TestInstalledManualNamesExamples(t *testing.T) {
	t.Parallel()
	dest := staged(t)
	out, err := exec.CommandContext(t.Context(), "gzip", "-dc", dest+"/usr/share/man/man7/vmcastfs-operations.7.gz").Output()
	const example = "/usr/share/doc/vmcastfs/examples/mount.conf"
	if err != nil || !bytes.Contains(out, []byte(" "+example)) || bytes.Contains(out, []byte("/usr/local")) {
		t.Errorf("the manual does not name %s: %v", example, err)
	}
	if _, err := os.Stat(dest + example); err != nil {
		t.Error(err)
	}
}

func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "systemd-analyze")
	dest := staged(t)
	units := dest + "/usr/lib/systemd/system/"
	var text string // of the unit of a mount
	dir := t.TempDir()
	for _, u := range []struct{ name, instance, starts string }{
		{"vmcastfs@.service", `vmcastfs@srv-vm\x20cast.service`, " mount -f"},
		{"vmcastfs-verify.service", "vmcastfs-verify.service", " cache verify\n"},
		{"vmcastfs-verify.timer", "vmcastfs-verify.timer", ""}, // behind its service
	} {
		content, err := os.ReadFile(units + u.name)
		if err != nil {
			t.Fatal(err)
		}
		// The program the unit starts is not in /usr/bin here.
		of := strings.ReplaceAll(string(content), "/usr/bin/vmcastfs", binary)
		if u.starts != "" && !strings.Contains(of, "ExecStart="+binary+u.starts) {
			t.Fatalf("%s does not start /usr/bin/vmcastfs:\n%s", u.name, content)
		}
		if text == "" {
			text = of
		}
		if err := os.WriteFile(filepath.Join(dir, u.instance), []byte(of), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", filepath.Join(dir, u.instance)).CombinedOutput()
		if err != nil || strings.Contains(string(out), "vmcastfs") {
			t.Errorf("%s: systemd-analyze verify: %v\n%s", u.name, err, out)
		}
	}
	// Nothing may give it a mount namespace: the host would not see its mounts.
	for _, word := range []string{"Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "MountFlags", "DynamicUser", "BindPaths", "TemporaryFileSystem"} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, word) {
				t.Errorf("the unit hides its mounts: %s", line)
			}
		}
	}
	if out, err := exec.Command("systemd-tmpfiles", "--create", "--dry-run", dest+"/usr/lib/tmpfiles.d/vmcastfs.conf").CombinedOutput(); err != nil && !strings.Contains(string(out), "unrecognized option") {
		t.Errorf("systemd-tmpfiles: %v\n%s", err, out)
	}
}

func TestCompletions(t *testing.T) {
	t.Parallel()
	dest := staged(t)
	script := dest + "/usr/share/bash-completion/completions/vmcastfs"
	for shell, path := range map[string]string{
		"bash": script, "zsh": dest + "/usr/share/zsh/site-functions/_vmcastfs",
		"fish": dest + "/usr/share/fish/vendor_completions.d/vmcastfs.fish",
	} {
		if _, err := exec.LookPath(shell); err != nil {
			continue // bash is everywhere; the others are checked where they are
		}
		if out, err := exec.Command(shell, "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

// TestCompletedByBash: the options behind a comma are completed, too. Where bash cuts words
// at "=", only what is behind it is put in.
func TestCompletedByBash(t *testing.T) {
	t.Parallel()
	dest := staged(t)
	for typed, want := range map[string]string{
		"cache_s": "cache_size=", "ro,cache_s": "ro,cache_size=", "verify=s": "strict", "ro,verify=s": "strict", "ro,soft,prewarm=": "boot all off",
	} {
		script := `
			. "$1"; set -- "$2"; COMP_WORDBREAKS="=:" COMP_TYPE=9 COMP_LINE="vmcastfs mount -o $1" COMP_POINT=${#COMP_LINE}
			_get_comp_words_by_ref() { cur=$typed prev=-o words=(vmcastfs mount -o "$typed") cword=3; }
			typed=$1; compopt() { :; }; __start_vmcastfs; echo "${COMPREPLY[*]}"`
		cmd := exec.Command("bash", "-c", script, "bash", dest+"/usr/share/bash-completion/completions/vmcastfs", typed)
		cmd.Env = append(os.Environ(), "PATH="+dest+"/usr/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: bash puts in %q, want %q (%v)", typed, got, want, err)
		}
	}
}

// TestCompleted: commands, the keys and values of -o, and mount points are completed.
func TestCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	hold(t, w.path("latest", "data.img"))
	release, err := os.Readlink(w.path("latest"))
	must(t, err)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"umount\t", []string{"umo"}},
		{"cache_size=\t", []string{"mount", "-o", "cache"}},
		{"ro,verify=strict\n", []string{"mount", "-o", "ro,verify="}},
		{"soft\t", []string{"list", "-o", "so"}},
		{"keyring=" + w.cache + "/\n", []string{"verify", "-o", "keyring=" + w.cache[:len(w.cache)-1]}},
		{w.dir + "\t" + w.feed + "\n", []string{"umount", ""}},
		{w.dir + "\t", []string{"status", ""}},
		{w.dir + "/\t", []string{"prefetch", ""}},
		{w.dir + "/\t", []string{"config", "qemu", w.dir[:len(w.dir)-1]}},
		{w.path("latest") + "/\n", []string{"config", "qemu", w.dir + "/la"}},
		{"profile=off\n", []string{"mount", "-o", "profile="}},
		{":0\n", []string{"config", "qemu", w.path("latest") + "/"}}, // the shell's part
		{"\n" + release + "/data.img\n", []string{"cache", "pin", "--cache", w.cache, ""}},
		{w.path("latest") + "/\n", []string{"cache", "unpin", w.dir + "/"}},
	} {
		if out, err := runBinary(t, append([]string{"__complete"}, c.args...)...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("completing %q: %v, no %q in\n%s", c.args, err, c.want, out)
		}
	}
}

// TestHelperIsACopy: mount.vmcastfs need not be a link to the program.
func TestHelperIsACopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := readAll(t, binary)
	must(t, os.WriteFile(dir+"/mount.vmcastfs", program, 0o755))
	must(t, os.WriteFile(dir+"/vmcastfs", program, 0o755))
	must(t, os.Mkdir(dir+"/linked", 0o755))
	must(t, os.Link(dir+"/vmcastfs", dir+"/linked/mount.vmcastfs"))
	for _, helper := range []string{dir + "/mount.vmcastfs", dir + "/linked/mount.vmcastfs"} {
		w := newWorld(t, appliance.Options{})
		if out, err := runProgram(t, helper, w.feed, w.dir, "-o", "rw,"+w.options()); err != nil || out != "" { // mount(8) passes rw by itself
			t.Errorf("%s: %v\n%s", helper, err, out)
			continue
		}
		w.wantFile(w.app.Data, "latest", "data.img")
	}
}
