package e2e

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// diskFormat is a format of qemu-img's.
type diskFormat struct {
	name   string // of the file
	driver string // QEMU's
	shown  string // user.vmcast.format
	opts   string // of qemu-img convert
}

var diskFormats = []diskFormat{
	{"disk.raw", "raw", "raw", ""},
	{"disk.qcow2", "qcow2", "qcow2", ""},
	{"packed.qcow2", "qcow2", "qcow2", "-c"},
	{"old.qcow", "qcow", "qcow", ""},
	{"sparse.vmdk", "vmdk", "vmdk", "-o subformat=monolithicSparse"},
	{"stream.vmdk", "vmdk", "vmdk", "-o subformat=streamOptimized"},
	{"dynamic.vhd", "vpc", "vhd", "-o subformat=dynamic,force_size=on"},
	{"fixed.vhd", "vpc", "vhd", "-o subformat=fixed,force_size=on"},
	{"disk.vhdx", "vhdx", "vhdx", ""},
	{"disk.vdi", "vdi", "vdi", ""},
	{"static.vdi", "vdi", "vdi", "-o static=on"},
	{"disk.hdd", "parallels", "parallels", ""},
	{"disk.qed", "qed", "qed", ""},
}

// images makes a disk in each format.
func images(t *testing.T) (raw string, files map[string][]byte) {
	t.Helper()
	testkit.Need(t, "qemu-img")
	dir := t.TempDir()
	disk := make([]byte, 6<<20)
	copy(disk[1<<20:], noise(1<<20, 1))
	copy(disk[5<<20:], lines(1<<19, 2))
	disk[510], disk[511] = 0x55, 0xaa
	raw = filepath.Join(dir, "original")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	files = make(map[string][]byte)
	for _, f := range diskFormats {
		path := filepath.Join(dir, f.name)
		args := append([]string{"convert", "-f", "raw", "-O", f.driver}, strings.Fields(f.opts)...)
		if out, err := command(t, dir, "qemu-img", append(args, raw, path)...); err != nil {
			t.Fatalf("%s: %v: %s", f.name, err, out)
		}
		files[f.name] = readAll(t, path)
	}
	return raw, files
}

// Each format that the drafts name is served, recognized and opened by QEMU
// from its path, as a member of a package and as the enclosure itself.
func TestFormats(t *testing.T) {
	t.Parallel()
	raw, files := images(t)
	w := bareWorld(t)
	var members []member
	for _, f := range diskFormats {
		members = append(members, member{f.name, files[f.name]})
		w.serveAt("bare-"+strings.ReplaceAll(f.name, ".", "-"), "/"+f.name, files[f.name])
	}
	w.serveAt("xz", "/image", filter(t, files["stream.vmdk"], "xz", "-0", "-c"))
	// Each format inside a compression.
	tools := [][]string{{".gz", "gzip"}, {".xz", "xz"}, {".zst", "zstd"}, {".bz2", "bzip2"}}
	inside := func(i int) (suffix, release string) {
		suffix = tools[i%len(tools)][0]
		return suffix, strings.ReplaceAll(diskFormats[i].name+suffix, ".", "-")
	}
	for i, f := range diskFormats {
		suffix, release := inside(i)
		w.serveAt(release, "/"+f.name+suffix, filter(t, files[f.name], tools[i%len(tools)][1], "-1", "-c"))
	}
	w.serveAt("package", "/package.xvm", packListed(t, members...))
	w.mount()
	compare := func(path, driver, shown string) {
		t.Helper()
		if out, err := command(t, "", "qemu-img", "compare", "-U", "-f", driver, "-F", "raw", path, raw); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
		readAll(t, path)
		if got := attr(path, "format"); got != shown {
			t.Errorf("%s: format is %q, want %q", path, got, shown)
		}
	}
	for _, f := range diskFormats {
		compare(w.path("package", f.name), f.driver, f.shown)
		compare(w.path("bare-"+strings.ReplaceAll(f.name, ".", "-"), f.name), f.driver, f.shown)
	}
	for i, f := range diskFormats {
		_, release := inside(i)
		compare(w.path(release, f.name), f.driver, f.shown)
	}
	compare(w.path("xz", "image"), "vmdk", "vmdk")

	text := stdout(t, "config", "qemu", w.path("xz"))
	if !strings.Contains(text, "file="+w.path("xz", "image")+",format=vmdk") {
		t.Errorf("config of a bare VMDK:\n%s", text)
	}
}

