package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
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

// TestDigestInTheFeed: a disk image that is an enclosure by itself is checked
// against the SHA-256 that the feed gives, by the mount and by verify.
func TestDigestInTheFeed(t *testing.T) {
	t.Parallel()
	disk := noise(5<<20, 3)
	w := bareWorld(t)
	w.origin.PutBytes("/disk.raw", disk)
	feed := func(sum string) {
		if sum != "" {
			sum = ` vmcast:sha256="` + sum + `"`
		}
		w.origin.PutBytes(appliance.FeedPath, []byte(`<rss version="2.0" xmlns:vmcast="urn:vmcast:feed:1"><channel><title>c</title><item><title>one</title><guid>g</guid>`+
			`<enclosure url="disk.raw" type="application/octet-stream"`+sum+`/></item></channel></rss>`))
	}
	state := func() string {
		for _, f := range w.release("one").Files { // none until it is indexed
			return f.State
		}
		return ""
	}
	verify := func() (string, error) { return w.run("verify", "-o", w.options(), w.feed) }

	feed(hexSHA256(disk))
	w.mount()
	w.wantFile(disk, "one", "disk.raw")
	testkit.Eventually(t, "it is verified by the feed's digest", time.Minute, func() bool { return state() == "verified" })
	if got := attr(w.path("one", "disk.raw"), "sha256"); got != hexSHA256(disk) {
		t.Errorf("user.vmcast.sha256 is %q", got)
	}
	if out, err := verify(); err != nil || !strings.Contains(out, "sha256 in the feed") || !strings.Contains(out, "1 of 1 files verified") {
		t.Errorf("verify: %v\n%s", err, out)
	}

	// A wrong one: it is another package, no reader reaches the end, and verify says so.
	feed(hexSHA256(disk[1:]))
	w.refresh()
	testkit.Eventually(t, "the package is another", time.Minute, func() bool { return w.release("one").Generation > 1 })
	if b, err := os.ReadFile(w.path("one", "disk.raw")); err == nil {
		t.Errorf("an image with another digest than the feed's was read to its end, %d bytes", len(b))
	}
	testkit.Eventually(t, "it is corrupt", time.Minute, func() bool { return state() == "corrupt" })
	if out, err := verify(); err == nil || !strings.Contains(out, "the feed says "+hexSHA256(disk[1:])) {
		t.Errorf("verify: %v\n%s", err, out)
	}

	// The publisher mends it: the mount takes it for another package, which is good.
	feed(hexSHA256(disk))
	w.refresh()
	testkit.Eventually(t, "it is good again", 60*time.Second, func() bool {
		b, err := os.ReadFile(w.path("one", "disk.raw"))
		return err == nil && hexSHA256(b) == hexSHA256(disk)
	})
	testkit.Eventually(t, "it is verified", time.Minute, func() bool { return state() == "verified" })
	w.umount()

	// What is cached is found again.
	sent := w.origin.Stats("/disk.raw").BytesSent
	w.mount()
	w.wantFile(disk, "one", "disk.raw")
	if n := w.origin.Stats("/disk.raw").BytesSent - sent; n > 1<<20 {
		t.Errorf("%d bytes were sent of an image that is cached", n)
	}
}
