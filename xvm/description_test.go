package xvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func readDescription(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/description", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseDescription(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Description{
		"xvm.xml": {
			Kind: "xvm", Arch: "x86_64", MemoryMiB: 512, CPUs: 2, Machine: "pv",
			Kernel: "vmlinuz", Ramdisk: "initrd.img", Cmdline: "root=/dev/xvda1 ro console=hvc0",
			Drives: []Drive{
				{File: "root.img", Target: "xvda1", Bus: "xen", Boot: 1},
				{File: "swap.img", Target: "xvda2", Bus: "xen"},
				{File: "tools.iso", Target: "hdc", Bus: "ide", CDROM: true, ReadOnly: true},
			},
			NICs: []string{"netfront"},
		},
		"xvm-old.xml": {
			Kind: "xvm", MemoryMiB: 128, CPUs: 1,
			Kernel: "vmlinuz-2.6-xen", Ramdisk: "initrd-2.6-xen.img", Cmdline: "root=/dev/sda1 ro",
			Drives: []Drive{{File: "imagefile", Target: "sda1"}, {File: "imagefile2", Target: "sda2"}},
			NICs:   []string{""},
		},
		"libvirt-xvm2.xml": {
			Kind: "libvirt", MemoryMiB: 512, CPUs: 1, Arch: "i686", Machine: "hvm",
			Drives: []Drive{
				{File: "hd0.img.gz", Target: "hda", Boot: 2},
				{File: "cdrom1.iso.gz", Target: "hdc", Bus: "ide", CDROM: true, ReadOnly: true, Boot: 1},
			},
			NICs: []string{"rtl8139"},
		},
		"libvirt-archipel.xml": {
			Kind: "libvirt", MemoryMiB: 2048, CPUs: 4, Arch: "x86_64", Machine: "hvm", Firmware: "uefi",
			Drives:   []Drive{{File: "drive.qcow2", Target: "vda", Bus: "virtio", Boot: 1}},
			NICs:     []string{"virtio"},
			Warnings: []string{"a disk that is no file is ignored", "<emulator> is ignored", "<commandline> is ignored"},
		},
		"vmware.ovf": {
			Kind: "ovf", MemoryMiB: 2048, CPUs: 2, Firmware: "uefi",
			Drives: []Drive{{File: "box-file2.iso", Bus: "sata", CDROM: true, ReadOnly: true}, {File: "box-disk1.vmdk", Bus: "scsi", Boot: 1}},
			NICs:   []string{"e1000"},
		},
		"hostile.xml": {
			Kind: "libvirt", Machine: "hvm",
			Drives: []Drive{{File: "shadow", Target: "vda"}}, // of the package, if it has such a member
			NICs:   []string{""},
			Warnings: []string{
				"memory of 99999999 eib is out of range", `a number of "-4" processors is out of range`,
				`file "../../../boot/vmlinuz" is no member of a package`, `file "json:{\"driver\":\"nbd\"}" is no member of a package`,
				"the kernel's command line is too long or not printable", `file "../../etc/shadow" is no member of a package`,
				`file "nbd://evil/x" is no member of a package`, "a disk that is no file is ignored", "<loader> is ignored", "<emulator> is ignored",
				"<filesystem> is ignored", "<hostdev> is ignored", "<commandline> is ignored",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseDescription(readDescription(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

func TestDescriptionRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("<a>", maxXMLDepth+1) + strings.Repeat("</a>", maxXMLDepth+1)
	for name, text := range map[string]string{
		"F1 billion laughs":   `<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><xvm><name>&b;</name></xvm>`,
		"F2 external entity":  `<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><xvm><name>&e;</name></xvm>`,
		"entity, no doctype":  `<xvm><name>&e;</name></xvm>`,
		"F6 depth":            "<xvm>" + deep + "</xvm>",
		"nodes":               "<xvm>" + strings.Repeat("<a/>", maxXMLNodes) + "</xvm>",
		"T18 size":            "<xvm>" + strings.Repeat(" ", MaxDescriptionSize) + "</xvm>",
		"empty":               "",
		"cut":                 "<xvm><name>x</name>",
		"two roots":           "<xvm/><xvm/>",
		"not xml":             "hello",
		"html":                "<html><body>404</body></html>",
		"wrong charset":       `<?xml version="1.0" encoding="no-such"?><xvm/>`,
		"not utf-8":           "<xvm><name>\xff</name></xvm>",
		"unquoted attributes": "<xvm a=b/>",
	} {
		if d, err := ParseDescription([]byte(text)); !errors.Is(err, ErrDescription) || d != nil {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestDescriptionMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"<memory>512</memory>": 512, `<memory unit="GiB">1.5</memory>`: 1536, "<memory>1G</memory>": 1024, "<memory>262144 KiB</memory>": 256,
		"<memory>0</memory>": 0, "<memory>-1</memory>": 0, "<memory>x</memory>": 0, "<memory>999999999999999999 TiB</memory>": 0,
		`<memory unit="byte * 2^20">64</memory>`: 64, `<memory unit="byte * 2^99">64</memory>`: 0, "<memory>1 B</memory>": 1, `<ram size="96"/>`: 96,
	} {
		d, err := ParseDescription([]byte("<xvm>" + text + "</xvm>"))
		if err != nil {
			t.Fatal(err)
		}
		if d.MemoryMiB != want {
			t.Errorf("%s: %d MiB, want %d", text, d.MemoryMiB, want)
		}
	}
}

// unclean names a value that is not as its own cleaner leaves it, or "".
func (d *Description) unclean() string {
	again := &Description{}
	for what, pair := range map[string][2]string{
		"arch":    {d.Arch, cleanArch(d.Arch)},
		"kernel":  {d.Kernel, again.cleanFile(d.Kernel)},
		"ramdisk": {d.Ramdisk, again.cleanFile(d.Ramdisk)},
	} {
		if pair[0] != pair[1] {
			return what + " " + pair[0]
		}
	}
	if line, ok := cleanCmdline(d.Cmdline); !ok || line != d.Cmdline {
		return "command line " + d.Cmdline
	}
	for _, v := range d.Drives {
		if v.File == "" || again.cleanFile(v.File) != v.File || matching(v.Target, targetForm) != v.Target || oneOf(v.Bus, drivesOn) != v.Bus {
			return fmt.Sprintf("drive %+v", v)
		}
	}
	for _, model := range d.NICs {
		if cleanNICModel(model) != model {
			return "network interface " + model
		}
	}
	if d.MemoryMiB < 0 || d.MemoryMiB > maxMemoryMiB || d.CPUs < 0 || d.CPUs > maxCPUs || len(d.Drives) > maxDrives || len(d.NICs) > maxNICs {
		return fmt.Sprintf("numbers of %+v", d)
	}
	return ""
}

func FuzzParseDescription(f *testing.F) {
	for _, name := range []string{"xvm.xml", "xvm-old.xml", "libvirt-xvm2.xml", "libvirt-archipel.xml", "vmware.ovf", "hostile.xml"} {
		f.Add(readDescription(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDescription(b)
		if err != nil {
			return
		}
		if what := d.unclean(); what != "" {
			t.Fatalf("%s\n%+v", what, d)
		}
		for _, s := range append(d.Warnings, fmt.Sprintf("%v", *d)) {
			if strings.ContainsAny(s, "\x1b\x00\n\u202e") {
				t.Fatalf("%q", s)
			}
		}
	})
}

// What is stored in a way that is not undone is told.
func TestDescriptionOfStoredOVF(t *testing.T) {
	t.Parallel()
	d, err := ParseDescription([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References>
<File ovf:id="a" ovf:href="a.vmdk" ovf:compression="gzip"/><File ovf:id="b" ovf:href="b.vmdk" ovf:chunkSize="5000"/>
<File ovf:id="c" ovf:href="c.vmdk" ovf:compression="identity"/></References><VirtualSystem ovf:id="box"/></Envelope>`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`file "a.vmdk" is compressed as "gzip"`, `file "b.vmdk" is stored in chunks, which are not put together`}
	if !slices.Equal(d.Warnings, want) {
		t.Errorf("warnings %q, want %q", d.Warnings, want)
	}
}
