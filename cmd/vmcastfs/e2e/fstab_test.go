package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// host is a mount namespace in which mount(8) finds mount.vmcastfs in /sbin,
// as after an installation; the machine itself stays as it is.
type host struct {
	t   *testing.T
	pid int
	dir string // for files that both sides see
}

func newHost(t *testing.T) *host {
	t.Helper()
	testkit.Need(t, "mount")
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h := &host{t: t, dir: t.TempDir()}
	bin := filepath.Dir(binary)
	if err := os.Chmod(bin, 0o755); err != nil { // it becomes the mode of /sbin
		t.Fatal(err)
	}
	// The namespace begins with copies of the mounts of other tests, which must
	// not live on by it.
	script := fmt.Sprintf(`for m in $(grep fuse.vmcastfs /proc/mounts | cut -d" " -f2); do umount -l "$m"; done
		mount -t overlay overlay -o lowerdir=%s:$(readlink -f /sbin) /sbin && echo ready && exec sleep 600`, bin)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the mounts end with the last process in the namespace
		for _, m := range h.mounts() {
			_ = exec.Command("nsenter", "-m", "-t", fmt.Sprint(h.pid), "umount", "-l", m).Run()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	h.pid = cmd.Process.Pid
	if ready, _ := bytesLine(out); ready != "ready" {
		t.Fatal("no overlay on /sbin")
	}
	return h
}

func bytesLine(r interface{ Read([]byte) (int, error) }) (string, error) {
	var line []byte
	p := make([]byte, 1)
	for {
		if _, err := r.Read(p); err != nil || p[0] == '\n' {
			return string(line), err
		}
		line = append(line, p[0])
	}
}

// command runs in the namespace, with nothing in the environment but env.
func (h *host) command(env []string, args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.Command("nsenter", append([]string{"-m", "-t", fmt.Sprint(h.pid), "--"}, args...)...)
	cmd.Env = append([]string{}, env...)
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	return out.String(), exitCode(err)
}

// path is a file in the namespace, seen from here.
func (h *host) path(name ...string) string {
	return filepath.Join(append([]string{fmt.Sprintf("/proc/%d/root", h.pid)}, name...)...)
}

// mounts are the mount points of vmcastfs in the namespace.
func (h *host) mounts() []string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", h.pid))
	var dirs []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "fuse.vmcastfs" {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}

func (h *host) fstab(lines ...string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, "fstab")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// everyGenericOption is what people, installers and generators write.
const everyGenericOption = "defaults,rw,_netdev,nofail,noauto,user,noatime,relatime,nodiratime,nosuid,nodev,noexec,x-systemd.automount,x-gvfs-hide,X-mount.mkdir,comment=x,lazytime,silent"

func TestFstab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	h := newHost(t)
	second, third := t.TempDir(), t.TempDir()
	local := filepath.Join(h.dir, "a feed.xml")
	must(t, os.WriteFile(local, w.app.Feed, 0o644))
	opts := w.options()
	// The origin answers by path alone: the second address has every character
	// that fstab, mountinfo or a URL treat in a way of their own.
	odd := w.feed + "?a=1,2&b=%20c\\d#f"
	inFstab := strings.NewReplacer("\\", `\134`, "#", `\043`, " ", `\040`).Replace(odd)
	fstab := h.fstab(
		"# a comment",
		w.feed+" "+w.dir+" vmcastfs "+strings.ReplaceAll(everyGenericOption, "noauto,", "")+","+opts+" 0 0",
		inFstab+" "+second+" fuse.vmcastfs ro,_netdev,"+opts+" 0 0",
		"file://"+strings.ReplaceAll(local, " ", "%20")+" "+third+"/ vmcastfs ro,"+opts+" 0 0",
	)
	path := []string{"PATH=" + filepath.Dir(binary) + ":/usr/sbin:/usr/bin:/sbin:/bin"} // where mount.fuse3 looks for the program
	for range 3 {                                                                       // mount -a again finds everything mounted
		out, code := h.command(path, "mount", "-a", "-T", fstab)
		if code != 0 {
			t.Fatalf("mount -a: exit code %d\n%s", code, out)
		}
		if got := h.mounts(); len(got) != 3 {
			t.Fatalf("mounted are %q", got)
		}
	}
	for _, dir := range []string{w.dir, second, third} {
		if !bytes.Equal(readAll(t, h.path(dir, "latest/disk.img")), w.app.Disk) {
			t.Errorf("%s: disk.img differs", dir)
		}
	}
	out, _ := h.command(nil, "/usr/bin/findmnt", "-rno", "SOURCE,FSTYPE,OPTIONS", w.dir)
	if f := strings.Fields(out); len(f) != 3 || f[0] != w.feed || f[1] != "fuse.vmcastfs" || !strings.HasPrefix(f[2], "ro,nosuid,nodev,noexec") ||
		!strings.Contains(f[2], "default_permissions") || !strings.Contains(f[2], "allow_other") {
		t.Errorf("findmnt says %q", out)
	}
	for _, dir := range []string{w.dir, second, third} {
		if out, code := h.command(nil, "/usr/bin/umount", dir); code != 0 {
			t.Errorf("umount: %d, %s", code, out)
		}
	}
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("still mounted: %q", got)
	}
}

