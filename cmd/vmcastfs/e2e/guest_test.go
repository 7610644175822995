package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestLinuxBoots boots a real Linux whose root disk is the mounted path. The
// guest checks sums of its files from inside; the rest of the file system is
// never fetched, and a second boot fetches nothing that was fetched before. (It
// may read a block that the first did not: guests and the read-ahead of kernels
// are not the same each time.)
func TestLinuxBoots(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	testkit.Need(t, "mke2fs")
	guest, err := buildGuest(t.Context(), t.TempDir(), kernelPackage(t), 64)
	if err != nil {
		t.Fatal(err)
	}
	root := readAll(t, guest.root)
	w := bareWorld(t)
	w.opts = []string{"complete=off"}
	w.publish("linux", packListed(t, member{"root.img", root}))
	w.mount()
	boot := func() {
		t.Helper()
		out, err := guest.boot(t.Context(), "format=raw,readonly=on,file="+w.path("latest", "root.img"))
		if err != nil || !strings.Contains(out, guestOK) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	f, err := os.Open(w.path("latest", "root.img")) // else what is on its way when the guest ends is given up
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	walk := len(w.origin.Log()) // what is read to list the package is not kept as blocks
	began := time.Now()
	boot()
	testkit.Eventually(t, "the fetches of the first boot end", time.Minute, func() bool { return w.file(w.latest(), "root.img").InFlight == 0 })
	st := w.packageStats()
	t.Logf("booted in %s; %d requests, %.1f of %d MB fetched", time.Since(began).Round(time.Millisecond), st.Requests, float64(st.BytesSent)/1e6, len(root)/1e6)
	if st.BytesSent > int64(len(root))/2 {
		t.Errorf("%d bytes were fetched of an image of %d, a quarter of which is read", st.BytesSent, len(root))
	}
	if info, err := os.Stat(filepath.Join(w.dir, "latest/root.img")); err != nil || info.Size() != int64(len(root)) {
		t.Errorf("%v, %v", info, err)
	}
	f.Close()
	w.umount()
	first := w.origin.Log()
	w.mount()
	boot()
	var more int64
	for _, r := range w.origin.Log()[len(first):] {
		if r.Path == appliance.FeedPath {
			continue
		}
		more += r.Sent
		for _, old := range first[walk:] {
			if from, to := max(r.Off, old.Off), min(r.Off+r.Sent, old.Off+old.Sent); r.Path == old.Path && from < to {
				t.Errorf("the second boot fetched %d-%d of %s, which the first had", from, to-1, r.Path)
			}
		}
	}
	t.Logf("the second boot fetched %d bytes more", more)
	if more > st.BytesSent/10 {
		t.Errorf("the second boot fetched %d bytes, the first %d", more, st.BytesSent)
	}
}
