package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cmd/internal/linuxguest"
)

// TestLinuxBoots boots a real Linux whose root disk is the mounted path. The
// guest checks sums of its files from inside; the rest of the file system is
// never fetched, and a second boot fetches nothing.
func TestLinuxBoots(t *testing.T) {
	t.Parallel()
	need(t, "qemu-system-x86_64")
	need(t, "mke2fs")
	guest, err := linuxguest.Build(t.Context(), t.TempDir(), linuxguest.KernelPackage(t), 64)
	if err != nil {
		t.Fatal(err)
	}
	root := readAll(t, guest.Root)
	w := bareWorld(t)
	w.opts = []string{"complete=off"}
	w.publish("linux", packListed(t, member{"root.img", root}))
	w.mount()
	boot := func() {
		t.Helper()
		out, err := guest.Boot(t.Context(), "format=raw,readonly=on,file="+w.path("latest", "root.img"))
		if err != nil || !strings.Contains(out, linuxguest.OKLine) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	began := time.Now()
	boot()
	st := w.packageStats()
	t.Logf("booted in %s; %d requests, %.1f of %d MB fetched", time.Since(began).Round(time.Millisecond), st.Requests, float64(st.BytesSent)/1e6, len(root)/1e6)
	if st.BytesSent > int64(len(root))/2 {
		t.Errorf("%d bytes were fetched of an image of %d, a quarter of which is read", st.BytesSent, len(root))
	}
	if info, err := os.Stat(filepath.Join(w.dir, "latest/root.img")); err != nil || info.Size() != int64(len(root)) {
		t.Errorf("%v, %v", info, err)
	}
	w.umount()
	w.origin.ResetStats()
	w.mount()
	boot()
	if st := w.packageStats(); st.BytesSent != 0 {
		t.Errorf("the second boot fetched %d bytes in %d requests", st.BytesSent, st.Requests)
	}
}
