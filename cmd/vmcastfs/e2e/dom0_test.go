package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// dom0 is a Xen host in QEMU without hardware virtualization: Xen, and Debian's
// kernel with the initramfs of testdata/dom0.sh. It fetches the commands to run
// from a server of the test, which it knows as 10.0.2.2.
type dom0 struct {
	t        *testing.T
	commands chan string
	qemu     *exec.Cmd
	ended    chan struct{} // QEMU
	console  string        // file with what the host said
	up       atomic.Bool   // an agent has asked for a command

	mu      sync.Mutex
	waiting map[string]chan dom0Answer // by the id of the command; guarded by mu
	count   int                        // guarded by mu
}

type dom0Answer struct {
	output string
	status string
}

// dom0Packages is the directory of Debian's packages that .ci/test downloads for it.
func dom0Packages(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("VMCASTFS_TEST_DOM0")
	if dir == "" {
		dir, _ = filepath.Abs("../../../.ci/.cache/dom0")
	}
	if debs, _ := filepath.Glob(filepath.Join(dir, "*.deb")); len(debs) == 0 {
		testkit.Missing(t, "Xen (bash .ci/test downloads its packages; VMCASTFS_TEST_DOM0 names their directory)")
	}
	return dir
}

var dom0Made struct {
	sync.Mutex
	dir string // "": not yet made
}

// dom0Files is a directory with what boots the host, made once for all tests; nobody may
// change it. The test program of package machines is in it too.
func dom0Files(t *testing.T) (at func(name string) string) {
	t.Helper()
	for _, tool := range []string{"qemu-system-x86_64", "qemu-img", "dpkg-deb", "busybox", "cpio", "bash", "losetup", "dmsetup", "flock"} {
		testkit.Need(t, tool)
	}
	dom0Made.Lock()
	defer dom0Made.Unlock()
	if dom0Made.dir == "" {
		dir, err := os.MkdirTemp("", "dom0")
		must(t, err)
		program, machines := filepath.Join(dir, "vmcastfs"), filepath.Join(dir, "machines.test")
		must(t, errors.Join(testkit.Build(program, ".."), testkit.BuildTest(machines, "vmcastfs/cmd/internal/machines")))
		if out, err := exec.CommandContext(t.Context(), "bash", "testdata/dom0.sh", dir, dom0Packages(t), program, machines).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		dom0Made.dir = dir
	}
	dir := dom0Made.dir
	return func(name string) string { return filepath.Join(dir, name) }
}

// bootDom0 starts the host under Xen. It has /tmp of 90 % of its memory.
func bootDom0(t *testing.T) *dom0 {
	t.Helper()
	at := dom0Files(t)
	for range 3 {
		d := startDom0(t, "console=hvc0", func(append string) []string {
			return []string{"-cpu", "qemu64,+svm,+npt", "-m", "2048", "-kernel", at("xen"), "-append", "dom0_mem=1024M,max:1024M console=com1 com1=115200 noreboot",
				"-initrd", at("vmlinuz") + " " + append + "," + at("initrd")}
		})
		noTimer := false
		testkit.Eventually(t, "the host is up", 10*time.Minute, func() bool {
			said, _ := os.ReadFile(d.console)
			noTimer = bytes.Contains(said, []byte("IO-APIC + timer doesn't work"))
			return noTimer || d.up.Load()
		})
		if !noTimer {
			return d
		}
		// On a busy machine QEMU's timer may come too late for Xen, which looks for it.
		_ = d.qemu.Process.Kill()
		<-d.ended
	}
	t.Fatal("Xen found no timer, three times")
	return nil
}

// bootMapper starts the host without Xen: a Linux with device-mapper.
func bootMapper(t *testing.T) *dom0 {
	t.Helper()
	at := dom0Files(t)
	return startDom0(t, "console=ttyS0", func(append string) []string {
		return []string{"-m", "768", "-kernel", at("vmlinuz"), "-initrd", at("initrd"), "-append", append + " no_timer_check"} // a busy machine may not give QEMU the time that the check needs
	})
}

