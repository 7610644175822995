package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
)

// What is left of the cache when the power fails: what the file system had
// written down, and no more.

// disk is a file system on a loop device, which can be broken.
type disk struct {
	t            *testing.T
	kind, device string
	root         string
	dir          string // for a cache
}

// newDisk makes a file system of 64 MiB (XFS wants 300) and mounts it.
func newDisk(t *testing.T, kind string, mkfs ...string) *disk {
	t.Helper()
	image := filepath.Join(t.TempDir(), kind)
	size := int64(64 << 20)
	if kind == "xfs" {
		size = 320 << 20
	}
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	if out, err := exec.Command(testkit.Need(t, "mkfs."+kind), append(mkfs, "-q", image)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
	out, err := exec.Command(testkit.Need(t, "losetup"), "-f", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("losetup: %v\n%s", err, out)
	}
	d := &disk{t: t, kind: kind, device: strings.TrimSpace(string(out)), root: t.TempDir()}
	t.Cleanup(func() {
		_ = unix.Unmount(d.root, unix.MNT_DETACH)
		_ = exec.Command("losetup", "-d", d.device).Run()
	})
	if err := unix.Mount(d.device, d.root, kind, 0, ""); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	d.dir = filepath.Join(d.root, "cache")
	must(t, os.Mkdir(d.dir, 0o700))
	return d
}

// cutPower makes a file system forget what it has not written yet, its log
// included; from then on everything fails with EIO (EXT4_IOC_SHUTDOWN,
// XFS_IOC_GOINGDOWN).
func cutPower(t *testing.T, dir string) {
	t.Helper()
	const shutdown, noLogFlush = 0x8004587d, 2
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Skipf("shut down the file system: %v", errno)
	}
}

// restart mounts the disk again after its power was cut. As long as a mount
// namespace that another test has just made has a copy of the mount, that is the
// dead file system still.
func (d *disk) restart() {
	d.t.Helper()
	testkit.Eventually(d.t, "the file system is mounted again", time.Minute, func() bool {
		if err := unix.Unmount(d.root, 0); err != nil && err != unix.EINVAL { // not mounted
			return false
		}
		if err := unix.Mount(d.device, d.root, d.kind, 0, ""); err != nil {
			return false
		}
		probe := filepath.Join(d.root, "probe")
		return os.WriteFile(probe, nil, 0o600) == nil && os.Remove(probe) == nil
	})
}

// journaled is how many blocks the journals of a cache in use tell of.
func journaled(t *testing.T, dir string) (blocks int64) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	infos, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		blocks += i.Blocks
	}
	return blocks
}

// TestL4PowerLoss cuts the power of the cache's disk while guests read. What was
// journaled half a second before is there afterwards, whole; no byte is wrong;
// and the mount is there again at once.
func TestL4PowerLoss(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for loop devices")
	}
	together(t, map[string]string{"ext4": "ext4", "xfs": "xfs"}, func(t *testing.T, kind string) {
		w := bareWorld(t)
		published := noise(24<<20, 64)
		w.publish("one", packListed(t, member{"disk.img", published}))
		d := newDisk(t, kind)
		w.cache = d.dir
		w.opts = []string{"state=" + t.TempDir()}
		w.origin.SetBandwidth(6 << 20)
		rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 7))
		kept := int64(0)
		var mounts []time.Duration
		for round := range 3 {
			began := w.now()
			w.mount()
			mounts = append(mounts, w.now()-began)
			var readers sync.WaitGroup
			dark := make(chan struct{})
			for range 3 {
				readers.Go(func() {
					f, err := os.Open(w.path("one", "disk.img"))
					if err != nil {
						t.Error(err)
						return
					}
					defer f.Close()
					p := make([]byte, 32<<10)
					for {
						select {
						case <-dark:
							return
						default:
						}
						off := rand.Int64N(int64(len(published) - len(p)))
						if n, err := f.ReadAt(p, off); n == len(p) && !bytes.Equal(p, published[off:off+int64(n)]) {
							t.Errorf("round %d: wrong bytes at %d", round, off)
						} else if n < len(p) {
							select {
							case <-dark: // the daemon was killed
							default:
								t.Errorf("round %d: read at %d: %v", round, off, err)
							}
							return
						}
					}
				})
			}
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
			before := journaled(t, w.cache)
			time.Sleep(500*time.Millisecond + time.Duration(rng.IntN(300))*time.Millisecond)
			cutPower(t, w.cache)
			if round%2 == 0 { // a while without a disk, before all is dark
				time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			}
			close(dark)
			w.kill()
			readers.Wait()
			d.restart()
			after := cached(t, w.cache) // and none of it damaged
			if after < before || after < kept {
				t.Errorf("round %d: %d blocks are left, %d were journaled before, %d after the last round", round, after, before, kept)
			}
			kept = after
		}
		t.Logf("%d blocks are kept; mounting took %v", kept, mounts)
		if slices.Min(mounts[1:]) > 10*mounts[0] {
			t.Errorf("mounting after a power cut took %v, before it %s", mounts[1:], mounts[0])
		}
		if kept < 32 {
			t.Errorf("only %d blocks were kept", kept)
		}
		w.origin.SetBandwidth(0)
		w.mount()
		w.wantFile(published, "one", "disk.img")
		w.umount()
	})
}
