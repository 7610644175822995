package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestWithdrawnBasesStay: machines are stopped, their releases leave the feed and the
// server, the cache runs full, the daemon is killed, and no server answers any more.
// Every overlay reads as it did, and boots.
func TestWithdrawnBasesStay(t *testing.T) {
	t.Parallel()
	img := testkit.Need(t, "qemu-img")
	w := bareWorld(t)
	const size, perRelease = 4 << 20, 4
	forms := []string{"sums", "list", "gz", "bare", "tar.gz"}
	disks := make([][]byte, len(forms))
	for i, form := range forms {
		disk, err := appliance.Disk(size, 4, uint64(i))
		must(t, err)
		disks[i] = disk
		m := member{"disk.img", disk}
		switch form {
		case "sums":
			w.publish(form, pack(t, member{"manifest.txt", sha1sums(m)}, m))
		case "list":
			w.publish(form, packListed(t, m))
		case "gz":
			z := member{"disk.img.gz", filter(t, disk, "gzip", "-1")}
			w.publish(form, pack(t, member{"manifest.txt", sha1sums(z)}, z))
		case "bare":
			w.publish("bare", disk)
		case "tar.gz":
			w.publish("tar.gz", filter(t, pack(t, member{"manifest.txt", sha1sums(m)}, m), "gzip", "-1"))
		}
	}
	w.mount("cache_size=48M", "refresh=1h")
	overlays := t.TempDir()
	overlay := func(i, n int) string { return filepath.Join(overlays, fmt.Sprintf("%d-%d.qcow2", i, n)) }
	bases := make([]string, len(forms))
	for i, form := range forms {
		for _, name := range []string{"manifest.txt", "disk.img"} { // a listing alone inflates nothing
			_, _ = os.Stat(w.path(form, name))
		}
		entries, err := os.ReadDir(w.path(form))
		must(t, err)
		for _, e := range entries {
			if info, err := os.Stat(w.path(form, e.Name())); err == nil && info.Size() == size {
				bases[i] = w.path(form, e.Name())
			}
		}
		for n := range perRelease {
			if out, err := command(t, overlays, img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", bases[i], overlay(i, n)); err != nil {
				t.Fatalf("create: %v\n%s", err, out)
			}
			if out, err := command(t, overlays, "qemu-io", "-c", fmt.Sprintf("write -q -P %d 3M 64k", n+1), overlay(i, n)); err != nil {
				t.Fatalf("write: %v\n%s", err, out)
			}
		}
		if !bytes.Equal(readAll(t, bases[i]), disks[i]) {
			t.Fatalf("%s differs", bases[i])
		}
	}
	gone := slices.Clone(w.items)
	w.items = nil
	filler := noise(40<<20, 90)
	w.publish("new", packListed(t, member{"disk.img", filler}))
	for _, it := range gone {
		w.origin.Remove("/" + it.url)
	}
	w.refresh()
	testkit.Eventually(t, "the feed is the new one", time.Minute, func() bool { return w.latest() == "new" })
	w.wantFile(filler, "new", "disk.img")
	testkit.Eventually(t, "the cache is full", time.Minute, func() bool {
		c := w.status().Cache
		return c.Full > 0 || c.EvictedBytes > 0
	})
	w.kill()
	w.origin.Down()
	w.mount("cache_size=48M", "refresh=1h")
	for i, form := range forms {
		r := w.release(form)
		if r.Withdrawn == nil || len(r.Incomplete) > 0 || !slices.Contains(r.Held, "cached") {
			t.Errorf("%s: withdrawn %v, lacks %v, held by %v", form, r.Withdrawn, r.Incomplete, r.Held)
		}
		if at := attr(w.path(form), "withdrawn"); at == "" || at != attr(bases[i], "withdrawn") {
			t.Errorf("%s: attribute %q", form, at)
		}
		for n := range perRelease {
			raw := filepath.Join(overlays, "raw")
			if out, err := command(t, overlays, img, "convert", "-O", "raw", overlay(i, n), raw); err != nil {
				t.Errorf("%s: %v\n%s", overlay(i, n), err, out)
				continue
			}
			want := slices.Clone(disks[i])
			copy(want[3<<20:], bytes.Repeat([]byte{byte(n + 1)}, 64<<10))
			if !bytes.Equal(readAll(t, raw), want) {
				t.Errorf("overlay %d of %s reads otherwise", n, form)
			}
		}
	}
	if out, err := command(t, overlays, img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", bases[2], overlay(9, 9)); err != nil {
		t.Errorf("a new overlay: %v\n%s", err, out)
	}
	if out, err := bootDisk(t, "format=qcow2,file="+overlay(9, 9)); err != nil || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("it does not boot: %v\n%s", err, out)
	}
	if out, err := w.run("list", "-o", w.options(), w.feed); !strings.Contains(out, "withdrawn 20") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := w.run("status", w.dir); err != nil || !strings.Contains(out, "5 withdrawn") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if out, err := w.run("cache", "remove", w.path("gz")); err != nil {
		t.Errorf("cache remove: %v\n%s", err, out)
	}
	if _, err := os.Stat(w.path("gz")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed release is still there: %v", err)
	}
}
