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
	"vmcastfs/cmd/internal/appliance"
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
	if st := w.status(); st.Cache.Full == 0 || st.Cache.Failing || !strings.Contains(st.Cache.FullWhy, "no space left") {
		t.Errorf("the status does not tell: %+v", st.Cache)
	}
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
		if st := w.status().Cache; st.Full == 0 {
			t.Errorf("the status does not tell: %+v", st)
		}
	})
}

// TestL5SharedCache has two processes read the same image from one cache at
// the same time: what crosses the network is about one image.
func TestL5SharedCache(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(24<<20, 55)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.origin.SetLatency(5 * time.Millisecond)
	w.origin.SetBandwidth(16 << 20)
	second := *w
	second.dir = t.TempDir()
	w.mount("complete=off")
	second.mount("complete=off")
	var wg sync.WaitGroup
	for i, m := range []*world{w, &second, w, &second} {
		wg.Go(func() {
			// Not all in the same order.
			f := m.open("one", "disk.img")
			for n := range int64(len(disk)) / (1 << 20) {
				off := (n + int64(i)*5) % (int64(len(disk)) / (1 << 20)) << 20
				p := aligned(1 << 20)
				if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:off+1<<20]) {
					t.Errorf("read at %d: wrong, %v", off, err)
				}
			}
		})
	}
	wg.Wait()
	st := w.packageStats()
	more := 100 * (float64(st.BytesSent)/float64(len(disk)) - 1)
	t.Logf("two processes took %.1f %% more than the image, in %d requests", more, st.Requests)
	if more > 10 {
		t.Errorf("%d bytes for an image of %d", st.BytesSent, len(disk))
	}
}

// TestCacheDeleted removes the cache under a running mount.
func TestCacheDeleted(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(8<<20, 56)
	packed := lines(6<<20, 4)
	for i, name := range []string{"one", "two"} {
		w.publish(name, packListed(t, member{"disk.img", disk[i*4096:]}, member{"plain.img.gz", filter(t, packed, "gzip", "-1")}))
	}
	w.mount("memory=0") // what memory has is not fetched again, nor then cached
	f := w.open("one", "disk.img")
	for off := int64(0); off < 4<<20; off += 256 << 10 {
		w.wantAt(f, disk, off)
	}
	for range 3 {
		_ = os.RemoveAll(w.cache)
	}
	for off := int64(0); off < int64(len(disk)); off += 256 << 10 {
		w.wantAt(f, disk, off)
	}
	w.wantFile(disk[4096:], "two", "disk.img")
	w.wantFile(packed, "two", "plain.img")
	w.atOnce("one", "disk.img")
	testkit.Eventually(t, "what is opened from then on is cached", time.Minute, func() bool {
		g := w.open("two", "disk.img")
		defer g.Close()
		w.wantAt(g, disk[4096:], 0)
		n := attr(w.path("two", "disk.img"), "cached_bytes")
		return n != "" && n != "0"
	})
	f.Close()
	w.umount()
	w.mount()
	w.wantFile(disk, "one", "disk.img")
}

