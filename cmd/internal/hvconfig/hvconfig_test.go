package hvconfig

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcastfs/xvm"
)

// release is a made-up directory.
type release struct {
	dir         string
	description string // a document; "": there is none
	files       map[string]File
	options     Options
}

func image(format, kind string, boot bool) File {
	return File{Disk: xvm.Disk{Format: format, Kind: kind}, Boot: boot}
}

var (
	mbr  = image("raw", "mbr", true)
	ext4 = image("raw", "ext4", false)
	swap = image("raw", "swap", false)
	iso  = image("raw", "iso9660", true)
	data = image("raw", "", false)
)

func (r release) plan() (*Machine, error) {
	d := &xvm.Description{}
	if r.description != "" {
		var err error
		if d, err = xvm.ParseDescription([]byte(r.description)); err != nil {
			return nil, err
		}
	}
	exists := func(name string) bool { _, ok := r.files[name]; return ok }
	var names []string
	files := make(map[string]File)
	for name, f := range r.files {
		f.Name = name
		files[name] = f
		names = append(names, name)
	}
	slices.Sort(names)
	drives, notes, err := Choose(d, names, exists)
	if err != nil {
		return nil, err
	}
	o := r.options
	if o.Dir = r.dir; o.Dir == "" {
		o.Dir = "/srv/vmcast/rel"
	}
	if o.Name == "" {
		o.Name = filepath.Base(o.Dir)
	}
	m, err := New(d, drives, files, exists, o)
	if err != nil {
		return nil, err
	}
	m.Notes = append(m.Notes, notes...)
	return m, nil
}

// hostile is a domain that asks for whatever a domain could do to its host.
const hostile = `<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>production-db</name><uuid>6f1c1d5e-0b1a-4c6b-9a55-0123456789ab</uuid>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><loader type='rom'>/etc/loader</loader>
    <kernel>/etc/shadow</kernel><initrd>/root/.ssh/id_rsa</initrd><cmdline>evil=1</cmdline></os>
  <devices>
    <emulator>/tmp/evil-emulator</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/etc/disk.img'/><target dev='vda' bus='virtio'/></disk>
    <disk type='block' device='disk'><source dev='/dev/sda'/><target dev='vdb'/></disk>
    <disk type='network' device='disk'><source protocol='nbd' name='x'><host name='evil.example'/></source><target dev='vdc'/></disk>
    <filesystem type='mount'><source dir='/'/><target dir='host'/></filesystem>
    <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0' slot='3' function='0'/></source></hostdev>
    <interface type='bridge'><source bridge='br-internal'/><mac address='52:54:00:11:22:33'/><script path='/tmp/evil-script'/></interface>
    <serial type='file'><source path='/etc/cron.d/evil'/></serial>
  </devices>
  <qemu:commandline><qemu:arg value='-evil'/></qemu:commandline>
</domain>`

