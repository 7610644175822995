package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// debian is a Debian of its own packages, which .ci/test makes: an image of the
// partition with its root, and its kernel and initial ramdisk.
type debian struct{ dir string }

func findDebian(t testing.TB) debian {
	t.Helper()
	dir := os.Getenv("VMCASTFS_TEST_DEBIAN")
	if dir == "" {
		dir, _ = filepath.Abs("../../../.ci/.cache/debian")
	}
	if _, err := os.Stat(filepath.Join(dir, "root.img")); err != nil {
		testkit.Missing(t, "a Debian (bash .ci/test makes it; VMCASTFS_TEST_DEBIAN names its directory)")
	}
	return debian{dir}
}

// packDebian packs the Debian as a publisher of 2007 would: with tar, sha1sum and
// gpg. $1 is the Debian, $2 where to pack it, $3 what makes $4 of the image.
const packDebian = `
set -e
cp --reflink=auto "$1/vmlinuz" "$1/initrd.img" "$2"
cd "$2"
image=$1/root.img file=$4
eval "$3"
cat >xvm.xml <<END
<xvm><name>debian</name><memory>256</memory><machine>pv</machine>
<kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk><cmdline>root=/dev/sda1 ro console=hvc0</cmdline>
<disk file="$4" target="sda1"/></xvm>
END
sha1sum xvm.xml vmlinuz initrd.img "$4" >manifest.txt
for f in mf-signature:manifest.txt signature:xvm.xml; do
	gpg --batch --yes --quiet --pinentry-mode loopback --passphrase '' --armor --detach-sign -u publisher -o ${f%:*}.asc ${f#*:}
done
tar cf ../debian.xvm xvm.xml manifest.txt mf-signature.asc signature.asc vmlinuz initrd.img "$4"
rm -f *
`

// pack makes the package of the Debian whose image is what make makes.
func (d debian) pack(t testing.TB, g *gnupg, file, make string) (path string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", packDebian, "bash", d.dir, dir, make, file)
	cmd.Env = g.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(filepath.Dir(dir), "debian.xvm")
}

// publishFile is publish of an archive that is a file.
func (w *world) publishFile(title, path string) {
	w.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish(title, nil)
	w.origin.Put("/"+title+".xvm", f, info.Size(), info.ModTime(), `"1"`, "application/x-xvm")
}

// bootToLogin runs what config qemu printed until the guest shows a login prompt,
// and then ends it.
func bootToLogin(t testing.TB, text string) time.Duration {
	t.Helper()
	for range 3 {
		said, took, err := bootUntil(t, text, " login:")
		// On a busy machine QEMU's timer may come too late for the kernel that looks
		// for one, whatever it boots from.
		if strings.Contains(said, "IO-APIC + timer doesn't work") {
			continue
		}
		if err != nil {
			t.Fatalf("no login prompt after %s: %v\n%s\n%s", took, err, text, said[max(0, len(said)-8000):])
		}
		return took
	}
	t.Fatal("the kernel found no timer, three times")
	return 0
}

// bootUntil runs a machine until it says what is waited for, or panics.
func bootUntil(t testing.TB, text, wanted string) (said string, took time.Duration, err error) {
	t.Helper()
	began := time.Now()
	cmd := exec.Command("sh", "-c", text)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var all lockedBuffer
	cmd.Stderr = &all
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(t.Context(), kill)
	defer stop()
	limit := time.AfterFunc(8*time.Minute, kill)
	defer limit.Stop()
	p := make([]byte, 4096)
	for err == nil && !strings.Contains(all.String(), wanted) {
		if strings.Contains(all.String(), "end Kernel panic") {
			err = errors.New("the kernel panicked")
			break
		}
		var n int
		n, err = r.Read(p)
		_, _ = all.Write(p[:n])
	}
	took = time.Since(began)
	kill()
	_, _ = io.Copy(io.Discard, r)
	_ = cmd.Wait()
	return all.String(), took, err
}

