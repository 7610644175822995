package e2e

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
)

// TestSnapshotDisks makes machines with snapshot disks in a Linux that has
// device-mapper, which this kernel may lack. There it also runs the tests of package
// machines that need it.
func TestSnapshotDisks(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	content := append(sectorDisk("first"), noise(3<<20, 1)...)
	w.publish("one", packListed(t, member{"root.img", content}))
	began := time.Now()
	d := bootMapper(t)
	d.run("dmsetup version && mkdir -p /srv/m /tmp/vms")
	t.Logf("%4.0f s: the host is up", time.Since(began).Seconds())
	out := d.run("cd /tmp && machines.test -test.v -test.run '^TestSnapshot'")
	if strings.Contains(out, "SKIP") || !strings.Contains(out, "--- PASS: TestSnapshotKilled") || !strings.Contains(out, "--- PASS: TestSnapshot ") {
		t.Errorf("%s", out)
	}
	t.Logf("%4.0f s: the tests of package machines have passed", time.Since(began).Seconds())

	there := "http://10.0.2.2" + strings.TrimPrefix(w.origin.URL(), "http://127.0.0.1")
	d.run("vmcastfs mount -o complete=off,prewarm=off,retry=0,cache=/tmp/c,state=/tmp/s,cache_free=0,vms=/tmp/vms " + there + appliance.FeedPath + " /srv/m")
	vm := func(args string) string { return d.run("vmcastfs vm --vms /tmp/vms " + args) }
	vm("create a /srv/m/one --disk snapshot --for xl")
	if cfg := d.run("cat /tmp/vms/a/xl.cfg"); !strings.Contains(cfg, "/dev/mapper/vmcastfs-a-root.raw") || strings.Contains(cfg, "access=ro") {
		t.Errorf("%s", cfg)
	}
	// Without Xen a start fails, and leaves no block device.
	if out, ok := d.try("vmcastfs vm --vms /tmp/vms start a"); ok {
		t.Errorf("start without Xen: %s", out)
	}
	nothing := "[ -z \"$(losetup -a)\" ] && dmsetup ls | grep -q 'No devices'"
	d.run(nothing)

	// What a guest writes is packed by commit, and gone after a reset. The disk is what
	// start makes of it.
	device := "d=/tmp/vms/a/disks/a-root.raw; o=$(losetup -r -f --show /srv/m/one/root.img) && c=$(losetup -f --show $d) && " +
		fmt.Sprintf("dmsetup create vmcastfs-a-root.raw --table \"0 %d snapshot $o $c P 8\" && losetup -d $o $c && ", len(content)/512)
	d.run(device + "printf written | dd of=/dev/mapper/vmcastfs-a-root.raw bs=1 seek=1048576 conv=notrunc,fsync")
	changed := append([]byte(nil), content...)
	copy(changed[1<<20:], "written")
	sum := func(p []byte) string { return fmt.Sprintf("%x", sha256.Sum256(p)) }
	if out := d.run("sha256sum </dev/mapper/vmcastfs-a-root.raw"); !strings.HasPrefix(out, sum(changed)) {
		t.Errorf("the disk is %s", out)
	}
	d.run("exec 9</dev/mapper/vmcastfs-a-root.raw; vmcastfs vm --vms /tmp/vms list | grep running; for c in 'reset a' 'remove a' 'commit a -o /tmp/x.xvm'; do ! vmcastfs vm --vms /tmp/vms $c 2>/tmp/said && grep 'it runs' /tmp/said || exit 1; done")
	vm("list | grep stopped")
	vm("commit a -o /tmp/two.xvm")
	d.run(nothing)
	if out := d.run("cd /tmp && tar xOf two.xvm root.img.gz | gunzip | sha256sum"); !strings.HasPrefix(out, sum(changed)) {
		t.Errorf("the package holds %s", out)
	}
	vm("reset a")
	if out := d.run(device + "sha256sum </dev/mapper/vmcastfs-a-root.raw"); !strings.HasPrefix(out, sum(content)) {
		t.Errorf("after a reset the disk is %s", out)
	}
	vm("remove a")
	d.run(nothing + " && [ -z \"$(ls /tmp/vms)\" ] && vmcastfs umount /srv/m")
	t.Logf("%4.0f s: done", time.Since(began).Seconds())
}