// TestL2CacheRefused lists directories that are no place for a cache.
func TestL2CacheRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make what belongs to others")
	}
	const nobody = 65534
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string) (cache string)
		message string
	}{
		"belongs to another user": {func(t *testing.T, dir string) string {
			must(t, os.Chown(dir, nobody, nobody))
			return dir
		}, "belongs to user 65534"},
		"link made by another user": {func(t *testing.T, dir string) string {
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(dir, link))
			must(t, os.Lchown(link, nobody, nobody))
			return link
		}, "symbolic link"},
		"holds something else": {func(t *testing.T, dir string) string {
			must(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o644))
			return dir
		}, "thesis.tex"},
		"files is a link": {func(t *testing.T, dir string) string {
			must(t, os.Symlink(t.TempDir(), filepath.Join(dir, "files")))
			return dir
		}, "files"},
		"version is a link": {func(t *testing.T, dir string) string {
			must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "version")))
			return dir
		}, "version"},
		"of a later version": {func(t *testing.T, dir string) string {
			must(t, os.WriteFile(filepath.Join(dir, "version"), []byte("vmcastfs cache 9\n"), 0o600))
			return dir
		}, "unknown cache format"},
		"a file": {func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "file")
			must(t, os.WriteFile(path, nil, 0o600))
			return path
		}, "not a directory"},
		"cannot be made": {func(t *testing.T, dir string) string { return "/proc/vmcastfs" }, "/proc/vmcastfs"},
	} {
		t.Run(name, func(t *testing.T) {
			w := bareWorld(t)
			w.publish("one", packListed(t, member{"disk.img", noise(10_000, 57)}))
			w.cache = c.prepare(t, w.cache)
			out, err := w.run("mount", "-o", "cache="+w.cache+",state="+t.TempDir(), w.feed, w.dir)
			if exitCode(err) != exitSystem || !strings.Contains(out, c.message) || !strings.Contains(out, "-o cache=DIR") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	t.Run("open to others becomes private and is tagged", func(t *testing.T) {
		w := bareWorld(t)
		w.publish("one", packListed(t, member{"disk.img", noise(10_000, 57)}))
		must(t, os.Chmod(w.cache, 0o777))
		w.mount()
		if info, err := os.Stat(w.cache); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		tag := readAll(t, filepath.Join(w.cache, "CACHEDIR.TAG"))
		if !bytes.HasPrefix(tag, []byte("Signature: 8a477f597d28d172789f06886806bc55")) {
			t.Errorf("CACHEDIR.TAG is %q", tag)
		}
	})
	t.Run("an image's file is a link", func(t *testing.T) {
		w := newWorld(t, appliance.Options{})
		w.mount()
		readAll(t, w.path("latest", "disk.img"))
		w.umount()
		victim := filepath.Join(t.TempDir(), "victim")
		must(t, os.WriteFile(victim, []byte("precious"), 0o600))
		data, err := filepath.Glob(filepath.Join(w.cache, "files", "*.data"))
		if err != nil || len(data) == 0 {
			t.Fatal(data, err)
		}
		for _, path := range data {
			must(t, os.Remove(path))
			must(t, os.Symlink(victim, path))
		}
		w.mount()
		w.wantFile(w.app.Disk, "latest", "disk.img")
		if !bytes.Equal(readAll(t, victim), []byte("precious")) {
			t.Error("the link was written through")
		}
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

// TestSlowNeighbour: beside a mount that shares the cache and is slow, or has been
// stopped, a mount goes at its own speed.
func TestSlowNeighbour(t *testing.T) {
	t.Parallel()
	together(t, map[string]bool{"slow": false, "stopped": true}, func(t *testing.T, stopped bool) {
		const step = 512 << 10 // a region
		w := bareWorld(t)
		disk := noise(4<<20, 82)
		w.publish("one", packListed(t, member{"disk.img", disk}))
		second := *w
		second.dir = t.TempDir()
		w.mount("bwlimit=400K", "complete=off")
		slow := w.daemons()[0]
		second.mount("complete=off")
		busy := w.open("one", "disk.img")
		defer busy.Close()
		var reads sync.WaitGroup
		for off := int64(0); off < int64(len(disk)); off += step {
			reads.Go(func() { _, _ = busy.ReadAt(make([]byte, 4096), off) }) // which claims the region
		}
		defer reads.Wait()
		testkit.Eventually(t, "all is claimed", time.Minute, func() bool { return w.file("one", "disk.img").InFlight > len(disk)>>17 })
		if stopped {
			must(t, syscall.Kill(slow, syscall.SIGSTOP))
			defer func() { _ = syscall.Kill(slow, syscall.SIGCONT) }()
		}
		clock := testkit.StartClock(t)
		second.wantFile(disk, "one", "disk.img")
		if took := clock.Elapsed(); took > 6*time.Second { // the slow one takes 10 s, a stopped one for ever
			t.Errorf("it took %s", took)
		} else {
			t.Logf("it took %s", took.Round(time.Millisecond))
		}
	})
}
