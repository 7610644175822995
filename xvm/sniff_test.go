package xvm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sniffFile shows Sniff of a file what a caller would.
func sniffFile(t testing.TB, path string) Disk {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sniffWhole(b)
}

func sniffWhole(b []byte) Disk {
	return Sniff(b[:min(len(b), SniffHead)], b[max(0, len(b)-SniffTail):])
}

// TestSniffImages has qemu-img make every format.
func TestSniffImages(t *testing.T) {
	t.Parallel()
	requireTool(t, "qemu-img")
	dir := t.TempDir()
	const size = 6 << 20
	base := filepath.Join(dir, "base.img")
	if err := os.WriteFile(base, bytes.Repeat([]byte("data"), size/4), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string // of qemu-img; OUT is the image
		want Disk
	}{
		"qcow2":           {[]string{"convert", "-O", "qcow2", base, "OUT"}, Disk{Format: "qcow2", VirtualSize: size}},
		"qcow2 v2":        {[]string{"convert", "-O", "qcow2", "-o", "compat=v2", base, "OUT"}, Disk{Format: "qcow2", VirtualSize: size}},
		"qcow":            {[]string{"convert", "-O", "qcow", base, "OUT"}, Disk{Format: "qcow", VirtualSize: size}},
		"qed":             {[]string{"convert", "-O", "qed", base, "OUT"}, Disk{Format: "qed", VirtualSize: size}},
		"vdi":             {[]string{"convert", "-O", "vdi", base, "OUT"}, Disk{Format: "vdi", Kind: "dynamic", VirtualSize: size}},
		"vdi static":      {[]string{"convert", "-O", "vdi", "-o", "static=on", base, "OUT"}, Disk{Format: "vdi", Kind: "static", VirtualSize: size}},
		"vhdx":            {[]string{"convert", "-O", "vhdx", base, "OUT"}, Disk{Format: "vhdx"}},
		"parallels":       {[]string{"convert", "-O", "parallels", base, "OUT"}, Disk{Format: "parallels", VirtualSize: size}},
		"vmdk":            {[]string{"convert", "-O", "vmdk", base, "OUT"}, Disk{Format: "vmdk", Kind: "sparse", VirtualSize: size}},
		"streamOptimized": {[]string{"convert", "-O", "vmdk", "-o", "subformat=streamOptimized", base, "OUT"}, Disk{Format: "vmdk", Kind: "streamOptimized", VirtualSize: size}},
		"vhd dynamic":     {[]string{"convert", "-O", "vpc", "-o", "force_size=on", base, "OUT"}, Disk{Format: "vhd", Kind: "dynamic", VirtualSize: size}},
		"vhd fixed":       {[]string{"convert", "-O", "vpc", "-o", "force_size=on,subformat=fixed", base, "OUT"}, Disk{Format: "vhd", Kind: "fixed", VirtualSize: size}},
		"raw":             {[]string{"convert", "-O", "raw", base, "OUT"}, Disk{Format: "raw"}},
		"C3 qcow2 backing": {[]string{"create", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "OUT", "6M"},
			Disk{Format: "qcow2", VirtualSize: size, External: []string{"/etc/shadow"}}},
		"C3 qcow2 backing json": {[]string{"create", "-f", "qcow2", "-u", "-b", `json:{"driver":"nbd","host":"h"}`, "-F", "raw", "OUT", "6M"},
			Disk{Format: "qcow2", VirtualSize: size, External: []string{`json:{"driver":"nbd","host":"h"}`}}},
		"C3 qcow2 v2 backing": {[]string{"create", "-f", "qcow2", "-u", "-o", "compat=v2", "-b", "nbd://h/x", "-F", "raw", "OUT", "6M"},
			Disk{Format: "qcow2", VirtualSize: size, External: []string{"nbd://h/x"}}},
		"C3 qcow2 data file": {[]string{"create", "-f", "qcow2", "-o", "data_file=" + dir + "/data", "OUT", "6M"},
			Disk{Format: "qcow2", VirtualSize: size, External: []string{dir + "/data"}}},
		"C3 qcow backing": {[]string{"create", "-f", "qcow", "-u", "-b", "/etc/shadow", "-F", "raw", "OUT", "6M"},
			Disk{Format: "qcow", VirtualSize: size, External: []string{"/etc/shadow"}}},
		"C3 qed backing": {[]string{"create", "-f", "qed", "-u", "-b", "/etc/shadow", "-F", "raw", "OUT", "6M"},
			Disk{Format: "qed", VirtualSize: size, External: []string{"/etc/shadow"}}},
		"C3 vmdk parent": {[]string{"create", "-f", "vmdk", "-b", dir + "/parent.vmdk", "-F", "vmdk", "OUT", "6M"},
			Disk{Format: "vmdk", Kind: "sparse", VirtualSize: size, External: []string{dir + "/parent.vmdk"}}},
		"C3 vmdk flat": {[]string{"create", "-f", "vmdk", "-o", "subformat=monolithicFlat", "OUT", "6M"},
			Disk{Format: "vmdk", Kind: "descriptor", VirtualSize: size, External: []string{"out-flat.vmdk"}}},
		"C3 vmdk split": {[]string{"create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "OUT", "6M"},
			Disk{Format: "vmdk", Kind: "descriptor", VirtualSize: size, External: []string{"out-s001.vmdk"}}},
	} {
		t.Run(name, func(t *testing.T) {
			sub := t.TempDir()
			out := filepath.Join(sub, "out")
			if strings.Contains(name, "vmdk") {
				out += ".vmdk"
			}
			if name == "C3 vmdk parent" {
				if b, err := exec.Command("qemu-img", "create", "-f", "vmdk", dir+"/parent.vmdk", "6M").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, b)
				}
			}
			var args []string
			for _, a := range tt.args {
				args = append(args, strings.Replace(a, "OUT", out, 1))
			}
			if b, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
				if strings.Contains(string(b), "Unknown file format") || strings.Contains(string(b), "not supported") {
					t.Skipf("%s", b)
				}
				t.Fatalf("%v\n%s", err, b)
			}
			got := sniffFile(t, out)
			if strings.HasPrefix(name, "vhd ") && got.VirtualSize > size && got.VirtualSize < size+1<<20 {
				got.VirtualSize = size // rounded to cylinders
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if name == "raw" {
				return
			}
			// The driver we name is the one that opens the image.
			if b, err := exec.Command("qemu-img", "info", "-U", "-f", got.QEMUDriver(), out).CombinedOutput(); err != nil && len(got.External) == 0 {
				t.Errorf("%v\n%s", err, b)
			}
		})
	}
}