func TestMount8Forms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	h := newHost(t)
	mount := func(args ...string) (string, int) { // with an empty environment
		return h.command(nil, append([]string{"/usr/bin/mount"}, args...)...)
	}
	ok := func(what string, args ...string) {
		t.Helper()
		if out, code := mount(args...); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", what, code, out)
		}
		if !bytes.Equal(readAll(t, h.path(w.dir, "latest/data.img")), w.app.Data) {
			t.Errorf("%s: data.img differs", what)
		}
	}
	end := func() {
		t.Helper()
		if out, code := h.command(nil, "/usr/bin/umount", w.dir); code != 0 {
			t.Fatalf("umount: %d, %s", code, out)
		}
	}
	ok("all options, sloppy, verbose, no mtab", "-v", "-n", "-s", "-t", "vmcastfs", "-o", everyGenericOption+",unheard-of,"+w.options(), w.feed, w.dir)
	if out, code := mount("-o", "remount,ro", w.dir); code != 0 || len(h.mounts()) != 1 {
		t.Errorf("remount: %d, %s, %q", code, out, h.mounts())
	}
	if out, code := mount("-t", "vmcastfs", "-o", w.options(), w.feed, w.dir); code != 32 || !strings.Contains(out, "already") || len(h.mounts()) != 1 {
		t.Errorf("mounting twice: %d, %s, %q", code, out, h.mounts())
	}
	end()
	var several [4]int // at the same time
	var all sync.WaitGroup
	for i := range several {
		all.Go(func() { _, several[i] = mount("-t", "vmcastfs", "-o", w.options(), w.feed, w.dir) })
	}
	all.Wait()
	if slices.Sort(several[:]); several != [4]int{0, 32, 32, 32} || len(h.mounts()) != 1 {
		t.Errorf("four at once: %d, %q", several, h.mounts())
	}
	end()
	if out, code := mount("-f", "-t", "vmcastfs", "-o", w.options(), w.feed, w.dir); code != 0 || len(h.mounts()) != 0 {
		t.Errorf("fake: %d, %s, %q", code, out, h.mounts())
	}
	ok("by directory alone", "-T", h.fstab(w.feed+" "+w.dir+" vmcastfs noauto,"+w.options()+" 0 0"), w.dir)
	end()

	// Exit codes, by which scripts tell failures apart.
	for _, c := range []struct {
		code int
		say  string
		args []string
	}{
		{1, "unknown option", []string{"-t", "vmcastfs", "-o", "nonsense", w.feed, w.dir}},
		{1, "password", []string{"-t", "vmcastfs", strings.Replace(w.feed, "http://", "http://u:p@", 1), w.dir}},
		{2, "cache directory", []string{"-t", "vmcastfs", "-o", w.options("cache=/proc/none"), w.feed, w.dir}},
		{32, "", []string{"-t", "vmcastfs", "-o", w.options(), w.feed, w.dir + "/none"}},
		{32, "check the address", []string{"-t", "vmcastfs", "-o", w.options(), w.feed + ".none", w.dir}},
	} {
		if out, code := mount(c.args...); code != c.code || !strings.Contains(out, c.say) || strings.Contains(out, "u:p@") && c.say != "password" {
			t.Errorf("mount %q: exit code %d, want %d with %q\n%s", c.args, code, c.code, c.say, out)
		}
	}
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("mounted after failures: %q", got)
	}
}

