package e2e

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestXen mounts a feed in a Xen host, requires signatures, and boots guests of
// every kind from what config xl prints, as it is printed. What they read is right,
// and what they do not read is not fetched.
func TestXen(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "mke2fs")
	dir := t.TempDir()
	guest, err := buildGuest(t.Context(), dir, kernelPackage(t), 24)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := appliance.Disk(2<<20, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	g := newGnuPG(t)
	g.key("publisher", "ed25519", "never")
	w := bareWorld(t)
	w.origin.SetLatency(20 * time.Millisecond)
	signed := func(name string, members ...member) {
		list := sha1sums(members...)
		all := append([]member{{"manifest.txt", list}, {"mf-signature.asc", g.sign("publisher", list)}}, members...)
		if members[0].name == "xvm.xml" {
			all = append(all, member{"signature.asc", g.sign("publisher", members[0].content)})
		}
		w.publish(name, pack(t, all...))
	}
	swap := member{"swap.img", make([]byte, 1<<20)}
	copy(swap.content[4086:], "SWAPSPACE2")
	signed("linux", member{"xvm.xml", []byte(`<xvm><machine>pv</machine><memory>128</memory><kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk>
		<cmdline>root=/dev/sda2 watch ` + guest.append + `</cmdline><disk file="data.img" target="sda1"/><disk file="root.img" target="sda2"/></xvm>`)},
		member{"vmlinuz", readAll(t, guest.kernel)}, member{"initrd.img", readAll(t, guest.initrd)},
		member{"data.img", noise(8<<20, 1)}, member{"root.img", readAll(t, guest.root)})
	signed("whole", member{"xvm.xml", []byte(`<xvm><memory>64</memory><disk file="disk.img"/></xvm>`)}, member{"disk.img", disk})
	blobs := make(map[string]string) // their sums
	for i, name := range []string{"plain", "hard", "soft", "late"} {
		content := noise(6<<20, byte(i+2))
		blobs[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		signed(name, member{"blob.img", content})
	}
	w.publish("unsigned", pack(t, swap))
	there := "http://10.0.2.2" + strings.TrimPrefix(w.origin.URL(), "http://127.0.0.1")

	began := time.Now()
	step := func(what string) { t.Logf("%4.0f s: %s", time.Since(began).Seconds(), what) }
	d := bootDom0(t)
	d.run("xl list && mkdir -p /tmp/ov /etc/vmcastfs && cat >/etc/vmcastfs/key.asc <<'EOF'\n" + string(g.run("", "--batch", "--armor", "--export", g.user("publisher"))) + "EOF")
	step("the host is up")
	mount := func(at, options string) {
		d.run(fmt.Sprintf("mkdir -p /tmp/c%[1]s /srv/%[1]s && vmcastfs mount -o complete=off,prewarm=off,retry=0,cache=/tmp/c%[1]s/c,state=/tmp/c%[1]s/s,cache_free=0,%[2]s %[3]s /srv/%[1]s", at, options, there+appliance.FeedPath))
	}
	mount("hard", "hard")
	mount("soft", "soft,timeo=5s")
	mount("signed", "keyring=/etc/vmcastfs/key.asc") // which requires signatures
	if out, ok := d.try("vmcastfs config xl /srv/signed/unsigned"); ok || !strings.Contains(out, "sig=ignore") {
		t.Errorf("an unsigned release: %s", out)
	}

	// A PV guest with two partition images.
	config := d.run("vmcastfs config xl --name first /srv/hard/linux >/tmp/first.cfg && cat /tmp/first.cfg")
	for _, want := range []string{`type = "pv"`, "vdev=xvda1, access=ro", "vdev=xvda2, access=ro", "root=/dev/xvda2 ", "console=ttyS0 console=hvc0"} {
		if !strings.Contains(config, want) {
			t.Errorf("no %q in\n%s", want, config)
		}
	}
	before := w.origin.Stats("/linux.xvm").BytesSent
	d.create("first", "/tmp/first.cfg")
	step("a PV guest is created")
	// The second writes through the overlay that the printed lines make.
	d.run("o=\"--name second --type pvh --overlay /tmp/ov --append 'root=/dev/xvda2 rw write panic=-1 console=hvc0'\"\n" +
		"eval vmcastfs config xl $o --only-overlays /srv/hard/linux | sh && eval vmcastfs config xl $o /srv/hard/linux >/tmp/second.cfg")
	d.await("first", guestOK)
	step("the PV guest has checked its files")
	sent := w.origin.Stats("/linux.xvm").BytesSent
	whole := int64(len(w.app.Packages["/linux.xvm"]))
	needs := int64(len(readAll(t, guest.kernel))) + 6<<20
	twice := w.sentTwice("/linux.xvm")
	t.Logf("%.1f of %.1f MB were fetched for the first guest, %.1f of them before, %.1f of them twice", float64(sent)/1e6, float64(whole)/1e6, float64(before)/1e6, float64(twice)/1e6)
	// It does not read data.img, of which those who look at disks read the ends.
	if once := sent - twice; once < needs || once > whole-6<<20 {
		t.Errorf("%d bytes were fetched, of %d, for a guest that reads at least %d", once, whole, needs)
	}
	// Three mounts have indexed it. A busy host may ask again for what does not come.
	if twice > whole/10 {
		t.Errorf("%d bytes were fetched twice", twice)
	}

	// A second guest on the same images, PVH.
	d.create("second", "/tmp/second.cfg")
	step("a PVH guest is created")
	d.await("second", guestOK)
	step("the PVH guest has checked its files")
	if more := w.origin.Stats("/linux.xvm").BytesSent - sent; more > sent/10 {
		t.Errorf("the second guest on the images fetched %d bytes more", more)
	}
	d.await("second", "GUEST: written")
	d.run("for i in $(seq 60); do xl list second >/dev/null 2>&1 || break; sleep 0.5; done; qemu-img convert -O raw /tmp/ov/second-root.qcow2 /tmp/ov/raw && grep -q " + guestWrote + " /tmp/ov/raw; s=$?; rm -f /tmp/ov/*; exit $s")
	step("a guest has written through its overlay")

	// An HVM guest with a whole disk, whose serial line xl console shows.
	d.run("vmcastfs config xl --name third /srv/signed/whole >/tmp/third.cfg && grep -q '^vnc = 0' /tmp/third.cfg && xl create -p /tmp/third.cfg && (sleep 600 | xl console third >/var/log/xen/guest-third.log 2>&1 &) && sleep 1 && xl unpause third")
	d.await("third", appliance.BootedLine)
	step("the HVM guest has read its disk")

	// Images of the mount on loop devices.
	if out := d.run("l=$(losetup -f) && losetup -r --direct-io=on $l /srv/hard/plain/blob.img && sha256sum <$l && losetup -d $l"); !strings.Contains(out, blobs["plain"]) {
		t.Errorf("losetup --direct-io=on: %s", out)
	}
	attach := func(file, device string) {
		d.run(fmt.Sprintf("xl block-attach first 'format=raw, vdev=%s, access=ro, target=%s'", device, file))
	}
	saw := func(blob, device string) { d.await("first", "GUEST: "+blobs[blob]+"  /dev/"+device) }
	attach("/srv/hard/plain/blob.img", "xvdb")
	saw("plain", "xvdb")
	d.run("xl block-detach first xvdb && ! losetup -a | grep plain")
	step("a disk was attached, read and detached")

	// The origin is stopped while a guest reads: it goes on by itself with hard. With
	// soft it gets an error, and then the bytes.
	d.run("head -c 4096 /srv/hard/hard/blob.img >/dev/null; head -c 4096 /srv/soft/soft/blob.img >/dev/null")
	start := w.origin.Inject(origin.Fault{Kind: origin.Drop})
	attach("/srv/soft/soft/blob.img", "xvdc")
	d.await("first", "error of /dev/xvdc")
	attach("/srv/hard/hard/blob.img", "xvdd")
	d.run("sleep 8")
	if log := d.run("cat /var/log/xen/guest-first.log"); strings.Contains(log, "error of /dev/xvdd") || strings.Contains(log, blobs["hard"]) {
		t.Errorf("a read did not wait:\n%s", log)
	}
	start()
	saw("hard", "xvdd")
	saw("soft", "xvdc")
	step("a soft read failed, and then did not; a hard read went on")

	// The mount is held, and says by what.
	if out, ok := d.try("vmcastfs umount /srv/hard"); ok || !strings.Contains(out, "/dev/loop") || !strings.Contains(out, "linux/root.img for the Xen domain first (") {
		t.Errorf("umount: %s", out)
	}
	const daemon = "daemon() { for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' <$p/cmdline)\" in *vmcastfs*\"/srv/$1 \") echo ${p#/proc/}; return;; esac; done; }\n"

	// A new version: the old process serves on what is open, while a guest reads it.
	w.origin.SetBandwidth(300e3)
	attach("/srv/hard/late/blob.img", "xvde")
	d.run(daemon + "pid=$(daemon hard) && kill -TERM $pid && for i in $(seq 60); do grep -q /srv/hard /proc/mounts || break; sleep 0.5; done; ! grep -q /srv/hard /proc/mounts && kill -0 $pid")
	w.origin.SetBandwidth(0)
	saw("late", "xvde")
	step("the old process served on after SIGTERM")

	// After kill -9, xl leaves the loop devices, which losetup ends.
	d.run(daemon + "kill -9 $(daemon soft) && xl destroy first; sleep 2; losetup -a; for l in $(losetup -a | cut -d: -f1); do losetup -d $l; done; sleep 1; losetup -a; [ -z \"$(losetup -a)\" ]")
	step("done")
}
