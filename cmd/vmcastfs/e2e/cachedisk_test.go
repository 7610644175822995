package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vmcastfs/internal/testkit"
)

// What a guest sees of a cache disk that does not keep what it is given.

// TestL3StrictSmallCache reads, under verify=strict, an image that is larger than
// the cache: it is checked as a whole, and then served all the same.
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
		testkit.Eventually(t, "verified", 20*time.Second, func() bool { return attr(w.path("one", "disk.img"), "state") == "verified" })
		f.Close()
		f = w.open("one", "disk.img")
		w.wantAt(f, disk, 0)
		cutPower(t, w.cache)
		const off = 1 << 20
		if option == "passthrough=off" {
			w.wantAt(f, disk, off)
		} else if compareAt(f, disk, off) == nil {
			t.Skip("the kernel does not read by passthrough here")
		}
		f.Close()
		testkit.Eventually(t, "who opens it anew reads it", 10*time.Second, func() bool {
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
