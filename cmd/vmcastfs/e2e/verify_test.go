package e2e

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestManifestForms checks images against every form of sum, right and wrong.
func TestManifestForms(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(300_000, 1)
	right := member{"disk.img", disk}
	sum512 := sha512.Sum512(disk)
	wrong := bytes.Clone(disk)
	wrong[200_000] ^= 1
	forms := map[string]struct {
		manifest string
		name     string
		state    string
	}{
		"sha1":       {string(sha1sums(right)), "manifest.txt", "verified"},
		"sha256":     {hexSHA256(disk) + "  disk.img\n", "manifest.txt", "verified"},
		"sha256-bin": {hexSHA256(disk) + " *./disk.img\r\n", "manifest.txt", "verified"},
		"sha512":     {fmt.Sprintf("%x  disk.img\n", sum512), "manifest.txt", "verified"},
		"md5":        {hexMD5(disk) + "  disk.img\n", "manifest.txt", "verified"},
		"tag":        {"SHA256 (disk.img) = " + hexSHA256(disk) + "\n", "manifest.txt", "verified"},
		"ovf":        {"SHA256(disk.img)= " + hexSHA256(disk) + "\n", "appliance.mf", "verified"},
		"both":       {string(sha1sums(right)) + "SHA256 (disk.img) = " + hexSHA256(disk) + "\n", "manifest.txt", "verified"},
		"one-wrong":  {string(sha1sums(right)) + "SHA256 (disk.img) = " + hexSHA256(wrong) + "\n", "manifest.txt", "corrupt"},
		"wrong":      {string(sha1sums(member{"disk.img", wrong})), "manifest.txt", "corrupt"},
		"wrong-512":  {fmt.Sprintf("%x  disk.img\n", sha512.Sum512(wrong)), "manifest.txt", "corrupt"},
		"unlisted":   {string(sha1sums(member{"other.img", disk})), "manifest.txt", "unverified"},
		"none":       {"hello", "readme.txt", "unverified"},
	}
	for name, c := range forms {
		w.publish(name, pack(t, member{c.name, []byte(c.manifest)}, right))
	}
	w.mount()
	for name := range forms {
		hold(t, w.path(name, "disk.img"))
	}
	for name, c := range forms {
		path := w.path(name, "disk.img")
		testkit.Eventually(t, name+" is "+c.state, time.Minute, func() bool { return attr(path, "state") == c.state })
		_, err := os.ReadFile(path)
		if c.state == "corrupt" != errors.Is(err, syscall.EIO) || c.state != "corrupt" && err != nil {
			t.Errorf("%s: reading gives %v", name, err)
		}
		if st := w.file(name, "disk.img"); st.State != c.state || c.state == "corrupt" && st.Note == "" {
			t.Errorf("%s: the status is %+v", name, st)
		}
	}
	if got := attr(w.path("tag", "disk.img"), "sha256"); got != hexSHA256(disk) {
		t.Errorf("user.vmcast.sha256 is %q", got)
	}
}

// cacheFile finds the data file of the cache that holds content.
func (w *world) cacheFile(content []byte) string {
	w.t.Helper()
	files, _ := filepath.Glob(filepath.Join(w.cache, "files", "*.data"))
	for _, data := range files {
		if p, err := os.ReadFile(data); err == nil && bytes.Equal(p, content) {
			return data
		}
	}
	w.t.Fatal("the content is not in the cache")
	return ""
}

// TestFlippedBitInTheCache: the local disk is not trusted either.
func TestFlippedBitInTheCache(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(2<<20, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("passthrough=off")
	path := w.path("one", "disk.img")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(path, "state") == "verified" })
	f.Close()
	w.umount()
	data, err := os.OpenFile(w.cacheFile(disk), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{700_000, 1_900_000} {
		if _, err := data.WriteAt([]byte{disk[off] ^ 8}, off); err != nil {
			t.Fatal(err)
		}
	}
	data.Close()
	w.origin.ResetStats()
	w.mount("passthrough=off")
	w.wantFile(disk, "one", "disk.img")
	if n := w.status().Cache.Damaged; n != 2 {
		t.Errorf("%d damaged blocks are counted", n)
	}
	if st := w.packageStats(); st.BytesSent == 0 || st.BytesSent > 3*512<<10 {
		t.Errorf("%d bytes were fetched to replace two blocks", st.BytesSent)
	}
}

// TestFlippedBitUnderTheKernel: who reads a verified image by passthrough is not
// told of a bit that flips; `cache verify` finds it, and the mount puts the right
// bytes back, under who has the image open, too.
func TestFlippedBitUnderTheKernel(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(2<<20, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount()
	path := w.path("one", "disk.img")
	f := w.openBuffered("one", "disk.img")
	testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(path, "state") == "verified" })
	f.Close()
	f = w.openBuffered("one", "disk.img")
	const off = 700_000 &^ 4095
	damage(t, w.cacheFile(disk), off)
	if compareAt(f, disk, off) == nil {
		t.Skip("the kernel does not read by passthrough here")
	}
	if out, err := w.run("cache", "verify", "--cache", w.cache); exitCode(err) != 1 || !strings.Contains(out, "1 damaged") {
		t.Errorf("cache verify: %v, %s", err, out)
	}
	if got := attr(path, "state"); got != "partial" {
		t.Errorf("the image is %q", got)
	}
	testkit.Eventually(t, "who has it open reads the right bytes", time.Minute, func() bool { return compareAt(f, disk, off) == nil })
	testkit.Eventually(t, "verified again", time.Minute, func() bool { return attr(path, "state") == "verified" })
	f.Close()
	w.wantFile(disk, "one", "disk.img")
	if out, err := w.run("cache", "verify", "--cache", w.cache); err != nil {
		t.Errorf("cache verify: %v, %s", err, out)
	}
}

// TestCacheDirectoryDeleted takes the cache away under a mount.
func TestCacheDirectoryDeleted(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk, other := noise(2<<20, 1), noise(1<<20, 2)
	w.publish("one", packListed(t, member{"disk.img", disk}, member{"other.img", other}))
	w.mount("complete=off")
	f, err := os.Open(w.path("one", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 100_000)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.cache); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Logf("removing the cache: %v", err)
	}
	if _, err := f.ReadAt(p, 1<<20); err != nil || !bytes.Equal(p, disk[1<<20:1<<20+len(p)]) {
		t.Errorf("reading on in an open file: %v", err)
	}
	w.wantFile(other, "one", "other.img")
	f.Close()
	w.umount()
	w.mount()
	w.wantFile(disk, "one", "disk.img")
}

// TestUnusableCacheDirectory is one sentence and exit code 2.
func TestUnusableCacheDirectory(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", noise(1000, 1)}))
	readOnly := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro", "none", readOnly).CombinedOutput(); err != nil {
		t.Logf("no read-only file system to try: %v: %s", err, out)
	} else {
		t.Cleanup(func() { _ = exec.Command("umount", readOnly).Run() })
	}
	file := filepath.Join(t.TempDir(), "file")
	foreign := t.TempDir()
	for _, path := range []string{file, filepath.Join(foreign, "letter.txt")} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{filepath.Join(readOnly, "cache"), file, file + "/cache", foreign} {
		for _, form := range [][]string{{"mount"}, {"mount", "-f"}} {
			cmd := exec.Command(binary, append(form, "-o", "cache="+dir, w.feed, w.dir)...)
			wantFailure(t, cmd, exitSystem, "cache directory \""+dir, "-o cache=DIR")
		}
	}
}