// serveAt serves a release at a path of its own.
func (w *world) serveAt(title, path string, content []byte) {
	w.origin.PutBytes(path, content)
	w.items = append(w.items, item{title, path[1:]})
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
}

// An image that names another file is refused, whoever names it; where that is
// allowed it is served.
func TestC3AllowExternal(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-img")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, lines(1<<20, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, "backing.img"},
		{"create", "-q", "-f", "qcow2", "-o", "data_file=data.raw,data_file_raw=on", "datafile.qcow2", "1M"},
		{"create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "flat.vmdk", "1M"},
		{"create", "-q", "-f", "qed", "-F", "raw", "-b", secret, "backing.qed"},
		{"create", "-q", "-f", "qcow2", "good.qcow2", "1M"},
	} {
		if out, err := command(t, dir, "qemu-img", args...); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	bad := []string{"backing.img", "datafile.qcow2", "flat.vmdk", "backing.qed"}
	var members []member
	for _, name := range append(bad, "good.qcow2") {
		members = append(members, member{name, readAll(t, filepath.Join(dir, name))})
	}
	w := bareWorld(t)
	w.publish("one", pack(t, members...))
	w.mount()
	for _, name := range bad {
		if _, err := os.ReadFile(w.path("one", name)); !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s: %v", name, err)
		}
	}
	readAll(t, w.path("one", "good.qcow2"))
	if out, err := w.run("config", "qemu", w.path("one")); exitCode(err) != exitFailed || !strings.Contains(out, "names other files") {
		t.Errorf("config: %v: %s", err, out)
	}
	w.umount()
	w.mount("allow_external")
	for _, m := range members {
		if !bytes.Equal(readAll(t, w.path("one", m.name)), m.content) {
			t.Errorf("%s differs", m.name)
		}
	}
	if out, err := w.run("config", "qemu", w.path("one")); exitCode(err) != exitFailed || !strings.Contains(out, "names another file") {
		t.Errorf("config: %v: %s", err, out)
	}
}

const ovf = `<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r">
<References><File ovf:id="f1" ovf:href="box-disk1.vmdk"/></References><DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1"/></DiskSection>
<VirtualSystem ovf:id="box"><Name>box</Name><VirtualHardwareSection>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>640</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>20</rasd:ResourceType><rasd:ResourceSubType>AHCI</rasd:ResourceSubType></Item>
<Item><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>`

