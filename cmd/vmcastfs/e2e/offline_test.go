package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestMountOffline: what has been seen before is mounted without the server,
// at once, and says so; what has not is not.
func TestMountOffline(t *testing.T) {
	t.Parallel()
	disk := noise(4<<20, 25)
	all := outages()
	some := map[string]outage{}
	for _, name := range []string{"connection refused", "no answer", "storm of 503"} {
		some[name] = all[name]
	}
	together(t, some, func(t *testing.T, begin outage) {
		w := bareWorld(t)
		w.publish("one", packListed(t, member{"disk.img", disk}))
		w.publish("two", packListed(t, member{"disk.img", disk[1:]}))
		end := begin(w)
		began := w.now()
		out, err := w.run("mount", "-o", w.options("stall=1s"), w.feed, w.dir)
		if exitCode(err) != exitMount || !strings.Contains(out, "no earlier copy") && !strings.Contains(out, "503") {
			t.Errorf("a mount of a feed never seen: %v\n%s", err, out)
		}
		if d := w.now() - began; d > time.Minute {
			t.Errorf("it took %s to fail", d)
		}
		end()
		w.mount()
		w.wantFile(disk, "one", "disk.img")
		w.umount()

		begin(w)
		log := filepath.Join(t.TempDir(), "log")
		began = w.now()
		w.mount("stall=1s", "log="+log)
		if d := w.now() - began; d > time.Minute {
			t.Errorf("mounting took %s", d)
		}
		w.wantFile(disk, "one", "disk.img")
		w.atOnce("one", "disk.img")
		w.slowListing("two")
		if st := w.status().Feed; !st.Stale {
			t.Errorf("the status does not say that the feed is stale: %+v", st)
		}
		if text, _ := os.ReadFile(log); !bytes.Contains(text, []byte("last good copy is shown")) {
			t.Errorf("the log does not say it:\n%s", text)
		}
	})
}

// TestBootOffline boots a machine from a cached image without any network.
func TestBootOffline(t *testing.T) {
	t.Parallel()
	qemu := testkit.Need(t, "qemu-system-x86_64")
	w := newWorld(t, appliance.Options{})
	w.mount()
	image := w.path("latest", appliance.DiskName)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the image is verified", time.Minute, func() bool { return attr(image, "state") == "verified" })
	f.Close()
	w.umount()
	w.origin.Down()
	w.mount()
	out, err := command(t, "", qemu, "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-no-reboot",
		"-serial", "stdio", "-drive", "file="+image+",format=raw,readonly=on,if=virtio")
	if err != nil || !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("boot: %v\n%s", err, out)
	}
}