// TestDebianBoots boots a real Debian to its login prompt by what config qemu
// prints, over a link of 30 ms and 100 Mbit/s, from the package of a publisher of
// 2007. VMCASTFS_TEST_LONG boots all forms that an image comes in, one of pack among them.
func TestDebianBoots(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"qemu-system-x86_64", "gpg", "sha1sum", "tar"} {
		testkit.Need(t, tool)
	}
	d, g := findDebian(t), newGnuPG(t)
	g.key("publisher", "ed25519", "never")
	convert := func(format string) string { return "qemu-img convert -f raw -O " + format + ` "$image" "$file"` }
	for _, c := range []struct {
		name, file, make string
		long             bool
	}{
		{name: "plain", file: "root.img", make: `cp --reflink=auto "$image" root.img`, long: true},
		{name: "gzip", file: "root.img.gz", make: `gzip -1 <"$image" >root.img.gz`},
		{name: "packed", file: "root.img", long: true},
		{name: "gzip -6", file: "root.img.gz", make: `gzip -6 <"$image" >root.img.gz`, long: true},
		{name: "gzip -9", file: "root.img.gz", make: `gzip -9 <"$image" >root.img.gz`, long: true},
		{name: "pigz", file: "root.img.gz", make: `pigz <"$image" >root.img.gz`, long: true},
		{name: "xz", file: "root.img.xz", make: `xz -T0 -1 <"$image" >root.img.xz`, long: true},
		{name: "zstd", file: "root.img.zst", make: `zstd -q <"$image" >root.img.zst`, long: true},
		{name: "packed with a profile", file: "root.img", long: true},
		{name: "vmdk", file: "root.vmdk", make: convert("vmdk"), long: true},
		{name: "streamOptimized", file: "root.vmdk", make: convert("vmdk -o subformat=streamOptimized"), long: true},
		{name: "qcow2", file: "root.qcow2", make: convert("qcow2"), long: true},
		{name: "vhd", file: "root.vhd", make: convert("vpc"), long: true},
		{name: "vhdx", file: "root.vhdx", make: convert("vhdx"), long: true},
		{name: "vdi", file: "root.vdi", make: convert("vdi"), long: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && os.Getenv("VMCASTFS_TEST_LONG") == "" {
				t.Skip("a long form: VMCASTFS_TEST_LONG is not set")
			}
			t.Parallel()
			w := bareWorld(t)
			w.origin.SetLatency(30 * time.Millisecond)
			w.origin.SetBandwidth(100e6 / 8)
			w.opts = []string{"sig=require", "keyring=" + g.ring("publisher"), "cache_size=20G"}
			var path string
			if c.make != "" {
				path = d.pack(t, g, c.file, c.make)
			} else {
				path = d.packOwn(t, g, "")
			}
			w.publishFile("debian", path)
			w.mount()
			config := func() string { return stdout(t, "config", "qemu", "--accel", "tcg", w.path("debian")) }
			boot := func() time.Duration { return bootToLogin(t, config()) }
			if c.name == "packed with a profile" {
				boot()
				profile := filepath.Join(t.TempDir(), "profile")
				must(t, os.WriteFile(profile, []byte(stdout(t, "profile", "export", w.path("debian/root.img"))), 0o600))
				w.publishFile("profiled", d.packOwn(t, g, profile))
				w.umount()
				w.mount()
				config = func() string { return stdout(t, "config", "qemu", "--accel", "tcg", w.path("profiled")) }
			}
			took := boot()
			t.Logf("a login prompt after %.1f s; %.1f MB fetched", took.Seconds(), float64(w.packageStats().BytesSent)/1e6)
			if c.name != "plain" {
				return
			}
			// Once the image is all here, nothing is fetched for the next boot.
			if out, err := w.run("prefetch", w.path("debian")); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w.umount()
			w.mount()
			before := w.packageStats().BytesSent
			took = boot()
			t.Logf("after a remount after %.1f s", took.Seconds())
			if more := w.packageStats().BytesSent - before; more > 1 { // the first tells whether the archive is the same
				t.Errorf("%d bytes were fetched after the remount", more)
			}
		})
	}
}

// packOwn packs the Debian by vmcastfs pack.
func (d debian) packOwn(t testing.TB, g *gnupg, profile string) (path string) {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const description = `<xvm><name>debian</name><memory>256</memory><machine>pv</machine><kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk>
		<cmdline>root=/dev/sda1 ro console=hvc0</cmdline><disk file="root.img" target="sda1"/></xvm>`
	key := g.run("", "--batch", "--armor", "--export-secret-keys", g.user("publisher"))
	for name, content := range map[string][]byte{"xvm.xml": []byte(description), "key.asc": key} {
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"pack", "-o", at("debian.xvm"), "--sign", at("key.asc")}
	if profile != "" {
		args = append(args, "--profile", profile)
	}
	args = append(args, at("xvm.xml"), d.dir+"/vmlinuz", d.dir+"/initrd.img", d.dir+"/root.img")
	if out, err := runProgram(t, binary, args...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return at("debian.xvm")
}

// TestDebianUnderLibvirt boots the Debian by what config libvirt prints, given to
// virsh define as it is. It is a long test.
func TestDebianUnderLibvirt(t *testing.T) {
	if os.Getenv("VMCASTFS_TEST_LONG") == "" {
		t.Skip("a long form: VMCASTFS_TEST_LONG is not set")
	}
	t.Parallel()
	d, g := findDebian(t), newGnuPG(t)
	g.key("publisher", "ed25519", "never")
	w := bareWorld(t)
	w.dir = filepath.Join(openDir(t, "vmlv", 0o755), "mnt")
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.publishFile("debian", d.pack(t, g, "root.img", `cp --reflink=auto "$image" root.img`))
	w.mount("keyring=" + g.ring("publisher"))
	l := startLibvirt(t, w.dir)
	args := []string{"config", "libvirt", "--accel", "tcg", "--overlay", openDir(t, "vmlv", 0o755), w.path("debian")}
	if out, err := command(t, "", "sh", "-c", stdout(t, append(args, "--only-overlays")...)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	define := exec.CommandContext(t.Context(), "virsh", "-q", "-c", l.uri, "define", "/dev/stdin")
	define.Stdin = strings.NewReader(stdout(t, args...))
	if out, err := define.CombinedOutput(); err != nil {
		t.Fatalf("define: %v: %s", err, out)
	}
	if out, err := l.virsh("start", "debian"); err != nil {
		t.Fatalf("start: %v: %s", err, out)
	}
	defer func() {
		_, _ = l.virsh("destroy", "debian")
		_, _ = l.virsh("undefine", "debian")
	}()
	tty, err := l.virsh("ttyconsole", "debian")
	if err != nil {
		t.Fatalf("ttyconsole: %v: %s", err, tty)
	}
	bootToLogin(t, "exec cat "+strings.TrimSpace(tty))
}