// releases are written in all three forms by the tests below.
func releases() map[string]release {
	return map[string]release{
		"demo": {
			description: `<xvm><name>demo</name><memory unit="MiB">16</memory><disk file="disk.img" target="vda"/><disk file="data.img.gz" target="vdb"/></xvm>`,
			files:       map[string]File{"disk.img": mbr, "data.img.gz": image("gzip", "", false), "data.img": data, "xvm.xml": data},
		},
		"bare": {files: map[string]File{"image.qcow2": image("qcow2", "", false), "notes.html": data}},
		"iso":  {files: map[string]File{"installer.iso": iso}},
		"partitions": {
			description: `<xvm><machine>pv</machine><memory>256</memory><kernel>boot/vmlinuz</kernel><ramdisk>boot/initrd</ramdisk><cmdline>root=/dev/xvda1 ro</cmdline>
				<disk file="root.img" target="xvda1"/><disk file="swap.img" target="xvda2"/><interface/></xvm>`,
			files: map[string]File{"root.img": ext4, "swap.img": swap, "boot/vmlinuz": data, "boot/initrd": data},
		},
		"old names": {
			description: `<xvm><kernel>k</kernel><cmdline>root=/dev/sda1 ro</cmdline><imagefile target="sda1">imagefile</imagefile><imagefile target="sda2">imagefile2</imagefile></xvm>`,
			files:       map[string]File{"imagefile": ext4, "imagefile2": ext4, "k": data},
		},
		"no names": {
			description: `<xvm><kernel>k</kernel></xvm>`,
			files:       map[string]File{"imagefile": ext4, "imagefile2": ext4, "k": data},
		},
		"joined": {
			description: `<xvm><kernel>k</kernel><cmdline>root=/dev/sda3 ro</cmdline><disk file="swap.img.gz" target="sda2"/><disk file="root.img" target="sda3"/><disk file="data.img" target="sdb"/></xvm>`,
			files:       map[string]File{"root.img": ext4, "swap.img.gz": image("gzip", "", false), "swap.img": swap, "data.img": data, "k": data},
			options:     Options{Joined: Joined{"disk.img", []Part{{2, "swap.img"}, {3, "root.img"}}}},
		},
		"joined as a disk": {
			description: `<xvm><kernel>k</kernel><cmdline>root=/dev/vda ro</cmdline><disk file="root.img" target="vda"/></xvm>`,
			files:       map[string]File{"root.img": ext4, "k": data},
			options:     Options{Joined: Joined{"disk.img", []Part{{1, "root.img"}}}},
		},
		"joined without names": {
			description: `<xvm><kernel>k</kernel></xvm>`,
			files:       map[string]File{"imagefile": ext4, "imagefile2": swap, "k": data},
			options:     Options{Joined: Joined{"disk.img", []Part{{1, "imagefile"}, {2, "imagefile2"}}}},
		},
		"hd to root": {
			description: `<xvm><kernel>k</kernel><cmdline>root=/dev/hda3 console=ttyS0</cmdline><disk file="a" target="hda" bus="virtio"/></xvm>`,
			files:       map[string]File{"a": mbr, "k": data},
		},
		"own kernel": {
			files:   map[string]File{"root.img": ext4},
			options: Options{Kernel: "/boot/vmlinuz", Ramdisk: "/boot/initrd.img", Append: "root=/dev/vda single"},
		},
		"every bus": {
			description: `<xvm><firmware>uefi</firmware><disk file="a" bus="ide"/><disk file="b" bus="sata"/><disk file="c" bus="scsi"/><disk file="d" bus="usb"/>
				<disk file="e" bus="nvme"/><disk file="f" type="cdrom"/><disk file="g" type="floppy"/><disk file="h" type="cdrom" bus="ide"/>
				<interface model="e1000"/><interface model="rtl8139"/><interface model="netfront"/></xvm>`,
			files: map[string]File{"a": mbr, "b": mbr, "c": data, "d": data, "e": data, "f": iso, "g": data, "h": iso},
		},
		"odd paths": {
			dir:         `/srv/a b,c'd"e\f$(id)--g;&<h>---i`,
			description: `<xvm><kernel>k</kernel><cmdline>a="b c" $(id) 'x' \ , root=/dev/vda1</cmdline><disk file="disk one.img" target="vda"/></xvm>`,
			files:       map[string]File{"disk one.img": mbr, "k": data},
		},
		"hostile": {description: hostile, files: map[string]File{"disk.img": mbr}},
		"network": {
			description: `<xvm><disk file="a"/><interface network="br-internal" model="e1000"/></xvm>`, files: map[string]File{"a": mbr},
			options: Options{Network: "guests", KVM: true},
		},
		"arm": {description: `<xvm><arch>aarch64</arch><disk file="a" bus="ide"/><disk file="c" type="cdrom"/></xvm>`, files: map[string]File{"a": image("raw", "gpt", true), "c": iso}},
		"pvh": {
			description: `<xvm><machine>pvh</machine><kernel>k</kernel><cmdline>root=/dev/sda1 console=hvc0 ro -- single</cmdline><disk file="root.img" target="sda1"/></xvm>`,
			files:       map[string]File{"root.img": ext4, "k": data},
		},
		"console": {
			description: `<xvm><machine>pv</machine><kernel>k</kernel><cmdline>console=tty0 console=ttyS0,115200n8 root=/dev/vda1</cmdline><disk file="a" target="vda"/></xvm>`,
			files:       map[string]File{"a": mbr, "k": data},
		},
		"ide":       {description: `<xvm><disk file="a" target="hda"/></xvm>`, files: map[string]File{"a": mbr}},
		"vnc":       {files: map[string]File{"a": mbr}, options: Options{VNC: true}},
		"encrypted": {files: map[string]File{"a": {Disk: xvm.Disk{Format: "qcow2", Encrypted: "luks"}}}, options: Options{Secret: "/home/a/pass"}},
		"swap first": {
			description: `<xvm><kernel>k</kernel></xvm>`, files: map[string]File{"a": swap, "b": ext4, "k": data},
		},
		"luks":          {description: `<xvm><kernel>k</kernel><cmdline>root=/dev/mapper/root</cmdline><disk file="a" target="vda1"/></xvm>`, files: map[string]File{"a": image("luks", "", false), "k": data}},
		"luks unlocked": {files: map[string]File{"a": image("luks", "", false)}, options: Options{Secret: "/home/a/pass"}},
		"places": {
			description: `<xvm><machine>hvm</machine><kernel>k</kernel><cmdline>root=/dev/xvdb1 resume=/dev/nvme0n1p2</cmdline><disk file="a" target="sda"/><disk file="b" target="sdb"/></xvm>`,
			files:       map[string]File{"a": mbr, "b": mbr, "k": data},
		},
		"places without names": {description: `<xvm><kernel>k</kernel><cmdline>root=/dev/sdb1</cmdline></xvm>`, files: map[string]File{"a": mbr, "b": mbr, "k": data}},
		"hidden partitions": {
			description: `<xvm><machine>pv</machine><kernel>k</kernel><disk file="swap.qcow2" target="sda1"/><disk file="root.qcow2" target="sda2"/></xvm>`,
			files:       map[string]File{"swap.qcow2": image("qcow2", "", false), "root.qcow2": image("qcow2", "", false), "k": data},
		},
	}
}

