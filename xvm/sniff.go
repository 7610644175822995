package xvm

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"vmcastfs/xvm/seekable"
)

// How much of an image [Sniff] should see of its beginning and its end.
const (
	SniffHead = 128 << 10
	SniffTail = 512
)

// Disk is what the content of an image shows of its format.
type Disk struct {
	// Format is "raw", "qcow2", "qcow", "qed", "vmdk", "vhd", "vhdx", "vdi",
	// "parallels", "dmg", "bochs", "cloop" or "luks", or that of a compressed
	// file: "gzip", "xz", "zstd", "bzip2".
	Format string
	// Kind tells more. Of a raw image: what it begins with, "mbr", "gpt",
	// "iso9660", "ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "fat", "ntfs",
	// "squashfs", "f2fs", "lvm", "bootsector", "zero", or "" for other data. Of
	// a VMDK: "sparse", "streamOptimized", "descriptor", "esx"; of a VHD:
	// "fixed", "dynamic", "differencing"; of a VDI: "dynamic", "static", "differencing".
	Kind string
	// VirtualSize is the size in bytes of the disk within; 0 if the bytes
	// shown do not tell it, as those of a raw image never do.
	VirtualSize int64
	// Encrypted is how an image is encrypted that QEMU needs a passphrase for, by
	// QEMU's name ("aes", "luks"); "" if it is not.
	Encrypted string
	// Dirty tells a VHDX with a log that has to be replayed before it is read.
	Dirty bool
	// External lists what other files the image names: a backing or parent
	// image, a data file, extents. Whoever opens the image with its own format
	// would open those too, be they files of the host. The names are made
	// harmless for a terminal; where a name lies beyond the bytes shown, a
	// remark in parentheses stands for it.
	External []string
}

// Compressed tells whether the image is a compressed file. What it is inside is
// for whoever decodes it to say.
func (d Disk) Compressed() bool { return seekable.Format(d.Format).Suffix() != "" }

// QEMUDriver is the name of QEMU's driver for the format: "raw" for whatever
// QEMU has none for, since that is how bytes are passed on untouched.
func (d Disk) QEMUDriver() string {
	switch d.Format {
	case "vhd":
		return "vpc"
	case "qcow2", "qcow", "qed", "vmdk", "vhdx", "vdi", "parallels", "dmg", "bochs", "cloop", "luks":
		return d.Format
	}
	return "raw"
}

// Sniff recognises the format of an image from its first [SniffHead] and last
// [SniffTail] bytes (all of it, where it is shorter; tail may be nil when it is
// not at hand, which leaves fixed VHD images unrecognised). It looks where
// QEMU's own probing looks, so that what QEMU would take for a qcow2 or VMDK
// never passes for raw.
func Sniff(head, tail []byte) Disk {
	for _, probe := range []func(head, tail sniffBytes) (Disk, bool){
		sniffQCOW, sniffQED, sniffVMDK, sniffVHD, sniffSimple, sniffCompressed,
	} {
		if d, ok := probe(head, tail); ok {
			for i, name := range d.External {
				d.External[i] = cmp.Or(cleanText(name, 300), "(a file without a name)")
			}
			if d.VirtualSize < 0 {
				d.VirtualSize = 0
			}
			return d
		}
	}
	return Disk{Format: "raw", Kind: sniffRaw(head)}
}

// sniffBytes reads numbers at offsets; what lies outside is zero.
type sniffBytes []byte

// at returns n bytes at off, or fewer if there are not so many.
func (b sniffBytes) at(off, n uint64) []byte {
	size := uint64(len(b))
	off = min(off, size)
	return b[off : off+min(n, size-off)]
}

func (b sniffBytes) has(off int, magic string) bool {
	return off >= 0 && len(b) >= off+len(magic) && string(b[off:off+len(magic)]) == magic
}

func (b sniffBytes) num(off, n int, order binary.ByteOrder) uint64 {
	var raw [8]byte
	if off < 0 || off+n > len(b) {
		return 0
	}
	if order == binary.ByteOrder(binary.BigEndian) {
		copy(raw[8-n:], b[off:off+n])
		return binary.BigEndian.Uint64(raw[:])
	}
	copy(raw[:], b[off:off+n])
	return binary.LittleEndian.Uint64(raw[:])
}

func (b sniffBytes) be32(off int) uint64 { return b.num(off, 4, binary.BigEndian) }
func (b sniffBytes) be64(off int) uint64 { return b.num(off, 8, binary.BigEndian) }
func (b sniffBytes) le32(off int) uint64 { return b.num(off, 4, binary.LittleEndian) }
func (b sniffBytes) le64(off int) uint64 { return b.num(off, 8, binary.LittleEndian) }

// sectors turns a count of 512-byte sectors into bytes, or 0 if it is absurd.
func sectors(n uint64) int64 {
	if n > 1<<53 {
		return 0
	}
	return int64(n) * 512
}

func sniffCompressed(head, _ sniffBytes) (Disk, bool) {
	format := seekable.Detect(head)
	return Disk{Format: string(format)}, format != ""
}

// sniffSimple recognises formats of which a few fixed fields tell all.
func sniffSimple(head, tail sniffBytes) (Disk, bool) {
	const vdiMagic = 0xbeda107f
	switch {
	case head.has(0, "vhdxfile"):
		// Size and parent stand in the metadata region, beyond the head. QEMU
		// refuses images with a parent.
		return Disk{Format: "vhdx", Dirty: vhdxDirty(head)}, true
	case head.le32(64) == vdiMagic:
		d := Disk{Format: "vdi", VirtualSize: int64(head.le64(368))}
		switch head.le32(76) {
		case 1:
			d.Kind = "dynamic"
		case 2:
			d.Kind = "static"
		case 3, 4:
			d.Kind = "differencing"
		}
		parent := head.at(440, 16)
		if d.Kind == "differencing" || len(bytes.Trim(parent, "\x00")) > 0 {
			d.External = []string{"(a parent image, named by its UUID)"}
		}
		return d, true
	case head.has(0, "WithoutFreeSpace"), head.has(0, "WithouFreSpacExt"):
		return Disk{Format: "parallels", VirtualSize: sectors(head.le64(36))}, true
	case head.has(0, "LUKS\xba\xbe"):
		return Disk{Format: "luks"}, true
	case head.has(0, "Bochs Virtual HD Image"):
		return Disk{Format: "bochs"}, true
	case head.has(0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"):
		return Disk{Format: "cloop"}, true
	case len(tail) >= 512 && tail.has(len(tail)-512, "koly"):
		return Disk{Format: "dmg"}, true
	}
	return Disk{}, false
}

// vhdxDirty tells whether the newer of the two headers, as far as they are shown,
// names a log (MS-VHDX 2.2.2).
func vhdxDirty(head sniffBytes) (dirty bool) {
	newest := uint64(0)
	for _, at := range []int{64 << 10, 128 << 10} {
		if seq := head.le64(at + 8); head.has(at, "head") && seq >= newest {
			newest, dirty = seq, len(bytes.Trim(head.at(uint64(at+48), 16), "\x00")) > 0
		}
	}
	return dirty
}
