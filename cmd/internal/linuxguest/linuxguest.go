// Package linuxguest makes a real Linux guest for the end-to-end tests:
// Debian's cloud kernel from its package, an initramfs with busybox and the
// virtio modules, and an ext4 root made without mounting anything.
//
// The guest mounts the first virtio disk read-only as its root, checks the
// SHA-256 sums of the files on it from inside and switches itself off. It says
// [OKLine] on the serial console only if every file had the right content.
package linuxguest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
)

// What the guest prints on its console.
const (
	OKLine  = "GUEST: every file is as published"
	BadLine = "GUEST: a file differs"
)

// Guest is what QEMU needs to boot.
type Guest struct {
	Kernel, Initrd string // paths
	Root           string // path of the ext4 image
	Append         string // kernel command line
}

// modules in the order in which they must be loaded.
var modules = []string{
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko",
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

const rootInit = `#!/bin/busybox sh
cd /
if /bin/busybox sha256sum -c -s /sums; then echo "` + OKLine + `"; else echo "` + BadLine + `"; fi
/bin/busybox poweroff -f
`

// Build makes the guest in dir from the kernel package deb. The root image is
// rootMiB large; a quarter of it is files the guest reads and checks.
func Build(ctx context.Context, dir, deb string, rootMiB int) (*Guest, error) {
	run := func(name string, args ...string) error {
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
		}
		return nil
	}
	pkg := filepath.Join(dir, "kernel")
	if err := run("dpkg-deb", "-x", deb, pkg); err != nil {
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
	g := &Guest{
		Kernel: kernels[0],
		Initrd: filepath.Join(dir, "initrd"),
		Root:   filepath.Join(dir, "root.img"),
		Append: "console=ttyS0 panic=-1 quiet",
	}

	early := filepath.Join(dir, "early")
	files := map[string]string{"init": initramfsInit}
	if err := tree(early, busybox, files, "dev", "proc", "root", "modules"); err != nil {
		return nil, err
	}
	for i, m := range modules {
		from, _ := filepath.Glob(filepath.Join(pkg, "lib/modules/*/kernel", m))
		if len(from) != 1 {
			return nil, fmt.Errorf("%s has no module %s", deb, m)
		}
		to := filepath.Join(early, "modules", fmt.Sprintf("%d-%s", i, filepath.Base(m)))
		if err := os.Rename(from[0], to); err != nil {
			return nil, err
		}
	}
	if err := run("sh", "-c", `cd "$1" && find . | cpio -o -H newc --quiet > "$2"`, "sh", early, g.Initrd); err != nil {
		return nil, err
	}

	root := filepath.Join(dir, "root")
	files = map[string]string{"sbin/init": rootInit}
	if err := tree(root, busybox, files, "sbin", "dev", "data"); err != nil {
		return nil, err
	}
	if err := fillRoot(root, rootMiB<<20/4); err != nil {
		return nil, err
	}
	if err := run("mke2fs", "-q", "-t", "ext4", "-d", root, g.Root, fmt.Sprintf("%dM", rootMiB)); err != nil {
		return nil, err
	}
	return g, nil
}

// tree makes dirs and executable files under root, and bin/busybox with bin/sh.
func tree(root, busybox string, files map[string]string, dirs ...string) error {
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

// Boot runs the guest with its root disk given by drive (QEMU's -drive value
// without if=) and returns what it wrote to the console.
func (g *Guest) Boot(ctx context.Context, drive string) (string, error) {
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "256",
		"-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
		"-kernel", g.Kernel, "-initrd", g.Initrd, "-append", g.Append,
		"-drive", drive+",if=virtio").CombinedOutput()
	return string(out), err
}