// OVA archives, made by tar with a manifest in each of its forms, and XVA ones
// are packages like any other; all dialects are listed.
func TestOVAAndOthersListed(t *testing.T) {
	t.Parallel()
	raw, files := images(t)
	w := bareWorld(t)
	vmdk := files["stream.vmdk"]
	for title, sum := range map[string]string{
		"ova-sha1":   fmt.Sprintf("SHA1(box.ovf)= %x\nSHA1(box-disk1.vmdk)= %x\n", sha1.Sum([]byte(ovf)), sha1.Sum(vmdk)),
		"ova-sha256": fmt.Sprintf("SHA256(box.ovf)= %x\r\nSHA256(box-disk1.vmdk)= %x\r\n", sha256.Sum256([]byte(ovf)), sha256.Sum256(vmdk)),
		"ova-bad":    fmt.Sprintf("SHA256(box.ovf)= %x\nSHA256(box-disk1.vmdk)= %x\n", sha256.Sum256([]byte(ovf)), sha256.Sum256(nil)),
	} {
		dir := t.TempDir()
		for name, content := range map[string][]byte{"box.ovf": []byte(ovf), "box.mf": []byte(sum), "box-disk1.vmdk": vmdk} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := command(t, dir, "tar", "--format=ustar", "-cf", "box.ova", "box.ovf", "box.mf", "box-disk1.vmdk"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.serveAt(title, "/"+title+".ova", readAll(t, filepath.Join(dir, "box.ova")))
	}
	w.serveAt("ova-gz", "/ova.ova.gz", filter(t, readAll(t, raw), "gzip", "-c"))
	disk := noise(3<<20, 5)
	w.serveAt("xva", "/x.xva", xvaOf(t, disk))
	w.serveAt("xva-zst", "/x.xva.zst", filter(t, xvaOf(t, disk), "zstd", "-q", "-c"))
	for _, c := range []struct{ suffix, tool string }{{"gz", "gzip"}, {"xz", "xz"}, {"bz2", "bzip2"}} {
		w.serveAt("xvm-"+c.suffix, "/p.xvm."+c.suffix, filter(t, packListed(t, member{"xvm.xml", []byte("<xvm/>")}, member{"root.img", disk}), c.tool, "-c"))
	}
	w.serveAt("xvm2", "/h.xvm2", pack(t, member{"description.xml", []byte("<domain/>")}, member{"manifest.txt", fmt.Appendf(nil, "hd0.img %d %s\n", len(disk), hexMD5(disk))},
		member{"hd0.img.gz", filter(t, disk, "gzip", "-c")}))
	w.serveAt("archipel", "/a.xvm2", pack(t, member{"/description.xml", []byte("<domain/>")}, member{"/drive.qcow2.gz", filter(t, files["disk.qcow2"], "gzip", "-c")}))
	w.serveAt("bare", "/bare.vmdk", vmdk)

	out, err := w.run("list", "-o", w.options(), w.feed)
	if err != nil {
		t.Errorf("list: %v\n%s", err, out)
	}
	for _, it := range w.items {
		if !strings.Contains(out, it.title+" ") {
			t.Errorf("%s is not listed", it.title)
		}
	}
	for _, want := range []string{"box-disk1.vmdk", "disk0.img: 3.0 MiB", "root.img: 3.0 MiB", "hd0.img: 3.0 MiB", "drive.qcow2", "bare.vmdk"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	w.mount()
	for _, title := range []string{"ova-sha1", "ova-sha256"} {
		path := w.path(title, "box-disk1.vmdk")
		if out, err := command(t, "", "qemu-img", "compare", "-U", "-f", "vmdk", "-F", "raw", path, raw); err != nil {
			t.Errorf("%s: %v: %s", title, err, out)
		}
		hold(t, path)
		testkit.Eventually(t, title+" verified", time.Minute, func() bool { return attr(path, "state") == "verified" })
	}
	hold(t, w.path("ova-bad", "box-disk1.vmdk"))
	testkit.Eventually(t, "the wrong sum is found", time.Minute, func() bool { return attr(w.path("ova-bad", "box-disk1.vmdk"), "state") == "corrupt" })
	text := stdout(t, "config", "libvirt", w.path("ova-sha256"))
	for _, want := range []string{`<driver name="qemu" type="vmdk"/>`, `<memory unit="MiB">640</memory>`, `<vcpu>2</vcpu>`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	for _, c := range [][]string{{"xva", "disk0.img"}, {"xva-zst", "disk0.img"}, {"xvm-gz", "root.img"}, {"xvm-xz", "root.img"}, {"xvm-bz2", "root.img"}, {"xvm2", "hd0.img"}} {
		w.wantFile(disk, c...)
	}
	text = stdout(t, "config", "qemu", w.path("xva"))
	if !strings.Contains(text, w.path("xva", "disk0.img")+",format=raw") || !strings.Contains(text, "-m 768") {
		t.Errorf("config of an XVA:\n%s", text)
	}
}

// xvaOf is an XVA archive of one disk, made by hand.
func xvaOf(t *testing.T, disk []byte) []byte {
	t.Helper()
	field := func(name, value string) string {
		return "<member><name>" + name + "</name><value>" + value + "</value></member>"
	}
	object := func(class, id, fields string) string {
		return "<value><struct>" + field("class", class) + field("id", id) + field("snapshot", "<struct>"+fields+"</struct>") + "</struct></value>"
	}
	xml := "<value><struct><member><name>objects</name><value><array><data>" +
		object("VM", "Ref:0", field("name_label", "wiki")+field("memory_static_max", "805306368")+field("HVM_boot_policy", "BIOS order")) +
		object("VBD", "Ref:1", field("VM", "Ref:0")+field("VDI", "Ref:4")+field("userdevice", "0")+field("type", "Disk")) +
		object("VDI", "Ref:4", field("virtual_size", fmt.Sprint(len(disk)))) +
		"</data></array></value></member></struct></value>"
	members := []member{{"ova.xml", []byte(xml)}}
	for n := 0; n < len(disk)>>20; n++ {
		chunk := disk[n<<20 : (n+1)<<20]
		name := fmt.Sprintf("Ref:4/%08d", n)
		members = append(members, member{name, chunk}, member{name + ".checksum", fmt.Appendf(nil, "%x", sha1.Sum(chunk))})
	}
	return pack(t, members...)
}
