package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

// What the cache's disk may do to a mount: be small, full, broken, shared, or
// gone. None of it may change a byte that is read, or fail a read.

// readLoad reads an image at random places from several goroutines until stop
// is closed, and at least once in order; it reports what was wrong.
func readLoad(path string, published []byte, readers int, stop <-chan struct{}) error {
	errs := make(chan error, readers)
	for i := range readers {
		go func() {
			f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
			if err != nil {
				errs <- err
				return
			}
			defer f.Close()
			const step = 64 << 10
			p := aligned(step)
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for n := int64(0); ; n++ {
				off := n * step
				if off >= int64(len(published)) || i%2 == 1 {
					select {
					case <-stop:
						errs <- nil
						return
					default:
					}
					off = rng.Int64N(int64(len(published))/4096) * 4096
				}
				got, err := f.ReadAt(p[:min(step, len(p))], off)
				want := published[off:min(off+step, int64(len(published)))]
				if got < len(want) {
					errs <- fmt.Errorf("read at %d: %d bytes, %w", off, got, err)
					return
				}
				if !bytes.Equal(p[:got], want) {
					errs <- fmt.Errorf("read at %d: wrong bytes", off)
					return
				}
			}
		}()
	}
	var first error
	for range readers {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}

// diskUse is what all files of a directory take.
func diskUse(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && !d.IsDir() && unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// watchUse calls use until stop and remembers the most.
func watchUse(use func() int64, stop <-chan struct{}) (most func() int64) {
	var max int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if n := use(); n > max {
				max = n
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() int64 { <-done; return max }
}

// TestCacheLimit reads four times as much as the cache may hold from images
// that stay open, by two processes.
func TestCacheLimit(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	w := bareWorld(t)
	disks := map[string][]byte{"one": noise(2*limit, 50), "two": noise(2*limit, 51)}
	for name, disk := range disks {
		w.publish(name, packListed(t, member{"disk.img", disk}))
	}
	w.mount("cache_size=8M")
	second := *w
	second.dir = t.TempDir()
	second.mount("cache_size=8M", "complete=off")

	stop := make(chan struct{})
	most := watchUse(func() int64 { return diskUse(w.cache) }, stop)
	var wg sync.WaitGroup
	for _, m := range []*world{w, &second} {
		for name, disk := range disks {
			wg.Go(func() {
				if err := readLoad(m.path(name, "disk.img"), disk, 2, stop); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	time.Sleep(6 * time.Second)
	close(stop)
	wg.Wait()
	t.Logf("at most %d KiB of %d KiB", most()>>10, limit>>10)
	// While one process fills what is left, the other may have a lease of an eighth.
	if n := most(); n > limit+limit/8 || n < limit/2 {
		t.Errorf("the cache took up to %d bytes, the limit is %d", n, limit)
	}
	if st := w.status(); st.Cache.Limit != limit {
		t.Errorf("status: %+v", st.Cache)
	}
}

// TestL3CacheFloor keeps space free on the cache's file system.
func TestL3CacheFloor(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.cache = tmpfs(t, "32m")
	disk := noise(24<<20, 52)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("cache_free=24M")
	free := func() int64 {
		var st unix.Statfs_t
		_ = unix.Statfs(w.cache, &st)
		return -int64(st.Bavail) * st.Bsize
	}
	stop := make(chan struct{})
	least := watchUse(func() int64 { return free() + 1<<40 }, stop)
	time.AfterFunc(2*time.Second, func() { close(stop) })
	if err := readLoad(w.path("one", "disk.img"), disk, 2, stop); err != nil {
		t.Error(err)
	}
	if n := 1<<40 - least(); n < 23<<20 {
		t.Errorf("only %d bytes were left free of 24 MiB", n)
	} else {
		t.Logf("at least %d KiB were left free", n>>10)
	}
}

// TestL3FullDisk has a cache disk that is too small, and then one that is full
// to the last byte when another image is opened.
func TestL3FullDisk(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.cache = tmpfs(t, "4m")
	disk := noise(12<<20, 53)
	packed := lines(6<<20, 3)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.publish("two", packListed(t, member{"disk.img", disk[4096:]}, member{"plain.img.gz", filter(t, packed, "gzip", "-1")}))
	small := noise(1<<20, 58)
	w.publish("three", packListed(t, member{"disk.img", small}))
	w.mount("memory=0") // what memory has is not fetched again, nor then cached
	w.wantFile(disk, "one", "disk.img")
	f := w.open("one", "disk.img")
	filler, err := os.Create(filepath.Join(w.cache, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := filler.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	filler.Close()
	w.wantFile(disk[4096:], "two", "disk.img")
	g := w.open("two", "disk.img")
	w.wantFile(packed, "two", "plain.img")
	w.wantFile(disk, "one", "disk.img")
	testkit.Eventually(t, "the status tells that the disk is full", time.Minute, func() bool { // blocks are served before they are written
		st := w.status().Cache
		return st.Full > 0 && !st.Failing && strings.Contains(st.FullWhy, "no space left")
	})
	if n := attr(w.path("two", "disk.img"), "cached_bytes"); n != "0" {
		t.Errorf("%s bytes are cached where there is no place for any", n)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	// With room again it caches again, without anyone telling it.
	must(t, unix.Mount("", w.cache, "", unix.MS_REMOUNT, "size=16m"))
	testkit.Eventually(t, "an image is cached", time.Minute, func() bool {
		w.wantFile(small, "three", "disk.img")
		return attr(w.path("three", "disk.img"), "cached_bytes") == fmt.Sprint(len(small))
	})
	testkit.Eventually(t, "an image that has been open all the time is cached", time.Minute, func() bool {
		w.wantAt(g, disk[4096:], 0)
		return attr(w.path("two", "disk.img"), "cached_bytes") != "0"
	})
	testkit.Eventually(t, "the status tells that it is over", time.Minute, func() bool { // it looks at the disk after it was asked
		st := w.status().Cache
		return !st.Refusing && st.FullAt != nil
	})
	w.wantFile(disk[4096:], "two", "disk.img")
	g.Close()
	f.Close()
	w.umount()
	w.mount()
	w.wantFile(disk, "one", "disk.img")
	w.wantFile(disk[4096:], "two", "disk.img")
}

// TestL3BrokenDisk has the cache's disk fail with EIO, or become read-only,
// under a mount.
func TestL3BrokenDisk(t *testing.T) {
	t.Parallel()
	together(t, map[string]func(t *testing.T, dir, device string){
		"EIO": func(t *testing.T, dir, _ string) {
			cutPower(t, dir)
		},
		"EROFS": func(t *testing.T, _, device string) {
			path := "/sys/fs/ext4/" + filepath.Base(device) + "/trigger_fs_error"
			if err := os.WriteFile(path, []byte("1"), 0); err != nil {
				t.Skip(err)
			}
		},
	}, func(t *testing.T, fail func(t *testing.T, dir, device string)) {
		w := bareWorld(t)
		d := newDisk(t, "ext4", "-e", "remount-ro")
		w.cache = d.dir
		disk := noise(8<<20, 54)
		for i, name := range []string{"one", "two"} {
			w.publish(name, packListed(t, member{"disk.img", disk[i*4096:]}))
		}
		w.mount("complete=off")
		f := w.open("one", "disk.img")
		for off := int64(0); off < 4<<20; off += 256 << 10 {
			w.wantAt(f, disk, off)
		}
		fail(t, w.cache, d.device)
		for off := int64(0); off < int64(len(disk)); off += 256 << 10 {
			w.wantAt(f, disk, off)
		}
		w.wantFile(disk[4096:], "two", "disk.img") // opened after the failure
		w.wantFile(disk, "one", "disk.img")
		w.atOnce("one", "disk.img")
		testkit.Eventually(t, "the status tells", time.Minute, func() bool { return w.status().Cache.Full > 0 })
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tmpfs is a file system of a few megabytes in memory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestDocumentsAreInTheLimit: what the cache keeps beside blocks counts too. Many
// releases whose packages hold many small files do not fill the disk, nor do they
// push out an image.
func TestDocumentsAreInTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 12 << 20
	w := bareWorld(t)
	disk := noise(2<<20, 81)
	w.publish("image", packListed(t, member{"disk.img", disk}))
	texts := make([]member, 100)
	for i := range texts {
		texts[i] = member{fmt.Sprintf("doc%d.txt", i), noise(30<<10, byte(i))}
	}
	small := pack(t, texts...)
	const releases = 12 // 3 MB each
	for i := range releases {
		w.publish(fmt.Sprint("text", i), small)
	}
	w.mount(fmt.Sprint("cache_size=", limit), "complete=off")
	w.wantFile(disk, "image", "disk.img")
	stop := make(chan struct{})
	most := watchUse(func() int64 { return diskUse(w.cache) }, stop)
	files := 0
	if err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		files++
		return err
	}); err != nil {
		t.Error(err)
	}
	for i := range releases {
		w.wantFile(texts[7].content, fmt.Sprint("text", i), texts[7].name)
	}
	close(stop)
	if n := most(); n > limit || files < releases*len(texts) {
		t.Errorf("%d bytes of %d on the disk, for %d files", n, limit, files)
	} else {
		t.Logf("at most %d KiB of %d on the disk, for %d files", n>>10, limit>>10, files)
	}
	if n := attr(w.path("image", "disk.img"), "cached_bytes"); n != fmt.Sprint(len(disk)) {
		t.Errorf("%s bytes of the image are left", n)
	}
}
