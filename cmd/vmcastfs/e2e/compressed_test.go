package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestCompressedImages reads and seeks in the plain content of every format.
func TestCompressedImages(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := lines(1<<20+77, 1)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	half := len(disk) / 2
	images := map[string][]byte{
		"gzip.img.gz":           filter(t, disk, "gzip", "-6"),
		"members.img.gz":        append(filter(t, disk[:half], "gzip"), filter(t, disk[half:], "gzip")...),
		"xz.img.xz":             filter(t, disk, "xz", "-1"),
		"blocks.img.xz":         filter(t, disk, "xz", "-1", "--block-size=200000"),
		"parallel.img.zst":      filter(t, disk, "pzstd", "-q", "-c"),
		"zstd.img.zst":          filter(t, nil, "zstd", "-q", "-c", file),
		"stream.img.zst":        filter(t, disk, "zstd", "-q"),
		"bzip2.img.bz2":         filter(t, disk, "bzip2"),
		"upper.img.GZ":          filter(t, disk, "gzip", "-1"),
		"empty.img.gz":          filter(t, nil, "gzip"),
		"disks/nested.qcow2.gz": filter(t, disk, "gzip", "-6"),
	}
	var members []member
	for name, content := range images {
		members = append(members, member{name, content})
	}
	w.publish("one", packListed(t, members...))
	log := filepath.Join(t.TempDir(), "log")
	w.mount("log=" + log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", readAll(t, log))
		}
	})
	for name, stored := range images {
		plain := name[:len(name)-len(filepath.Ext(name))]
		want := disk
		if plain == "empty.img" {
			want = nil
		}
		w.wantFile(stored, "one", name)
		info, err := os.Stat(w.path("one", plain))
		if err != nil || info.Size() != int64(len(want)) {
			t.Errorf("stat of %s: %v, %v; want %d bytes", plain, info, err, len(want))
			continue
		}
		f, err := os.Open(w.path("one", plain))
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			p := make([]byte, min(len(want), 1+rng.IntN(40_000)))
			off := rng.Int64N(int64(len(want)-len(p)) + 1)
			if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, want[off:off+int64(len(p))]) {
				t.Errorf("%s: read of %d at %d: %v", plain, len(p), off, err)
				break
			}
		}
		f.Close()
		w.wantFile(want, "one", plain)
	}
}

// TestPlainSizeLater: a plain name whose size nothing tells is listed once it
// has been found; asking for it by name waits for that.
func TestPlainSizeLater(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(5<<20, 1) // more than is sized before the directory is shown
	w.publish("one", packListed(t, member{"disk.img.gz", filter(t, disk, "gzip", "-1")}))
	w.publish("two", packListed(t, member{"disk.img.gz", filter(t, disk[1:], "gzip", "-1")}))
	w.mount()
	w.origin.SetBandwidth(5 << 20) // a second for each
	listed := func(release string) bool {
		entries, err := os.ReadDir(w.path(release))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "disk.img" })
	}
	if listed("one") {
		t.Error("the plain name is listed although its size cannot be known yet")
	}
	readAll(t, w.path("one", "manifest.txt")) // behind the first open of any file it is found
	if info, err := os.Stat(w.path("two", "disk.img")); err != nil || info.Size() != int64(len(disk)-1) {
		t.Errorf("stat that waits: %v, %v", info, err)
	}
	testkit.Eventually(t, "the plain names are listed", time.Minute, func() bool { return listed("one") && listed("two") })
	w.origin.SetBandwidth(0)
	w.wantFile(disk, "one", "disk.img")
	w.origin.ResetStats()
	w.umount()
	w.mount()
	if !listed("one") {
		t.Error("after a remount the size is forgotten")
	}
	w.wantFile(disk, "one", "disk.img")
	if st := w.origin.Stats("/one.xvm"); st.BytesSent > st.Requests {
		t.Errorf("%d bytes after the remount", st.BytesSent)
	}
}

// TestRestartInTheMiddle: what has been inflated is not inflated again, nor
// what led to it fetched again.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	for suffix, tool := range map[string][]string{".gz": {"gzip", "-1"}, ".bz2": {"bzip2"}, ".xz": {"xz", "-0", "--block-size=1MiB"}, ".zst": {"zstd", "-q", "-1"}} {
		t.Run(suffix, func(t *testing.T) {
			t.Parallel()
			disk := noise(5<<20, 3)
			if suffix == ".bz2" {
				disk = disk[:3<<20] // which is slow
			}
			w := bareWorld(t)
			w.opts = []string{"complete=off"}
			stored := filter(t, disk, tool[0], tool[1:]...)
			manifest := fmt.Appendf(nil, "disk.img %d %s\n", len(disk), hexMD5(disk))
			w.publish("one", pack(t, member{"manifest.txt", manifest}, member{"disk.img" + suffix, stored}))
			w.mount()
			read := func(off int) {
				t.Helper()
				f, err := os.Open(w.path("one", "disk.img"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				p := make([]byte, 100_000)
				if _, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, disk[off:off+len(p)]) {
					t.Fatalf("read at %d: %v", off, err)
				}
			}
			read(len(disk) / 2)
			w.umount()
			w.mount()
			// The first part of the archive is not to be had any more, neither
			// from the server nor, if the format has places to begin at, from
			// the cache of the stored file.
			// (Less a region, which is fetched around a miss.)
			w.origin.Forbid("/one.xvm", 2048, int64(len(stored)/4-512<<10))
			if suffix == ".gz" || suffix == ".xz" {
				w.forget(int64(len(stored)))
			}
			read(len(disk) * 6 / 10)
			if suffix != ".xz" { // whose plain content before that was never needed
				read(10)
				read(len(disk) / 4)
			}
			if v := w.origin.Violations(); len(v) > 0 {
				t.Errorf("fetched again: %d at %d", v[0].Len, v[0].Off)
			}
		})
	}
}

// forget removes a file from the cache, known by its size.
func (w *world) forget(size int64) {
	w.t.Helper()
	found := 0
	files, _ := filepath.Glob(filepath.Join(w.cache, "files", "*.data"))
	for _, data := range files {
		if info, err := os.Stat(data); err == nil && info.Size() == size {
			found++
			os.Remove(data)
			os.Remove(data[:len(data)-len(".data")] + ".journal")
		}
	}
	if found != 1 {
		w.t.Fatalf("%d files of %d bytes in the cache", found, size)
	}
}
