package xvm

import "bytes"

// sniffRaw tells what a raw image begins with. Hybrid images are named by
// their outermost meaning: an ISO image that also has a partition table is an
// ISO image, a disk with partitions is a disk, whatever lies in its gaps.
func sniffRaw(b sniffBytes) string {
	bootable := b.has(510, "\x55\xaa")
	switch {
	case b.has(32769, "CD001"):
		return "iso9660"
	case b.has(512, "EFI PART"), b.has(4096, "EFI PART"):
		return "gpt"
	case b.has(3, "NTFS    "):
		return "ntfs"
	case bootable && (b.has(54, "FAT") || b.has(82, "FAT32")):
		return "fat"
	case bootable && hasPartitions(b):
		return "mbr"
	case b.has(1080, "\x53\xef"):
		return extVersion(b)
	case b.has(0, "XFSB"):
		return "xfs"
	case b.has(65600, "_BHRfS_M"):
		return "btrfs"
	case b.has(4086, "SWAPSPACE2"), b.has(65526, "SWAPSPACE2"):
		return "swap"
	case b.has(0, "hsqs"):
		return "squashfs"
	case b.le32(1024) == 0xf2f52010:
		return "f2fs"
	}
	for sector := range 4 {
		if b.has(512*sector, "LABELONE") && b.has(512*sector+24, "LVM2 001") {
			return "lvm"
		}
	}
	switch {
	case bootable:
		return "bootsector"
	case len(b) > 0 && len(bytes.Trim(b, "\x00")) == 0:
		return "zero"
	}
	return ""
}

// hasPartitions reports whether the four entries of a partition table make
// sense and at least one is used.
func hasPartitions(b sniffBytes) bool {
	used := 0
	for off := 446; off < 510; off += 16 {
		if b[off]&0x7f != 0 {
			return false
		}
		if kind, n := b[off+4], b.le32(off+12); kind != 0 && n != 0 {
			used++
		}
	}
	return used > 0
}

func extVersion(b sniffBytes) string {
	const (
		hasJournal = 0x0004 // compatible features
		extents    = 0x0040 // incompatible ones: extents, 64bit, flex_bg
		bits64     = 0x0080
		flexGroups = 0x0200
	)
	switch {
	case b.le32(1024+96)&(extents|bits64|flexGroups) != 0:
		return "ext4"
	case b.le32(1024+92)&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}
