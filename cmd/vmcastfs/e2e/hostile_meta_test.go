package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// TestS4C4H16Release mounts a release whose manifest has sums of no known kind,
// whose description asks for what is the host's, and whose server sends headers
// without end and a validator of odd characters.
func TestS4C4H16Release(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := make([]byte, 1<<20)
	copy(disk, noise(5000, 1))
	copy(disk[510:], "\x55\xaa") // a boot sector, as config looks for
	described := readAll(t, filepath.Join("..", "..", "..", "xvm", "testdata", "description", "hostile.xml"))
	described = bytes.ReplaceAll(described, []byte(`<source file="/etc/shadow"/>`), []byte(`<source file="/var/lib/disk.img"/>`))
	archive := pack(t,
		member{"description.xml", described},
		member{"manifest.txt", []byte("deadbeef  disk.img\nCRC32 (disk.img) = deadbeef\nMD4 (disk.img) = " + strings.Repeat("0", 32) + "\n")},
		member{"disk.img", disk})
	w.publish("evil", archive)
	etag := `"a\"b//../\é` + strings.Repeat("x", 3000) + `"`
	w.origin.Put("/evil.xvm", bytes.NewReader(archive), int64(len(archive)), time.Time{}, etag, "")
	remove := w.origin.Inject(origin.Fault{Path: "/evil.xvm", Kind: origin.HeaderBomb})
	w.mount("soft", "timeo=3s")

	if _, err := os.Open(w.path("evil", "disk.img")); err == nil {
		t.Error("H16: opened behind headers without end")
	}
	for _, pid := range w.daemons() {
		if kib := residentKiB(t, pid); !raceEnabled && kib > 200<<10 {
			t.Errorf("H16: the daemon took %d MiB", kib>>10)
		}
	}
	remove()
	w.statSoon("evil", "disk.img") // H16: without them
	w.wantSoon(disk, "evil", "disk.img")
	hold(t, w.path("evil", "disk.img"))
	testkit.Eventually(t, "S4: the image is unverified", time.Minute, func() bool { return attr(w.path("evil", "disk.img"), "state") == "unverified" })

	text := string(readAll(t, w.path(".vmcastfs/status.json")))
	wantPlain(t, "C4: status.json", text)
	for _, hypervisor := range []string{"qemu", "xl", "libvirt"} {
		out, err := w.run("config", hypervisor, w.path("evil"))
		if err != nil && exitCode(err) != exitFailed {
			t.Errorf("C4: config %s: %v", hypervisor, err)
		}
		wantPlain(t, "C4: config "+hypervisor, out)
		// What the output says of the description stands in comments.
		for line := range strings.Lines(regexp.MustCompile(`(?s)^\s*<!--.*?-->`).ReplaceAllString(out, "")) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
				continue
			}
			for _, evil := range []string{"/etc/shadow", "/tmp/evil", "vmlinuz", "nbd:", "rbd", "hostdev", "chardev", "reboot", "rm -rf", "commandline", "filesystem", "br0", "qcow2,", "virtio,x"} {
				if strings.Contains(line, evil) {
					t.Errorf("C4: config %s has %q: %s", hypervisor, evil, line)
				}
			}
		}
		if err == nil && !strings.Contains(out, "disk.img") {
			t.Errorf("C4: config %s: %s", hypervisor, fmt.Sprintf("%.500s", out))
		}
	}
}