// TestSniffRaw has the tools of each filesystem make it.
func TestSniffRaw(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tool string
		args []string
		in   string
		want string
	}{
		{"mke2fs", []string{"-q", "-t", "ext4"}, "", "ext4"},
		{"mke2fs", []string{"-q", "-t", "ext3"}, "", "ext3"},
		{"mke2fs", []string{"-q", "-t", "ext2"}, "", "ext2"},
		{"mkswap", nil, "", "swap"},
		{"sfdisk", []string{"-q"}, "label: dos\n,\n", "mbr"},
		{"sfdisk", []string{"-q"}, "label: gpt\n,\n", "gpt"},
		{"mkfs.vfat", nil, "", "fat"},
		{"mkfs.btrfs", []string{"-q"}, "", "btrfs"},
		{"mkfs.xfs", []string{"-q"}, "", "xfs"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			if _, err := exec.LookPath(tt.tool); err != nil {
				t.Skip(err) // the table below has all of them
			}
			path := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 8<<20); err != nil {
				t.Fatal(err)
			}
			if tt.want == "btrfs" || tt.want == "xfs" {
				if err := os.Truncate(path, 400<<20); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(tt.tool, append(tt.args, path)...)
			cmd.Stdin = strings.NewReader(tt.in)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			head := make([]byte, SniffHead)
			if _, err := f.ReadAt(head, 0); err != nil {
				t.Fatal(err)
			}
			if d := Sniff(head, nil); d.Format != "raw" || d.Kind != tt.want {
				t.Errorf("%+v", d)
			}
		})
	}
}

