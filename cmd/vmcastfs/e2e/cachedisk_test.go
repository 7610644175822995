package e2e

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// What a guest sees of a cache disk that does not keep what it is given.

// TestL3StrictSmallCache reads, under verify=strict, an image that is larger than
// the cache: it is checked as a whole, and then served all the same.
// TestCacheDiskIsFullAtMount: a mount whose cache disk has less room than is to
// be left free says so.
func TestCacheDiskIsFullAtMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	out, err := w.run("mount", "-o", w.options("cache_free=1000T"), w.feed, w.dir)
	if err != nil || !strings.Contains(out, "nothing more is cached") || strings.Count(out, "\n") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	w.umount()
}

func TestL3StrictSmallCache(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(6<<20, 70)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("verify=strict", fmt.Sprint("cache_size=", 1<<20))
	f := w.open("one", "disk.img")
	for off := int64(0); off < int64(len(disk)); off += 1 << 20 {
		w.wantAt(f, disk, off)
	}
	if sent := w.packageStats().BytesSent; sent > 3*int64(len(disk)) {
		t.Errorf("%d bytes were fetched for an image of %d, which is checked once", sent, len(disk))
	}
	if st := w.status().Cache; st.FullWhy != "limit" || st.Failing {
		t.Errorf("the status does not tell why: %+v", st)
	}
	f.Close()
	w.wantFile(disk, "one", "disk.img")
}

// TestL3BrokenDiskUnderTheKernel: an image that the kernel reads by itself fails
// with the cache disk, as the manual says; who opens it anew is served, and so is
// everybody with passthrough=off.
func TestL3BrokenDiskUnderTheKernel(t *testing.T) {
	t.Parallel()
	together(t, map[string]string{"passthrough": "passthrough=on", "none": "passthrough=off"}, func(t *testing.T, option string) {
		w := bareWorld(t)
		w.cache = newDisk(t, "ext4").dir
		disk := noise(2<<20, 71)
		w.publish("one", packListed(t, member{"disk.img", disk}))
		w.mount(option)
		f := w.open("one", "disk.img")
		testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(w.path("one", "disk.img"), "state") == "verified" })
		f.Close()
		testkit.Eventually(t, "closed", time.Minute, func() bool { return w.status().Cache.Open == 0 })
		f, err := os.Open(w.path("one", "disk.img"))
		must(t, err)
		defer f.Close()
		must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
		w.wantAt(f, disk, 0)
		files, err := filepath.Glob(filepath.Join(w.cache, "files", "*.data"))
		must(t, err)
		for _, name := range files { // out of the kernel's memory
			data, err := os.Open(name)
			must(t, err)
			must(t, unix.Fsync(int(data.Fd())))
			must(t, unix.Fadvise(int(data.Fd()), 0, 0, unix.FADV_DONTNEED))
			data.Close()
		}
		cutPower(t, w.cache)
		const off = 1 << 20
		if option == "passthrough=off" {
			w.wantAt(f, disk, off)
		} else if compareAt(f, disk, off) == nil {
			t.Skip("the kernel does not read by passthrough here")
		}
		f.Close()
		testkit.Eventually(t, "who opens it anew reads it", time.Minute, func() bool {
			f, err := os.Open(w.path("one", "disk.img"))
			if err != nil {
				return false // the last close of the one before is still on its way
			}
			defer f.Close()
			return compareAt(f, disk, off) == nil
		})
		w.wantFile(disk, "one", "disk.img")
		if st := w.status().Cache; !st.Failing || !st.Refusing || !strings.Contains(st.FullWhy, "input/output error") {
			t.Errorf("the status does not tell: %+v", st)
		}
		out, err := w.run("status", w.dir)
		if err != nil || !strings.Contains(out, "FAILING") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestReadOnlyCacheDisk: what is cached on a disk that is read-only at mount is
// served, with the servers down too; the rest goes past the cache.
func TestReadOnlyCacheDisk(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.cache = tmpfs(t, "32m")
	disk, other := noise(2<<20, 83), noise(1<<20, 84)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.publish("two", packListed(t, member{"disk.img", other}))
	w.mount()
	w.wantFile(disk, "one", "disk.img")
	testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(w.path("one", "disk.img"), "state") == "verified" })
	if _, err := os.ReadDir(w.path("two")); err != nil {
		t.Fatal(err)
	}
	w.umount()
	must(t, unix.Mount("", w.cache, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	w.mount()
	w.wantFile(disk, "one", "disk.img")
	w.wantFile(other, "two", "disk.img")
	if state := attr(w.path("one", "disk.img"), "state"); state != "verified" {
		t.Error("it is", state)
	}
	if st := w.status().Cache; !st.ReadOnly {
		t.Errorf("%+v", st)
	}
	if out, err := w.run("status", w.dir); err != nil || !strings.Contains(out, "READ-ONLY") {
		t.Errorf("%v\n%s", err, out)
	}
	w.umount()
	w.origin.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	w.mount()
	w.wantFile(disk, "one", "disk.img")
}

// TestNobodyReadsACorruptImage: whoever reads all of an image that does not match
// its sum gets an error, the first time and every time, and so does a reader of
// what is inflated from it.
func TestNobodyReadsACorruptImage(t *testing.T) {
	t.Parallel()
	together(t, map[string]string{"complete": "complete=on", "lazy": "complete=off"}, func(t *testing.T, option string) {
		w := bareWorld(t)
		good := noise(3<<20, 85)
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		packed := filter(t, good, "gzip", "-1")
		wrong := bytes.Clone(packed)
		wrong[4] ^= 1 // the time in its head: it inflates all the same
		sums := fmt.Sprintf("%x  disk.img\n%x  data.img.gz\n", sha1.Sum(good), sha1.Sum(packed))
		w.publish("one", pack(t, member{"manifest.txt", []byte(sums)}, member{"disk.img", bad}, member{"data.img.gz", wrong}))
		w.publish("two", pack(t, member{"manifest.txt", []byte(sums)}, member{"disk.img", good}, member{"data.img.gz", packed}))
		w.mount(option)
		for _, name := range []string{"disk.img", "data.img.gz", "data.img"} {
			for range 2 {
				if p, err := os.ReadFile(w.path("one", name)); err == nil {
					t.Errorf("%s: %d bytes of a corrupt file were read to the end", name, len(p))
				}
				if state := attr(w.path("one", name), "state"); state != "corrupt" && name != "data.img" { // of which not even the size is known
					t.Errorf("%s is %s", name, state)
				}
			}
			if _, err := os.ReadFile(w.path("two", name)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if state := attr(w.path("two", name), "state"); state != "verified" {
				t.Errorf("%s, which was read to its end, is %s", name, state)
			}
		}
	})
}