// startDom0 starts QEMU with what args makes of the kernel's command line.
func startDom0(t *testing.T, append string, args func(append string) []string) *dom0 {
	t.Helper()
	d := &dom0{t: t, commands: make(chan string), ended: make(chan struct{}), console: filepath.Join(t.TempDir(), "console"), waiting: make(map[string]chan dom0Answer)}
	server := httptest.NewServer(d)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	qemu := exec.Command("qemu-system-x86_64", slices.Concat([]string{"-accel", "tcg", "-display", "none", "-nodefaults", "-no-reboot",
		"-serial", "file:" + d.console, "-netdev", "user,id=net0", "-device", "e1000,netdev=net0"}, args(append+" panic=-1 quiet agent="+port))...)
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	d.qemu = qemu
	// libxl gives up after some seconds of the clock, however little of a busy
	// machine the host has got by then. For an ordinary user this changes nothing.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, qemu.Process.Pid, -15)
	go func() { _ = qemu.Wait(); close(d.ended) }()
	t.Cleanup(func() {
		_ = qemu.Process.Kill()
		<-d.ended
		server.CloseClientConnections()
		server.Close()
		if t.Failed() {
			said, _ := os.ReadFile(d.console)
			t.Logf("the host said:\n%s", said[max(0, len(said)-8000):])
		}
	})
	return d
}

// ServeHTTP is what the agents of the host talk to.
func (d *dom0) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/next" {
		d.up.Store(true)
		select {
		case command := <-d.commands:
			_, _ = io.WriteString(w, command)
		case <-time.After(10 * time.Second):
			w.WriteHeader(http.StatusNotFound)
		case <-r.Context().Done():
		}
		return
	}
	output, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	got := d.waiting[r.FormValue("id")]
	d.mu.Unlock()
	if got != nil {
		got <- dom0Answer{string(output), r.FormValue("status")}
	}
}

// try runs a script of bash in the host, and returns what it said.
func (d *dom0) try(script string) (output string, ok bool) {
	d.t.Helper()
	d.mu.Lock()
	d.count++
	id, got := fmt.Sprint(d.count), make(chan dom0Answer, 1)
	d.waiting[id] = got
	d.mu.Unlock()
	deadline := time.After(5 * time.Minute)
	commands, command := d.commands, "# "+id+"\n"+script+"\n"
	for {
		select {
		case commands <- command:
			commands = nil
		case a := <-got:
			return a.output, a.status == "0"
		case <-d.ended:
			d.t.Fatalf("the host ended during\n%s", script)
		case <-deadline:
			d.t.Fatalf("the host did not answer to\n%s", script)
		}
	}
}

// run is try for what must succeed.
func (d *dom0) run(script string) string {
	d.t.Helper()
	output, ok := d.try(script)
	if !ok {
		d.t.Fatalf("%s\n%s", script, output)
	}
	return output
}

// create starts a guest of the configuration in a file. Beside much else Xen's
// script may be slower than libxl waits for it, 40 s: then it is tried again.
func (d *dom0) create(name, file string) {
	d.t.Helper()
	output, ok := "", false
	for range 3 {
		if output, ok = d.try("xl create " + file); ok {
			return
		}
		d.t.Logf("xl create %s: %s", file, output)
		d.try("xl destroy " + name)
	}
	log, _ := d.try("tail -n 40 /var/log/xen/*.log; cat " + file)
	d.t.Fatalf("xl create %s: %s\n%s", file, output, log)
}

// await waits until the console of a guest has shown a text.
func (d *dom0) await(guest, text string) {
	d.t.Helper()
	if output, ok := d.try(fmt.Sprintf(`for i in $(seq 100); do grep -qF %q /var/log/xen/guest-%s.log && exit; sleep 1; done; xl list; losetup -a; tail -n 30 /var/log/xen/guest-%[2]s.log /var/log/xen/*.log; exit 1`, text, guest)); !ok {
		d.t.Fatalf("%s never said %q:\n%s", guest, text, output)
	}
}