// put makes an image of n zeros with strings at some offsets.
func put(n int, parts map[int]string) []byte {
	b := make([]byte, n)
	for off, s := range parts {
		copy(b[off:], s)
	}
	return b
}

func TestSniffMagics(t *testing.T) {
	t.Parallel()
	var gz bytes.Buffer
	gzip.NewWriter(&gz).Close()
	partition := "\x80\x01\x01\x00\x83\xfe\xff\xff\x00\x08\x00\x00\x00\x10\x00\x00"
	u64 := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	for name, tt := range map[string]struct {
		image []byte
		want  Disk
	}{
		"empty":        {nil, Disk{Format: "raw"}},
		"one byte":     {[]byte{1}, Disk{Format: "raw"}},
		"zero":         {make([]byte, 4096), Disk{Format: "raw", Kind: "zero"}},
		"text":         {[]byte("hello"), Disk{Format: "raw"}},
		"bootsector":   {put(512, map[int]string{0: "\xeb\xfe", 510: "\x55\xaa"}), Disk{Format: "raw", Kind: "bootsector"}},
		"mbr":          {put(4096, map[int]string{446: partition, 510: "\x55\xaa"}), Disk{Format: "raw", Kind: "mbr"}},
		"mbr over ext": {put(4096, map[int]string{446: partition, 510: "\x55\xaa", 1080: "\x53\xef"}), Disk{Format: "raw", Kind: "mbr"}},
		"grub in ext":  {put(4096, map[int]string{0: "\xeb", 460: "text", 510: "\x55\xaa", 1080: "\x53\xef"}), Disk{Format: "raw", Kind: "ext2"}},
		"gpt 4k":       {put(8192, map[int]string{4096: "EFI PART"}), Disk{Format: "raw", Kind: "gpt"}},
		"iso hybrid":   {put(65536, map[int]string{446: partition, 510: "\x55\xaa", 32769: "CD001"}), Disk{Format: "raw", Kind: "iso9660"}},
		"xfs":          {put(4096, map[int]string{0: "XFSB"}), Disk{Format: "raw", Kind: "xfs"}},
		"btrfs":        {put(131072, map[int]string{65600: "_BHRfS_M"}), Disk{Format: "raw", Kind: "btrfs"}},
		"ntfs":         {put(512, map[int]string{3: "NTFS    ", 510: "\x55\xaa"}), Disk{Format: "raw", Kind: "ntfs"}},
		"fat":          {put(512, map[int]string{82: "FAT32", 510: "\x55\xaa"}), Disk{Format: "raw", Kind: "fat"}},
		"squashfs":     {put(512, map[int]string{0: "hsqs"}), Disk{Format: "raw", Kind: "squashfs"}},
		"f2fs":         {put(4096, map[int]string{1024: "\x10\x20\xf5\xf2"}), Disk{Format: "raw", Kind: "f2fs"}},
		"lvm":          {put(4096, map[int]string{512: "LABELONE", 536: "LVM2 001"}), Disk{Format: "raw", Kind: "lvm"}},
		"luks":         {put(512, map[int]string{0: "LUKS\xba\xbe"}), Disk{Format: "luks"}},
		"gzip":         {gz.Bytes(), Disk{Format: "gzip"}},
		"xz":           {[]byte("\xfd7zXZ\x00\x00"), Disk{Format: "xz"}},
		"zstd":         {[]byte("\x28\xb5\x2f\xfd\x00"), Disk{Format: "zstd"}},
		"zstd skip":    {[]byte("\x5e\x2a\x4d\x18\x00\x00\x00\x00"), Disk{Format: "zstd"}},
		"bzip2":        {[]byte("BZh91AY&SY"), Disk{Format: "bzip2"}},
		"BZh text":     {[]byte("BZh9 hello hello"), Disk{Format: "raw"}},
		"dmg":          {put(1024, map[int]string{512: "koly"}), Disk{Format: "dmg"}},
		"C3 raw with qcow2 magic": {put(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03", 8: "\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x0b", 512: "/etc/shadow"}),
			Disk{Format: "qcow2", External: []string{"/etc/shadow"}}},
		"C3 qcow2 name beyond head": {put(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03", 8: "\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x0b"}),
			Disk{Format: "qcow2", External: []string{beyondHead}}},
		"C3 qcow2 data file unnamed": {put(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03", 79: "\x04"}),
			Disk{Format: "qcow2", External: []string{"(a data file)"}}},
		"C3 descriptor after comments": {[]byte("# x\n\n  \nversion=1\r\nRW 16 FLAT \"/etc/shadow\" 0\nRW 8 ZERO\n"),
			Disk{Format: "vmdk", Kind: "descriptor", VirtualSize: 24 * 512, External: []string{"/etc/shadow"}}},
		"C3 sparse without capacity": {put(4096, map[int]string{0: "KDMV\x01", 28: u64(1), 36: u64(2), 512: "RW 16 FLAT \"/etc/shadow\" 0\n"}),
			Disk{Format: "vmdk", Kind: "sparse", External: []string{"/etc/shadow"}}},
		"C3 sparse, descriptor beyond head": {put(4096, map[int]string{0: "KDMV\x01", 12: u64(8), 28: u64(900), 36: u64(2)}),
			Disk{Format: "vmdk", Kind: "sparse", VirtualSize: 4096, External: []string{beyondHead}}},
		"C3 sparse, absurd": {put(4096, map[int]string{0: "KDMV\x01", 12: u64(1 << 63), 28: u64(1 << 60), 36: u64(1 << 60)}),
			Disk{Format: "vmdk", Kind: "sparse", External: []string{beyondHead}}},
		"C3 vhd with parent": {put(4096, map[int]string{0: "conectix", 22: "\x02\x00", 63: "\x04", 512: "cxsparse", 512 + 64: "\x00p\x00.\x00v\x00h\x00d"}),
			Disk{Format: "vhd", Kind: "differencing", External: []string{"p.vhd"}}},
		"C3 vdi with parent": {put(4096, map[int]string{64: "\x7f\x10\xda\xbe", 76: "\x04"}),
			Disk{Format: "vdi", Kind: "differencing", External: []string{"(a parent image, named by its UUID)"}}},
		"C3 escape in a name": {put(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03", 8: "\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x05", 512: "a\x1b[2J"}),
			Disk{Format: "qcow2", External: []string{"a"}}},
		"negative size": {put(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x02", 24: "\xff"}), Disk{Format: "qcow2"}},
	} {
		if got := sniffWhole(tt.image); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), []byte{})
	f.Add([]byte("# Disk DescriptorFile\nversion=1\nRW 16 FLAT \"a\" 0\n"), []byte{})
	f.Add(put(2048, map[int]string{0: "KDMV\x01", 512: "parentFileNameHint=\"x\"\n"}), []byte{})
	f.Add(put(2048, map[int]string{0: "conectix", 63: "\x04"}), put(512, map[int]string{0: "conectix"}))
	f.Add(put(600, map[int]string{510: "\x55\xaa"}), []byte("koly"))
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		d := Sniff(head, tail)
		if d.Format == "" || d.VirtualSize < 0 || len(d.External) > maxExternals+1 {
			t.Fatalf("%+v", d)
		}
		for _, name := range d.External {
			if name == "" || len(name) > 300 || strings.ContainsAny(name, "\x1b\x00\n") {
				t.Fatalf("%q", name)
			}
		}
	})
}