// Relative paths, and no environment at all: as a cron job or a unit calls it.
func TestEmptyEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	for name, args := range map[string][]string{
		"command": {binary, "mount", "-o", "cache=c,state=s,cache_free=0", "../" + filepath.Base(w.dir) + "/vmcast.xml", "./mnt"},
		"helper":  {filepath.Join(filepath.Dir(binary), "mount.vmcastfs"), "vmcast.xml", "mnt", "-o", "cache=c,state=s,cache_free=0"},
	} {
		if err := os.WriteFile(filepath.Join(w.dir, "vmcast.xml"), w.app.Feed, 0o644); err != nil {
			t.Fatal(err)
		}
		mnt := filepath.Join(w.dir, "mnt")
		if err := os.MkdirAll(mnt, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = w.dir, []string{}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if !bytes.Equal(readAll(t, filepath.Join(mnt, "latest/data.img")), w.app.Data) {
			t.Errorf("%s: data.img differs", name)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "c/CACHEDIR.TAG")); err != nil {
			t.Errorf("%s: the cache is not where it was asked for: %v", name, err)
		}
		umount := exec.Command(binary, "umount", "mnt")
		umount.Dir, umount.Env = w.dir, []string{}
		if out, err := umount.CombinedOutput(); err != nil {
			t.Errorf("%s: umount: %v\n%s", name, err, out)
		}
	}
	// An account without a home has no place for a cache: say so.
	if os.Geteuid() == 0 {
		cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, "mount", w.feed, w.dir)
		cmd.Env = []string{}
		open(t, w.dir, filepath.Dir(binary))
		if out, err := cmd.CombinedOutput(); exitCode(err) != 2 || !strings.Contains(string(out), "cache=DIR") {
			t.Errorf("no home: %v\n%s", err, out)
		}
	}
}

// A signal, or Ctrl-C, which a terminal sends to all processes of the group,
// while the server is silent: exit code 8, and nothing is left. 4 if the process
// in the background dies without a word.
func TestInterruptedMount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		code int
		send func(pid, daemon int) error
	}{
		{"signal", 8, func(pid, _ int) error { return syscall.Kill(pid, syscall.SIGTERM) }},
		{"Ctrl-C", 8, func(pid, _ int) error { return syscall.Kill(-pid, syscall.SIGINT) }},
		{"dies", 4, func(_, daemon int) error { return syscall.Kill(daemon, syscall.SIGKILL) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, appliance.Options{})
			w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Stall})
			cmd := exec.Command(filepath.Join(filepath.Dir(binary), "mount.vmcastfs"), w.feed, w.dir, "-o", w.options())
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var out bytes.Buffer
			cmd.Stderr = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the feed is asked for", time.Minute, func() bool { return w.origin.Stats(appliance.FeedPath).Requests > 0 })
			pids := w.daemons()
			if len(pids) != 1 {
				t.Fatalf("%d processes in the background", len(pids))
			}
			if err := c.send(cmd.Process.Pid, pids[0]); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); exitCode(err) != c.code {
				t.Errorf("interrupted: %v\n%s", err, out.String())
			}
			for _, pid := range pids {
				w.waitGone(pid)
			}
			if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
				t.Errorf("mounted: %v, %v", entries, err)
			}
		})
	}
}

// A mount in the background belongs to no terminal, once it is there.
func TestOwnSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	for _, pid := range w.daemons() {
		stat := string(readAll(t, fmt.Sprintf("/proc/%d/stat", pid)))
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')'):]) // ) state ppid pgrp session tty
		if f[4] != fmt.Sprint(pid) || f[5] != "0" {
			t.Errorf("process %d is in session %s, its terminal is %s", pid, f[4], f[5])
		}
	}
}

func TestFstabGenerator(t *testing.T) {
	t.Parallel()
	generator := "/usr/lib/systemd/system-generators/systemd-fstab-generator"
	if _, err := os.Stat(generator); err != nil {
		testkit.Missing(t, "systemd-fstab-generator")
	}
	testkit.Need(t, "systemd-analyze")
	dir := t.TempDir()
	fstab := filepath.Join(dir, "fstab")
	// The example that is installed, with both lines in force.
	text := strings.ReplaceAll(distFile(t, "example.fstab"), "\n#https", "\nhttps")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "https") && !strings.Contains(string(readAll(t, "../docs/operations.md")), "    "+line) {
			t.Errorf("docs/operations.md has another line than %s", line)
		}
	}
	text = strings.Replace(text, "/srv/vmcast ", "/srv/other ", 1)
	if err := os.WriteFile(fstab, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "units")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(generator, out, out, out)
	cmd.Env = append(os.Environ(), "SYSTEMD_FSTAB="+fstab, "SYSTEMD_LOG_TARGET=console")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	for unit, want := range map[string][]string{
		"srv-other.mount":      {"What=https://example.org/vmcast.xml", "Where=/srv/other", "Type=vmcastfs", "Before=remote-fs.target"},
		"srv-vmcast.mount":     {"Type=vmcastfs", "Before=remote-fs.target"},
		"srv-vmcast.automount": {"Where=/srv/vmcast"},
	} {
		content, err := os.ReadFile(filepath.Join(out, unit))
		if err != nil {
			t.Error(err)
		}
		for _, line := range want {
			if !strings.Contains(string(content), line+"\n") {
				t.Errorf("%s lacks %s:\n%s", unit, line, content)
			}
		}
		if msg, err := exec.Command("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", filepath.Join(out, unit)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", unit, err, msg)
		}
	}
}
