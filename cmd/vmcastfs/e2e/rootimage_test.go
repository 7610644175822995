package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootImage reads a root file system through the plain views of its gzip
// forms, in order and at random: it must be what was compressed. The short form
// is an ext4 of some of this machine's files. VMCASTFS_TEST_ROOT names a raw
// image to be read instead, such as a whole Debian: .ci/test makes one if
// VMCASTFS_TEST_LONG is set.
func TestRootImage(t *testing.T) {
	t.Parallel()
	disk := rootImage(t)
	for name, tool := range map[string][]string{
		"gzip-1": {"gzip", "-n", "-1"}, "gzip-6": {"gzip", "-n", "-6"}, "gzip-9": {"gzip", "-n", "-9"}, "pigz": {"pigz", "-n", "-T"},
		"rsyncable": {"gzip", "-n", "--rsyncable"}, "flushed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stored []byte
			if tool == nil {
				stored = flushed(t, disk)
			} else {
				stored = filter(t, disk, tool[0], tool[1:]...)
			}
			w := bareWorld(t)
			manifest := member{"manifest.txt", fmt.Appendf(nil, "root.img %d %s\n", len(disk), hexMD5(disk))}
			archive := pack(t, manifest, member{"root.img.gz", stored})
			w.publish("in-order", archive)
			w.publish("at-random", archive)
			w.mount("cache_size=20G")
			for _, it := range w.items {
				f, err := os.Open(w.path(it.title, "root.img"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				const step = 1 << 20
				places := make([]int, (len(disk)+step-1)/step)
				for i := range places {
					places[i] = i
				}
				if it.title == "at-random" {
					rand.New(rand.NewPCG(1, 2)).Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
				}
				p := make([]byte, step)
				for _, i := range places {
					want := disk[i*step : min((i+1)*step, len(disk))]
					n, err := f.ReadAt(p, int64(i*step))
					if err != nil && err != io.EOF || !bytes.Equal(p[:n], want) {
						t.Fatalf("%s at %d MiB of %d: %d bytes, %v, equal: %t", it.title, i, len(places), n, err, bytes.Equal(p[:n], want[:n]))
					}
				}
				if got := attr(w.path(it.title, "root.img"), "state"); got == "corrupt" {
					t.Errorf("%s is %s", it.title, got)
				}
			}
		})
	}
}

// flushed is a gzip stream that was flushed every 64 bytes at its beginning. So many
// short blocks leave no end of a buffer of a decoder without the end of a block
// near it: an early decoder of ours was wrong there.
func flushed(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range 16 << 20 / 64 {
		if _, err := z.Write(p[:64]); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
		p = p[64:]
	}
	if _, err := z.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rootImage is the image to be read.
func rootImage(t testing.TB) []byte {
	t.Helper()
	if path := os.Getenv("VMCASTFS_TEST_ROOT"); path != "" {
		return readAll(t, path)
	}
	const size, files = 48 << 20, 36 << 20
	dir := t.TempDir()
	room := int64(files)
	for _, from := range []string{"/usr/bin", "/usr/share", "/usr/lib"} {
		part := room / 2
		err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || strings.Contains(path, "vmcast") {
				return nil // what is there will do
			}
			info, err := e.Info()
			if err != nil || info.Size() > part {
				return nil
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			to := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			part -= info.Size() + 4096
			room -= info.Size() + 4096
			if part < 0 {
				return fs.SkipAll
			}
			return os.WriteFile(to, content, 0o755)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "root.img")
	if out, err := command(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image, fmt.Sprintf("%dK", size>>10)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return readAll(t, image)
}