// withOverlay is the same release with overlays.
func (r release) withOverlay() release {
	r.options.Overlay = "/var/lib/o--v, x"
	return r
}

// each calls f for every release, with and without overlays.
func each(t *testing.T, f func(t *testing.T, name string, m *Machine)) {
	for name, r := range releases() {
		for suffix, r := range map[string]release{"": r, ", overlay": r.withOverlay()} {
			t.Run(name+suffix, func(t *testing.T) {
				m, err := r.plan()
				if err != nil {
					t.Fatal(err)
				}
				f(t, name+suffix, m)
			})
		}
	}
}

// words runs a script of QEMU's form with functions in the place of its
// commands, and returns what they were called with.
func words(t *testing.T, script string) (calls [][]string) {
	t.Helper()
	const shim = `call() { printf 'CALL\0'; printf '%s\0' "$@"; }
qemu-img() { call qemu-img "$@"; }; qemu-system-x86_64() { call qemu-system-x86_64 "$@"; }; qemu-system-aarch64() { call qemu-system-aarch64 "$@"; }
eval "$SCRIPT"`
	cmd := exec.Command("bash", "-c", shim)
	cmd.Env = []string{"SCRIPT=" + script, "PATH=/nonexistent"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, script)
	}
	for _, call := range strings.Split(string(out), "CALL\x00")[1:] {
		calls = append(calls, strings.Split(strings.TrimSuffix(call, "\x00"), "\x00"))
	}
	return calls
}

func after(args []string, flag string) (values []string) {
	for i, a := range args[:len(args)-1] {
		if a == flag {
			values = append(values, args[i+1])
		}
	}
	return values
}

