package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// libvirt is a libvirtd of the test's own, with its system driver: in a
// namespace of processes, whose init reaps at once each QEMU that libvirtd asks
// what it can do, and which leaves nothing behind; and in one of mounts, where
// its directories, its configuration and the user that QEMU runs as are those of
// a freshly installed host, so that nothing of this machine is touched.
type libvirt struct {
	t   *testing.T
	uri string
	log string
}

// enterAndRun binds the directory $1 over the places that libvirtd uses. Of
// the mounts of this machine's other tests, which would live on in the
// namespace, it keeps the one on $2 only.
const enterAndRun = `
for m in $(grep fuse.vmcastfs /proc/mounts | cut -d" " -f2); do [ "$m" = "$2" ] || umount -l "$m"; done
set -e
for d in etc:/etc/libvirt lib:/var/lib log:/var/log cache:/var/cache run:/run passwd:/etc/passwd group:/etc/group; do
	mount --bind "$1/${d%%:*}" "${d#*:}"
done
libvirtd -f /etc/libvirt/libvirtd.conf &
wait`

// startLibvirt starts it. It sees the mount named, and no other of ours.
func startLibvirt(t *testing.T, mount string) *libvirt {
	t.Helper()
	for _, tool := range []string{"libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare"} {
		testkit.Need(t, tool)
	}
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root, for qemu:///system,")
	}
	dir := openDir(t, "vmlv", 0o755)
	for _, d := range []string{"etc", "lib", "log", "cache", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Mkdir("/etc/libvirt", 0o755) // what is bound over must exist
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/libvirtd.conf", "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n")
	write("etc/qemu.conf", "user = \"libvirt-qemu\"\ngroup = \"libvirt-qemu\"\nstdio_handler = \"file\"\n") // no virtlogd
	write("passwd", withUser(t, "/etc/passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"))
	write("group", withUser(t, "/etc/group", "libvirt-qemu:x:64055:"))

	var output bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", enterAndRun, "sh", dir, mount)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it all processes of its namespace
		<-ended
		if t.Failed() {
			t.Logf("libvirtd said:\n%s", output.Bytes())
		}
	})
	socket := filepath.Join(dir, "run/libvirt/libvirt-sock")
	testkit.Eventually(t, "libvirtd listens", 60*time.Second, func() bool {
		select {
		case <-ended:
			t.Fatalf("libvirtd ended:\n%s", output.Bytes())
		default:
		}
		_, err := os.Stat(socket)
		return err == nil
	})
	return &libvirt{t: t, uri: "qemu+unix:///system?socket=" + socket, log: filepath.Join(dir, "log/libvirt/qemu")}
}

// openDir is a temporary directory that other users can enter, as they cannot
// t.TempDir. Its name is short: the path of a socket has 107 bytes.
func openDir(t *testing.T, prefix string, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// withUser is the file with a line added, unless that user is there.
func withUser(t *testing.T, file, line string) string {
	text := string(readAll(t, file))
	if strings.Contains(text, "\nlibvirt-qemu:") {
		return text
	}
	return strings.TrimRight(text, "\n") + "\n" + line + "\n"
}

func (l *libvirt) virsh(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 4*time.Minute) // the first asks every QEMU what it can do
	defer cancel()
	out, err := exec.CommandContext(ctx, "virsh", append([]string{"-q", "-c", l.uri}, args...)...).CombinedOutput()
	return string(out), err
}

// boot defines the domain, starts it, and returns what it wrote to its serial
// line until it switched itself off.
func (l *libvirt) boot(name, domain string) string {
	t := l.t
	t.Helper()
	dir := openDir(t, "vmlv", 0o777)
	// The domain as printed, but for where its serial line goes.
	console := filepath.Join(dir, "console.log")
	const serial, terminal = `<serial type="pty"/>`, `<console type="pty"/>`
	if !strings.Contains(domain, serial) || !strings.Contains(domain, terminal) {
		t.Fatalf("no serial line in\n%s", domain)
	}
	domain = strings.Replace(domain, serial, fmt.Sprintf(`<serial type="file"><source path="%s"/></serial>`, console), 1)
	domain = strings.Replace(domain, terminal, "", 1)
	file := filepath.Join(dir, "domain.xml")
	if err := os.WriteFile(file, []byte(domain), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := l.virsh("define", "--validate", file); err != nil {
		t.Fatalf("define: %v: %s\n%s", err, out, domain)
	}
	if out, err := l.virsh("start", name); err != nil {
		log, _ := os.ReadFile(filepath.Join(l.log, name+".log"))
		t.Fatalf("start: %v: %s\n%s\n%s", err, out, domain, log)
	}
	defer func() {
		_, _ = l.virsh("destroy", name)
		if out, err := l.virsh("undefine", name); err != nil {
			t.Errorf("undefine: %v: %s", err, out)
		}
	}()
	state := ""
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end) && state != "shut off"; time.Sleep(100 * time.Millisecond) {
		out, err := l.virsh("domstate", name)
		if err != nil {
			t.Fatalf("domstate: %v: %s", err, out)
		}
		state = strings.TrimSpace(out)
	}
	return state + "\n" + string(readAll(t, console))
}

// overlayLine finds the line that makes an overlay in the comment of a domain.
var overlayLine = regexp.MustCompile(`(?m)^\s*(\[ -e .* qemu-img create .*)$`)

// Domains that config prints boot under libvirt's system driver from the
// mounted path, with QEMU as an ordinary user: from the release itself, and
// from an overlay made by the line in the comment.
func TestLibvirtBoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.dir = filepath.Join(openDir(t, "vmlv", 0o755), "mnt")
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.mount()
	l := startLibvirt(t, w.dir)

	domain := stdout(t, "config", "libvirt", "--accel", "tcg", w.path("latest"))
	if out := l.boot("demo-1.1", domain); !strings.HasPrefix(out, "shut off") || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("the guest said %q\n%s", out, domain)
	}

	overlays := openDir(t, "vmlv--overlay", 0o755)
	domain = stdout(t, "config", "libvirt", "--accel", "tcg", "--name", "writer", "--overlay", overlays, w.path("latest"))
	lines := overlayLine.FindAllStringSubmatch(domain, -1)
	if len(lines) != 2 {
		t.Fatalf("%d overlays in\n%s", len(lines), domain)
	}
	for _, line := range lines {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", line[1]).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line[1], err, out)
		}
	}
	if out := l.boot("writer", domain); !strings.HasPrefix(out, "shut off") || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("with an overlay the guest said %q\n%s", out, domain)
	}
	out, err := exec.CommandContext(t.Context(), "qemu-img", "info", "-U", filepath.Join(overlays, "writer-disk.qcow2")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "backing file: "+w.path("demo-1.1", "disk.img")) {
		t.Errorf("%v: %s", err, out)
	}
}
