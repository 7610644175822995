package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// publishMany publishes a package as n releases, r0, r1, ….
func (w *world) publishMany(n int, archive []byte) {
	w.app.Packages = make(map[string][]byte)
	for i := range n {
		path := fmt.Sprintf("/r%d.xvm", i)
		w.items = append(w.items, item{fmt.Sprint("r", i), path[1:]})
		w.app.Packages[path] = archive
		w.origin.PutBytes(path, archive)
	}
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
}

// residentNow is what the daemon takes of memory, in KiB.
func (w *world) residentNow() (kib int) {
	w.t.Helper()
	for _, pid := range w.daemons() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			w.t.Fatal(err)
		}
		_, after, _ := bytes.Cut(raw, []byte("VmRSS:"))
		n := 0
		if _, err := fmt.Sscan(string(after), &n); err != nil {
			w.t.Fatal(err)
		}
		kib += n
	}
	return kib
}

// restsAt waits until the daemon takes at most so many MiB of memory, having been left
// alone.
func (w *world) restsAt(what string, mib int) {
	w.t.Helper()
	least := 1 << 30
	testkit.Eventually(w.t, fmt.Sprintf("%s take at most %d MiB", what, mib), time.Minute, func() bool {
		if now := w.residentNow(); now < least {
			least = now
			w.t.Logf("%s: %d MiB", what, now>>10)
		}
		time.Sleep(100 * time.Millisecond)
		return least <= mib<<10
	})
}

// many is n, or what the environment asks for, as the long form.
func many(n int) int {
	if k, err := strconv.Atoi(os.Getenv("VMCASTFS_TEST_MANY")); err == nil {
		return k
	}
	return n
}

// TestManyOpenImages: 1,000 images of packages with block lists are open at once, and
// have been read from. At no moment the daemon takes more than 96 MiB.
func TestManyOpenImages(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.plain = fastBinary(t)
	disk := noise(3<<20, 5)
	n := many(1000)
	w.publishMany(n, packBinary(t, disk))
	w.mount("complete=off")
	w.restsAt("none", 48)
	p := aligned(4096)
	files := make([]*os.File, n)
	for i := range files {
		files[i] = w.open(fmt.Sprint("r", i), "root.img")
		if _, err := files[i].ReadAt(p, 1<<20); err != nil || !bytes.Equal(p, disk[1<<20:][:len(p)]) {
			t.Fatal(i, err)
		}
	}
	t.Logf("%d MiB right after they were opened", w.residentNow()>>10)
	for i, f := range files {
		if _, err := f.ReadAt(p, 2<<20); err != nil || !bytes.Equal(p, disk[2<<20:][:len(p)]) {
			t.Fatal(i, err)
		}
	}
	t.Logf("%d MiB right after they were read again", w.residentNow()>>10)
	for _, pid := range w.daemons() {
		peak := residentKiB(t, pid) >> 10
		if t.Logf("at most it took %d MiB", peak); peak > 96 {
			t.Error("that is too much")
		}
	}
	w.restsAt("1,000 open images", 84)
	for i, f := range files {
		if _, err := f.ReadAt(p, 2<<20); err != nil || !bytes.Equal(p, disk[2<<20:][:len(p)]) {
			t.Fatal(i, err)
		}
	}
}

// TestManyTouchedReleases: releases that were listed and opened, and are not used any more,
// take little memory, also in a new process, which has kept them all. The long form has
// VMCASTFS_TEST_MANY=10000, and 64 MiB from Linux 6.18 on: an older kernel keeps the directories.
func TestManyTouchedReleases(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.plain = fastBinary(t)
	n := many(1000)
	w.publishMany(n, packListed(t, member{"xvm.xml", []byte("<appliance/>")}, member{"disk.img", noise(70<<10, 3)}, member{"notes.txt", noise(9000, 3)}))
	w.mount("complete=off", "memory=0")
	w.restsAt("none", 48+n*12/10000)
	p := aligned(4096)
	for i := range n {
		if all, err := os.ReadDir(w.path(fmt.Sprint("r", i))); err != nil || len(all) != 4 {
			t.Fatal(i, err, all)
		}
		f := w.open(fmt.Sprint("r", i), "disk.img")
		if _, err := io.ReadFull(f, p); err != nil {
			t.Fatal(i, err)
		}
		f.Close()
	}
	w.restsAt("touched", 42+n*22/10000)
	w.umount()
	w.mount("complete=off", "memory=0")
	w.restsAt("kept", 48+n*12/10000)
}
