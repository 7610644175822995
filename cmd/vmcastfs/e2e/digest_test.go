package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestPublishedDigest: publish gives the SHA-256 of disk images in the feed, and
// sums again only what has been touched.
func TestPublishedDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := noise(300_000, 1)
	put := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	publish := func() string {
		t.Helper()
		if out, err := runBinary(t, "publish", "--base-url", "https://example.org/vm/", dir); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(readAll(t, filepath.Join(dir, "vmcast.xml")))
	}
	sums := func(feed string) (found []string) {
		for _, m := range regexp.MustCompile(` vmcast:sha256="([0-9a-f]{64})"`).FindAllStringSubmatch(feed, -1) {
			found = append(found, m[1])
		}
		return found
	}
	put("disk.raw", disk)
	put("package.xvm", packListed(t, member{"disk.img", disk}))
	feed := publish()
	if got := sums(feed); len(got) != 1 || got[0] != hexSHA256(disk) {
		t.Errorf("the feed gives %q, want that of disk.raw\n%s", got, feed)
	}
	if again := publish(); again != feed {
		t.Errorf("it is not unchanged:\n%s", again)
	}
	// Other bytes of the same size, and of the same age to whoever believes mtime.
	info, err := os.Stat(filepath.Join(dir, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // feeds count seconds
	disk[77] ^= 1
	put("disk.raw", disk)
	if err := os.Chtimes(filepath.Join(dir, "disk.raw"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got := sums(publish()); len(got) != 1 || got[0] != hexSHA256(disk) {
		t.Errorf("the feed gives %q of a changed image", got)
	}
}
