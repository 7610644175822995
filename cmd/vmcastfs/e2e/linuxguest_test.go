package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// The Linux guest is Debian's cloud kernel from its package, an initramfs of
// busybox and the virtio modules, and an ext4 root made without mounting
// anything. It mounts the first virtio disk read-only as its root, checks the
// SHA-256 sums of the files on it from inside and switches itself off. It says
// guestOK on the serial console only if every file has the right content.

// What the guest prints on its console.
const (
	guestOK  = "GUEST: every file is as published"
	guestBad = "GUEST: a file differs"
)

// linuxGuest is what QEMU needs to boot.
type linuxGuest struct {
	kernel, initrd string // paths
	root           string // path of the ext4 image
	append         string // kernel command line
}

// guestModules in the order in which they must be loaded.
var guestModules = []string{
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko", "drivers/block/xen-blkfront.ko",
}

const initramfsInit = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
root=/dev/vda
for word in $(/bin/busybox cat /proc/cmdline); do case $word in root=*) root=${word#root=};; esac; done
/bin/busybox umount /proc
for m in /modules/*.ko; do /bin/busybox insmod $m; done
n=0
while [ ! -b $root ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n+1)); done
/bin/busybox mount -t ext4 -o ro $root /root && exec /bin/busybox switch_root /root /sbin/init
echo "GUEST: no root"
/bin/busybox poweroff -f
`

// rootInit also does what its command line asks for. "write" writes a file to the
// root. "watch" reads each further disk that comes, until that succeeds.
const rootInit = `#!/bin/busybox sh
cd /
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
if /bin/busybox sha256sum -c -s /sums; then echo "` + guestOK + `"; else echo "` + guestBad + `"; fi
case " $(/bin/busybox cat /proc/cmdline) " in
*" write "*)
	/bin/busybox mount -o remount,rw / && echo ` + guestWrote + ` >/written && /bin/busybox umount -r / && /bin/busybox sync && echo "GUEST: written"
	;;
*" watch "*)
	seen=
	while :; do for d in /dev/xvd[b-z]; do
		[ -b $d ] || continue
		case $seen in *$d*) continue;; esac
		if sum=$(/bin/busybox sha256sum $d 2>/dev/null) && [ -n "$sum" ]; then echo "GUEST: $sum"; seen="$seen $d"; else echo "GUEST: error of $d"; fi
	done; /bin/busybox sleep 1; done
	;;
esac
/bin/busybox poweroff -f
`

// guestWrote is what a guest writes into the file /written.
const guestWrote = "written-by-the-guest-itself"

// buildGuest makes the guest in dir from the kernel package deb. The root image is
// rootMiB large; a quarter of it is files the guest reads and checks.
func buildGuest(ctx context.Context, dir, deb string, rootMiB int) (*linuxGuest, error) {
	run := func(name string, args ...string) error {
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
		}
		return nil
	}
	pkg, err := unpackKernel(ctx, deb)
	if err != nil {
		return nil, err
	}
	kernels, _ := filepath.Glob(filepath.Join(pkg, "boot/vmlinuz-*"))
	if len(kernels) != 1 {
		return nil, fmt.Errorf("%s holds %d kernels, not one", deb, len(kernels))
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	g := &linuxGuest{
		kernel: filepath.Join(dir, "vmlinuz"),
		initrd: filepath.Join(dir, "initrd"),
		root:   filepath.Join(dir, "root.img"),
		append: "console=ttyS0 panic=-1 quiet no_timer_check", // a busy machine may not give QEMU the time that the check needs
	}

	if err := os.Link(kernels[0], g.kernel); err != nil {
		return nil, err
	}
	early := filepath.Join(dir, "early")
	files := map[string]string{"init": initramfsInit}
	if err := guestTree(early, busybox, files, "dev", "proc", "root", "modules"); err != nil {
		return nil, err
	}
	for i, m := range guestModules {
		from, _ := filepath.Glob(filepath.Join(pkg, "lib/modules/*/kernel", m))
		if len(from) != 1 {
			return nil, fmt.Errorf("%s has no module %s", deb, m)
		}
		to := filepath.Join(early, "modules", fmt.Sprintf("%d-%s", i, filepath.Base(m)))
		content, err := os.ReadFile(from[0])
		if err = errors.Join(err, os.WriteFile(to, content, 0o644)); err != nil {
			return nil, err
		}
	}
	if err := run("sh", "-c", `cd "$1" && find . | cpio -o -H newc --quiet > "$2"`, "sh", early, g.initrd); err != nil {
		return nil, err
	}

	root := filepath.Join(dir, "root")
	files = map[string]string{"sbin/init": rootInit}
	if err := guestTree(root, busybox, files, "sbin", "dev", "proc", "data"); err != nil {
		return nil, err
	}
	if err := fillRoot(root, rootMiB<<20/4); err != nil {
		return nil, err
	}
	if err := run("mke2fs", "-q", "-t", "ext4", "-d", root, g.root, fmt.Sprintf("%dM", rootMiB)); err != nil {
		return nil, err
	}
	return g, nil
}

