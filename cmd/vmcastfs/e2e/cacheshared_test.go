package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

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
	if more > 40 { // 100 % unshared; 1 to 14 are what a busy machine lets two ask for at once
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

// TestSlowNeighbour: beside a mount that shares the cache and is slow, or has been
// stopped, a mount goes at its own speed.
func TestSlowNeighbour(t *testing.T) {
	t.Parallel()
	together(t, map[string]bool{"slow": false, "stopped": true}, func(t *testing.T, stopped bool) {
		const step = 512 << 10 // a region of an origin that is far
		w := bareWorld(t)
		w.origin.SetLatency(10 * time.Millisecond)
		disk := noise(4<<20, 82)
		w.publish("one", packListed(t, member{"disk.img", disk}))
		second := *w
		second.dir = t.TempDir()
		w.mount("bwlimit=40K", "complete=off")
		slow := w.daemons()[0]
		second.mount("complete=off")
		busy := w.open("one", "disk.img")
		defer busy.Close()
		var reads sync.WaitGroup
		var ended atomic.Int32
		for off := int64(0); off < int64(len(disk)); off += step {
			reads.Go(func() { _, _ = busy.ReadAt(aligned(4096), off); ended.Add(1) }) // which claims the region
		}
		defer reads.Wait()
		defer w.kill()
		testkit.Eventually(t, "all is claimed", time.Minute, func() bool { return w.file("one", "disk.img").InFlight > len(disk)>>17 })
		if stopped {
			must(t, syscall.Kill(slow, syscall.SIGSTOP))
			defer func() { _ = syscall.Kill(slow, syscall.SIGCONT) }()
		}
		clock := testkit.StartClock(t)
		second.wantFile(disk, "one", "disk.img")
		t.Logf("it took %s", clock.Elapsed().Round(time.Millisecond))
		if n := ended.Load(); n > 4 { // the slow one takes 100 s for all, a stopped one for ever
			t.Errorf("%d reads of the neighbour had ended before", n)
		}
	})
}
