package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// bootDisk boots QEMU from a -drive value and returns what it said.
func bootDisk(t testing.TB, drive string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testkit.Need(t, "qemu-system-x86_64"), "-accel", "tcg", "-m", "16",
		"-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-drive", drive+",if=virtio").CombinedOutput()
	return string(out), err
}

// TestQEMUBoots boots the disk from its path with every combination of cache
// and aio that QEMU allows.
func TestQEMUBoots(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	w := newWorld(t, appliance.Options{DiskSize: 16 << 20, Chunks: 4})
	w.mount("complete=off")
	disk := w.path("latest", appliance.DiskName)

	var drives []string
	for _, how := range []string{"readonly=on", "snapshot=on"} {
		for _, cache := range []string{"none", "writeback", "writethrough", "directsync", "unsafe"} {
			for _, aio := range []string{"threads", "native", "io_uring"} {
				if aio == "native" && cache != "none" && cache != "directsync" {
					continue // QEMU wants O_DIRECT for it
				}
				drives = append(drives, fmt.Sprintf("file=%s,format=raw,%s,cache=%s,aio=%s", disk, how, cache, aio))
			}
		}
	}
	boot := make(chan string)
	var boots sync.WaitGroup
	for range 2 { // two at once on one image
		boots.Go(func() {
			for drive := range boot {
				out, err := bootDisk(t, drive)
				if strings.Contains(drive, "aio=io_uring") && (strings.Contains(out, "io_uring") || strings.Contains(out, "invalid aio")) {
					continue // not built in, or the kernel forbids it
				}
				if err != nil || !strings.Contains(out, appliance.BootedLine) {
					t.Errorf("%s: %v\n%s", drive, err, out)
				}
			}
		})
	}
	for _, drive := range drives {
		boot <- drive
	}
	close(boot)
	boots.Wait()
	if st := w.packageStats(); st.BytesSent > int64(len(w.app.Disk))/4 {
		t.Errorf("%d bytes of a disk of %d were fetched for booting", st.BytesSent, len(w.app.Disk))
	}
}

// TestQEMUImg has QEMU's tools look at images in the mount.
func TestQEMUImg(t *testing.T) {
	t.Parallel()
	img := testkit.Need(t, "qemu-img")
	raw := make([]byte, 4<<20)
	copy(raw[1<<20:], noise(300_000, 1))
	copy(raw[3<<20:], noise(65536, 2))
	dir := t.TempDir()
	plain, qcow := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(plain, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, dir, img, "convert", "-O", "qcow2", plain, qcow); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := command(t, dir, "cp", "--sparse=always", "disk.img", "holes.img"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := command(t, dir, "tar", "--format=posix", "-S", "-cf", "x.xvm", "disk.img", "holes.img", "disk.qcow2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w := bareWorld(t)
	w.publish("one", readAll(t, filepath.Join(dir, "x.xvm")))
	w.mount()
	at := func(name string) string { return w.path("one", name) }

	for _, args := range [][]string{
		{"info", at("disk.qcow2")},
		{"info", "-f", "raw", at("disk.img")},
		{"compare", "-f", "raw", "-F", "raw", at("disk.img"), plain},
		{"compare", "-f", "raw", "-F", "raw", at("holes.img"), plain},
		{"compare", "-f", "qcow2", "-F", "raw", at("disk.qcow2"), plain},
		{"compare", "-T", "none", "-f", "raw", "-F", "raw", at("disk.img"), plain},
		{"check", at("disk.qcow2")},
		{"convert", "-f", "raw", "-O", "raw", at("holes.img"), filepath.Join(dir, "out.img")},
		{"convert", "-t", "none", "-T", "none", "-f", "qcow2", "-O", "raw", at("disk.qcow2"), filepath.Join(dir, "out2.img")},
	} {
		if out, err := command(t, dir, img, args...); err != nil {
			t.Errorf("qemu-img %v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"out.img", "out2.img"} {
		if !bytes.Equal(readAll(t, filepath.Join(dir, name)), raw) {
			t.Errorf("%s differs", name)
		}
	}
	// The holes of a sparse member are holes to QEMU.
	out, err := command(t, dir, img, "map", "--output=json", "-f", "raw", at("holes.img"))
	var extents []struct {
		Start, Length int64
		Data          bool
	}
	if err != nil || json.Unmarshal([]byte(out), &extents) != nil {
		t.Fatalf("qemu-img map: %v\n%s", err, out)
	}
	holes, covered := int64(0), int64(0)
	for _, e := range extents {
		covered += e.Length
		if !e.Data {
			holes += e.Length
		}
	}
	if covered != int64(len(raw)) || holes < 3<<20 {
		t.Errorf("of %d bytes %d are holes:\n%s", covered, holes, out)
	}

	// An overlay on a read-only image in the mount.
	overlay := filepath.Join(dir, "overlay.qcow2")
	if out, err := command(t, dir, img, "create", "-f", "qcow2", "-b", at("disk.qcow2"), "-F", "qcow2", overlay); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := command(t, dir, img, "compare", "-f", "qcow2", "-F", "raw", overlay, plain); err != nil {
		t.Errorf("overlay: %v\n%s", err, out)
	}
}

// TestQEMULocks: QEMU locks an image that it has open, as on any file system;
// other readers are let in, a writer is not, and the locks end with QEMU.
func TestQEMULocks(t *testing.T) {
	t.Parallel()
	qemu := testkit.Need(t, "qemu-system-x86_64")
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	disk := w.path("latest", appliance.DiskName)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-S",
		"-drive", "file="+disk+",format=raw,readonly=on,if=virtio,file.locking=on")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	inode := func() string {
		out, err := command(t, "/", "stat", "-c", "%i", disk)
		if err != nil {
			t.Fatal(err, out)
		}
		return ":" + strings.TrimSpace(out) + " "
	}()
	locked := func() bool { return bytes.Contains(readAll(t, "/proc/locks"), []byte(inode)) }
	testkit.Eventually(t, "QEMU has locked the image", time.Minute, func() bool {
		select {
		case <-ended:
			t.Fatalf("QEMU ended: %s", stderr.String())
		default:
		}
		return locked()
	})
	if out, err := command(t, "/", "qemu-img", "info", "-f", "raw", disk); err != nil {
		t.Errorf("qemu-img info beside a running machine: %v\n%s", err, out)
	}
	if out, err := bootDisk(t, "file="+disk+",format=raw,readonly=on,file.locking=on"); err != nil || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("a second machine: %v\n%s", err, out)
	}
	if out, err := command(t, "/", "lslocks", "-n", "-o", "INODE,TYPE,MODE"); err != nil || !strings.Contains(out, strings.Trim(inode, ": ")) {
		t.Logf("lslocks shows: %v\n%s", err, out)
	}
	cancel()
	<-ended
	testkit.Eventually(t, "the locks are gone", time.Minute, func() bool { return !locked() })
}

// TestMmapReader reads an image by mapping it.
func TestMmapReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	const script = `import mmap,sys,hashlib
f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,mmap.MAP_SHARED,mmap.PROT_READ); f.close()
assert m[5000000:5000100]==open(sys.argv[1],'rb').read()[5000000:5000100]
print(hashlib.sha256(m).hexdigest())`
	out, err := command(t, "/", "python3", "-c", script, w.path("latest", appliance.DiskName))
	if err != nil || strings.TrimSpace(out) != hexSHA256(w.app.Disk) {
		t.Errorf("%v\n%s", err, out)
	}
}