var kernelTree struct {
	sync.Mutex
	dir string // "": not yet made
}

// unpackKernel unpacks the kernel package once for all tests; nobody may change it.
func unpackKernel(ctx context.Context, deb string) (dir string, err error) {
	kernelTree.Lock()
	defer kernelTree.Unlock()
	if kernelTree.dir != "" {
		return kernelTree.dir, nil
	}
	if dir, err = os.MkdirTemp("", "kernel"); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", deb, err, out)
	}
	kernelTree.dir = dir
	return dir, nil
}

// guestTree makes dirs and executable files under root, and bin/busybox with bin/sh.
func guestTree(root, busybox string, files map[string]string, dirs ...string) error {
	for _, d := range append(dirs, "bin") {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	bin, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	files["bin/busybox"] = string(bin)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("busybox", filepath.Join(root, "bin/sh"))
}

// fillRoot writes files of together size bytes into root/data and their sums
// into root/sums.
func fillRoot(root string, size int) error {
	rng := rand.NewChaCha8([32]byte{'g', 'u', 'e', 's', 't'})
	var sums bytes.Buffer
	const files = 16
	for i := range files {
		content := make([]byte, size/files)
		if _, err := rng.Read(content); err != nil {
			return err
		}
		name := fmt.Sprintf("data/%02d", i)
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), name)
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "sums"), sums.Bytes(), 0o644)
}

// boot runs the guest with its root disk given by drive (QEMU's -drive value
// without if=) and returns what it wrote to the console.
func (g *linuxGuest) boot(ctx context.Context, drive string) (string, error) {
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "256",
		"-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
		"-kernel", g.kernel, "-initrd", g.initrd, "-append", g.append,
		"-drive", drive+",if=virtio").CombinedOutput()
	return string(out), err
}

// kernelPackage is the path of Debian's cloud kernel package, which .ci/test
// downloads and names in VMCASTFS_TEST_KERNEL.
func kernelPackage(t testing.TB) string {
	t.Helper()
	path := os.Getenv("VMCASTFS_TEST_KERNEL")
	if found, _ := filepath.Glob("../../../.ci/.cache/linux-image-*.deb"); path == "" && len(found) > 0 {
		path, _ = filepath.Abs(found[0])
	}
	if path == "" {
		testkit.Missing(t, "a kernel package (bash .ci/test downloads it)")
	}
	return path
}

// TestGuestKnowsRightFromWrong boots the guest from local files, one of them wrong: a
// guest that could not fail would prove nothing about a mount. TestLinuxBoots has it boot
// from what is right.
func TestGuestKnowsRightFromWrong(t *testing.T) {
	t.Parallel()
	deb := kernelPackage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	g, err := buildGuest(ctx, t.TempDir(), deb, 16)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(g.root)
	if err != nil {
		t.Fatal(err)
	}
	// Flip a bit in the middle of one of the files.
	content, err := os.ReadFile(strings.TrimSuffix(g.root, ".img") + "/data/07")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(disk), string(content[:4096]))
	if at < 0 {
		t.Fatal("the file is not in the image in one piece")
	}
	disk[at+100] ^= 4
	if err := os.WriteFile(g.root, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := g.boot(ctx, "format=raw,readonly=on,file="+g.root)
	if err != nil || !strings.Contains(out, guestBad) {
		t.Fatalf("flipped bit: %v\n%s", err, out)
	}
}
