package xvm

import (
	"cmp"
	"strings"
)

const beyondHead = "(beyond the first bytes of the image)"

// sniffQCOW recognises qcow and qcow2 (QEMU, docs/interop/qcow2.txt). A backing
// file is named by offset and length, a data file by a header extension.
func sniffQCOW(head, _ sniffBytes) (Disk, bool) {
	if !head.has(0, "QFI\xfb") {
		return Disk{}, false
	}
	d := Disk{Format: "qcow2", VirtualSize: int64(head.be64(24))}
	version := head.be32(4)
	method := head.be32(32)
	if version == 1 {
		d.Format = "qcow"
		method = head.be32(36)
	}
	switch method {
	case 1:
		d.Encrypted = "aes"
	case 2:
		d.Encrypted = "luks"
	}
	if off := head.be64(8); off != 0 {
		d.External = append(d.External, nameAt(head, off, head.be32(16)))
	}
	if version == 1 {
		return d, true
	}
	const (
		dataFileFeature   = 1 << 2
		dataFileExtension = 0x44415441
	)
	external := version >= 3 && head.be64(72)&dataFileFeature != 0
	name := ""
	pos := uint64(72)
	if version >= 3 {
		pos = max(104, head.be32(100))
	}
	for range 64 {
		b := sniffBytes(head.at(pos, 8))
		if len(b) < 8 || b.be32(0) == 0 {
			break
		}
		if b.be32(0) == dataFileExtension {
			external, name = true, nameAt(head, pos+8, b.be32(4))
		}
		pos += 8 + (b.be32(4)+7)&^7
	}
	if external {
		d.External = append(d.External, cmp.Or(name, "(a data file)"))
	}
	return d, true
}

// sniffQED recognises QED (QEMU, docs/interop/qed_spec.rst).
func sniffQED(head, _ sniffBytes) (Disk, bool) {
	if !head.has(0, "QED\x00") {
		return Disk{}, false
	}
	d := Disk{Format: "qed", VirtualSize: int64(head.le64(48))}
	const backingFeature = 1
	if head.le64(16)&backingFeature != 0 {
		d.External = []string{nameAt(head, head.le32(56), head.le32(60))}
	}
	return d, true
}

// nameAt reads the name of a file; names are at most 1023 bytes long.
func nameAt(head sniffBytes, off, n uint64) string {
	b := head.at(off, min(n, 1023))
	name := strings.TrimRight(string(b), "\x00")
	if uint64(len(b)) < min(n, 1023) || strings.TrimSpace(name) == "" {
		return beyondHead
	}
	return name
}