// The shell passes on what was meant, whatever the names hold, and QEMU's
// options hold the paths with their commas doubled.
func TestQEMU(t *testing.T) {
	each(t, func(t *testing.T, name string, m *Machine) {
		script, err := m.QEMU()
		m = m.single(false)
		if err != nil {
			t.Fatal(err)
		}
		calls := words(t, script)
		last := calls[len(calls)-1]
		drives := after(last, "-drive")
		if len(drives) != len(m.Drives) {
			t.Fatalf("%d drives in\n%s", len(drives), script)
		}
		overlays := 0
		for i, v := range m.Drives {
			path, format := v.Path, v.Format
			if v.Overlay != "" {
				if got := calls[overlays]; !slices.Equal(got, []string{"qemu-img", "create", "-q", "-f", "qcow2", "-F", v.Format, "-b", v.Path, v.Overlay}) {
					t.Errorf("overlay is made by %q", got)
				}
				overlays++
				path, format = v.Overlay, "qcow2"
			} else if !strings.Contains(drives[i], ",snapshot=on") && !strings.Contains(drives[i], ",readonly=on") {
				t.Errorf("%s would be written to", drives[i])
			}
			if want := fmt.Sprintf("file=%s,format=%s,if=none,id=drive%d", strings.ReplaceAll(path, ",", ",,"), format, i); !strings.HasPrefix(drives[i], want) {
				t.Errorf("drive %q, want %q", drives[i], want)
			}
		}
		if len(calls) != overlays+1 {
			t.Errorf("%d commands for %d overlays:\n%s", len(calls), overlays, script)
		}
	})
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		r    release
		want string
	}{
		"partition without a kernel": {release{files: map[string]File{"root.img": ext4}}, "is the image of a partition"},
		"its kernel is no member": {release{description: `<xvm><kernel>/boot/vmlinuz</kernel><disk file="root.img"/></xvm>`,
			files: map[string]File{"root.img": ext4}}, "is the image of a partition"},
		"dirty":      {release{files: map[string]File{"a": {Disk: xvm.Disk{Format: "vhdx", Dirty: true}}}}, "qemu-img check -r all"},
		"luks":       {release{files: map[string]File{"a": image("luks", "", false)}}, "--secret FILE"},
		"qcow2 part": {release{description: `<xvm><disk file="a" target="sda1"/></xvm>`, files: map[string]File{"a": image("qcow2", "", false)}}, "virt-get-kernel --format qcow2"},
		"boot part":  {release{files: map[string]File{"root.img": ext4, "boot.img": ext4}}, "| debugfs -f - /srv/vmcast/rel/boot.img"},
		"ext kernel": {release{files: map[string]File{"root.img": ext4}}, " | debugfs -f - /srv/vmcast/rel/root.img && echo --kernel $(ls -v rel/vmlinu*"},
		"xfs kernel": {release{files: map[string]File{"a": swap, "root.img": image("raw", "xfs", false)}}, "virt-get-kernel --format raw -a /srv/vmcast/rel/root.img -o rel"},
		"no image":   {release{files: map[string]File{"xvm.xml": data}}, "no disk image"},
		"no disk":    {release{description: `<xvm><disk file="x.img"/></xvm>`, files: map[string]File{"y.img": mbr}}, `"x.img"`},
		"backing":    {release{files: map[string]File{"a": {Disk: xvm.Disk{Format: "qcow2", External: []string{"/etc/shadow"}}}}}, "/etc/shadow"},
		"packed":     {release{files: map[string]File{"a.gz": image("gzip", "", false)}}, "compressed"},
		"newline":    {release{dir: "/srv/a\nb", files: map[string]File{"a": mbr}}, "do not print"},
		"relative":   {release{dir: "srv", files: map[string]File{"a": mbr}}, "absolute"},
		"strange":    {release{description: `<xvm><arch>s390x</arch></xvm>`, files: map[string]File{"a": mbr}}, "s390x"},
		"lost disk":  {release{description: `<domain><devices><disk><source file="/etc/passwd"/></disk></devices></domain>`, files: map[string]File{"a": mbr}}, "passwd"},
	} {
		m, err := c.r.plan()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
	if _, err := (release{files: map[string]File{"root.img": ext4}}).plan(); !errors.Is(err, ErrNotBootable) {
		t.Error(err)
	}
	m, err := release{files: map[string]File{"a": {Disk: xvm.Disk{Format: "qcow2", Encrypted: "luks"}}}}.plan()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.QEMU(); err == nil || !strings.Contains(err.Error(), "--secret FILE") {
		t.Errorf("encrypted: %v", err)
	}
	for _, write := range []func() (string, error){m.XL, m.Libvirt} {
		if _, err := write(); err == nil || !strings.Contains(err.Error(), "qemu-img convert --object") {
			t.Errorf("encrypted: %v", err)
		}
	}
	m, err = release{files: map[string]File{"a.vmdk": image("vmdk", "sparse", false)}}.plan()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.XL(); err == nil || !strings.Contains(err.Error(), "--overlay") {
		t.Errorf("xl and a VMDK: %v", err)
	}
}
