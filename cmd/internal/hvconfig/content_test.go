package hvconfig

import (
	"encoding/xml"
	"strings"
	"testing"
)

// What QEMU, libvirt and xl get, word for word where it matters.
func TestContent(t *testing.T) {
	type want struct{ has, not []string }
	for _, c := range []struct {
		release           string
		overlay           bool
		qemu, libvirt, xl want
	}{
		{release: "demo",
			qemu:    want{has: []string{"format=raw", "virtio-blk-pci,drive=drive0,bootindex=1", "rel/data.img,format=raw", "-nic none", "-accel tcg"}, not: []string{".gz", "kvm"}},
			libvirt: want{has: []string{`<domain type="qemu">`, `<driver name="qemu" type="raw"/>`, "<readonly/>", `<source file="/srv/vmcast/rel/data.img"/>`}, not: []string{".gz", "kvm"}},
			xl:      want{has: []string{`type = "hvm"`, "format=raw, vdev=sda, access=ro, target=/srv/vmcast/rel/disk.img", `boot = "cd"`}, not: []string{".gz"}}},
		{release: "demo", overlay: true,
			libvirt: want{has: []string{`<format type="raw"/>`, `type="qcow2"`}, not: []string{"<readonly/>"}},
			xl:      want{has: []string{"format=qcow2, vdev=xvda, access=rw, target=/var/lib/o--v, x/rel-disk.qcow2"}, not: []string{"access=ro"}}},
		{release: "bare", qemu: want{has: []string{"format=qcow2,if=none"}}, libvirt: want{has: []string{`type="qcow2"`}}, xl: want{has: []string{"format=qcow2, vdev=sda"}}},
		{release: "iso", qemu: want{has: []string{"media=cdrom", "readonly=on"}}, libvirt: want{has: []string{`device="cdrom"`}}, xl: want{has: []string{"devtype=cdrom", `boot = "dc"`, "vdev=hdc"}}},
		{release: "partitions",
			qemu:    want{has: []string{"-kernel /srv/vmcast/rel/boot/vmlinuz", "-initrd /srv/vmcast/rel/boot/initrd", "-append 'root=/dev/vda ro console=ttyS0'", "rel/swap.img"}, not: []string{"bootindex"}},
			libvirt: want{has: []string{"<kernel>/srv/vmcast/rel/boot/vmlinuz</kernel>", "<cmdline>root=/dev/vda ro console=ttyS0</cmdline>", "swap.img is left out"}, not: []string{"<boot order", "swap.img"}},
			xl:      want{has: []string{`type = "pv"`, "vdev=xvda1", "# swap.img is left out", `cmdline = "root=/dev/xvda1 ro console=hvc0"`, `ramdisk = "/srv/vmcast/rel/boot/initrd"`}, not: []string{"serial", "boot =", "xvda2"}}},
		{release: "partitions", overlay: true, xl: want{has: []string{"vdev=xvda2, access=rw", "#   [ -e '/var/lib/o--v, x/rel-swap.qcow2' ] || qemu-img create"}}, libvirt: want{has: []string{"rel-swap.qcow2"}}},
		{release: "pvh", qemu: want{has: []string{"virtio-blk-pci,drive=drive0", "# console=ttyS0 is added as the last", "-append 'root=/dev/vda console=hvc0 console=ttyS0 ro -- single'"}},
			libvirt: want{has: []string{`<target dev="vda" bus="virtio"/>`, "console=hvc0 console=ttyS0 ro"}},
			xl:      want{has: []string{`type = "pvh"`, "vdev=xvda1", `cmdline = "root=/dev/xvda1 console=hvc0 ro -- single"`}, not: []string{"vnc", "serial"}}},
		{release: "console", qemu: want{has: []string{"-append 'console=tty0 console=ttyS0,115200n8 root=/dev/vda1'"}, not: []string{"is added"}}, xl: want{has: []string{`cmdline = "console=tty0 console=ttyS0,115200n8 console=hvc0 root=/dev/xvda1"`}}},
		{release: "ide", qemu: want{has: []string{"ide-hd,bus=ide.0"}}, xl: want{has: []string{`serial = "pty"`, "vnc = 0"}}},
		{release: "vnc", qemu: want{has: []string{"-vnc 127.0.0.1:0,to=99"}, not: []string{"-nographic"}}, libvirt: want{has: []string{`<graphics type="vnc" port="-1" autoport="yes" listen="127.0.0.1"/>`}}, xl: want{has: []string{"vnc = 1\nvnclisten = \"127.0.0.1\""}}},
		{release: "encrypted", qemu: want{has: []string{"-object secret,id=key,file=/home/a/pass", "encrypt.format=luks,encrypt.key-secret=key"}}},
		{release: "swap first", qemu: want{has: []string{"root=/dev/vdb ro"}}, libvirt: want{has: []string{"root=/dev/vda ro"}}, xl: want{has: []string{"root=/dev/xvda2 ro"}}},
		{release: "old names", qemu: want{has: []string{"root=/dev/vda ro"}}, xl: want{has: []string{"vdev=xvda1", "vdev=xvda2", "root=/dev/xvda1 ro"}}},
		{release: "no names", qemu: want{has: []string{"root=/dev/vda ro"}}, libvirt: want{has: []string{"root=/dev/vda ro"}}, xl: want{has: []string{"vdev=xvda1", "vdev=xvda2", "root=/dev/xvda1 ro"}}},
		{release: "joined",
			qemu:    want{has: []string{"rel/disk.img,format=raw", "virtio-blk-pci,drive=drive0", "rel/data.img,format=raw", "root=/dev/vda3 ro"}, not: []string{"root.img", "swap.img"}},
			libvirt: want{has: []string{"rel/root.img", "root=/dev/vda ro"}, not: []string{"disk.img", "swap.img"}},
			xl:      want{has: []string{"vdev=xvda3", "root=/dev/xvda3 ro"}, not: []string{"disk.img"}}},
		{release: "joined", overlay: true, libvirt: want{has: []string{"rel-disk.qcow2", "root=/dev/vda3 ro"}}, qemu: want{has: []string{"-F raw -b /srv/vmcast/rel/disk.img '/var/lib/o--v, x/rel-disk.qcow2'"}}},
		{release: "joined as a disk", qemu: want{has: []string{"root=/dev/vda1 ro"}}, libvirt: want{has: []string{"root=/dev/vda1 ro"}}},
		{release: "joined without names", qemu: want{has: []string{"rel/disk.img", "virtio-blk-pci", "root=/dev/vda1 ro"}, not: []string{"imagefile"}}, libvirt: want{has: []string{"root=/dev/vda ro"}}},
		{release: "hd to root", qemu: want{has: []string{"root=/dev/vda3 console=ttyS0"}}, xl: want{has: []string{"vdev=sda", "root=/dev/xvda3 console=ttyS0"}}},
		{release: "own kernel", qemu: want{has: []string{"-kernel /boot/vmlinuz", "-append 'root=/dev/vda single'"}}, xl: want{has: []string{`kernel = "/boot/vmlinuz"`, "vdev=xvda1", `"root=/dev/vda single"`}}},
		{release: "every bus",
			qemu:    want{has: []string{"ide-hd,bus=ide.0,unit=0", "ide-hd,bus=sata0.0", "scsi-hd,bus=scsi0.0", "usb-storage", "OVMF", "ide-cd,bus=sata0.1", "floppy,unit=0", "e1000", "rtl8139", "virtio-net-pci"}},
			libvirt: want{has: []string{`<os firmware="efi">`, `bus="scsi"`, `model="virtio-scsi"`, "IDE drives cannot be read-only", "SATA drives cannot"}, not: []string{"nvme"}},
			xl:      want{has: []string{`bios = "ovmf"`, "vdev=hdc", "vdev=hdd", "# no floppy"}, not: []string{"vif"}}},
		{release: "every bus", overlay: true, libvirt: want{has: []string{`dev="hda" bus="ide"`, `dev="sda" bus="sata"`}, not: []string{"cannot be read-only"}}},
		{release: "hostile",
			qemu:    want{has: []string{"file=/srv/vmcast/rel/disk.img,format=raw", "-netdev user", "-name rel"}},
			libvirt: want{has: []string{"<name>rel</name>", `<interface type="user">`}},
			xl:      want{has: []string{`name = "rel"`}, not: []string{"vif"}}},
		{release: "network", qemu: want{has: []string{"bridge,id=net0,br=guests", "-accel kvm -accel tcg"}}, libvirt: want{has: []string{`<source network="guests"/>`, `<domain type="kvm">`}}, xl: want{has: []string{`"bridge=guests,model=e1000"`}}},
		{release: "luks", qemu: want{has: []string{"format=raw", "root=/dev/mapper/root"}}, xl: want{has: []string{"vdev=xvda1", "which the guest unlocks"}}},
		{release: "luks unlocked", qemu: want{has: []string{"format=luks,if=none,id=drive0,snapshot=on,key-secret=key"}}},
		{release: "luks unlocked", overlay: true, qemu: want{has: []string{"-F luks", ",backing.key-secret=key"}}},
		{release: "places", qemu: want{has: []string{"root=/dev/vdb1 resume=/dev/vda2"}}, xl: want{has: []string{"vdev=sdb", "root=/dev/xvdb1 resume=/dev/xvda2"}}},
		{release: "places without names", qemu: want{has: []string{"root=/dev/vdb1"}}, libvirt: want{has: []string{"root=/dev/vdb1"}}},
		{release: "hidden partitions", qemu: want{has: []string{"rel/swap.qcow2", "root=/dev/vdb ro"}}, libvirt: want{has: []string{"swap.qcow2 is left out", "root=/dev/vda ro"}, not: []string{"swap.qcow2"}},
			xl: want{has: []string{"# swap.qcow2 is left out", "format=qcow2, vdev=xvda2, access=ro", "root=/dev/xvda2 ro"}, not: []string{"vdev=xvda1"}}},
		{release: "arm", qemu: want{has: []string{"qemu-system-aarch64", "-machine virt", "QEMU_EFI.fd", "scsi-cd"}}, libvirt: want{has: []string{`arch="aarch64"`, `firmware="efi"`}}},
	} {
		r := releases()[c.release]
		if c.overlay {
			r = r.withOverlay()
		}
		m, err := r.plan()
		if err != nil {
			t.Fatalf("%s: %v", c.release, err)
		}
		for form, x := range map[string]struct {
			write func() (string, error)
			want  want
		}{"qemu": {m.QEMU, c.qemu}, "libvirt": {m.Libvirt, c.libvirt}, "xl": {m.XL, c.xl}} {
			text, err := x.write()
			if err != nil {
				if form == "xl" && c.release == "arm" || form != "qemu" && (c.release == "encrypted" || c.release == "luks unlocked") && strings.Contains(err.Error(), "--secret") {
					continue
				}
				t.Fatalf("%s, %s: %v", c.release, form, err)
			}
			for _, s := range x.want.has {
				if !strings.Contains(text, s) {
					t.Errorf("%s, %s: no %q in\n%s", c.release, form, s, text)
				}
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "# ") && len(line) > 81 && !strings.ContainsAny(line, "/'") {
					t.Errorf("%s, %s: a comment is too wide: %s", c.release, form, line)
				}
			}
			for _, s := range append(x.want.not, "br-internal", "52:54", "evil", "/etc/", "/root/", "shadow", "production", "6f1c1d5e", "/dev/sda\"", "hostdev", "filesystem type") {
				if body := uncomment(text); strings.Contains(body, s) {
					t.Errorf("%s, %s: %q in\n%s", c.release, form, s, text)
				}
			}
		}
	}
}

// uncomment leaves out what is for people.
func uncomment(text string) string {
	if _, after, ok := strings.Cut(text, "\n-->\n"); ok {
		return after
	}
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// The notes of hostile descriptions do not break out of their comments.
func TestNotesStayComments(t *testing.T) {
	r := release{
		description: `<xvm><kernel>a--&gt;&lt;x/&gt;&#10;b</kernel><disk file="a"/><disk file="../--&gt;&#10;exec evil"/></xvm>`,
		files:       map[string]File{"a": mbr},
	}
	m, err := r.plan()
	if err != nil {
		t.Fatal(err)
	}
	m.Notes = append(m.Notes, oneLine("x\ny\u2028--><evil/>"))
	text, err := m.Libvirt()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Inner string `xml:",innerxml"`
	}
	if err := xml.Unmarshal([]byte(text), &d); err != nil || strings.Contains(d.Inner, "evil") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, write := range []func() (string, error){m.QEMU, m.XL} {
		text, err := write()
		if err != nil || strings.Contains(uncomment(text), "evil") {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
