package xvm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

const maxExternals = 32 // names kept of one image

// sniffVMDK recognises VMware's formats: sparse extents with a descriptor
// within, and descriptor files. Where QEMU and VMware look for a descriptor in
// different places, both are searched.
func sniffVMDK(head, _ sniffBytes) (Disk, bool) {
	switch {
	case head.has(0, "KDMV"):
		capacity := head.le64(12)
		d := Disk{Format: "vmdk", Kind: "sparse", VirtualSize: sectors(capacity)}
		const compressed, directoryAtEnd = 1 << 16, 1<<64 - 1
		if head.le32(8)&compressed != 0 || head.le64(56) == directoryAtEnd {
			d.Kind = "streamOptimized"
		}
		off, n := head.le64(28), head.le64(36)
		if off > 1<<40 || n > 1<<20 {
			d.External = []string{beyondHead}
			return d, true
		}
		texts := [][]byte{head.at(512, 20*512)}
		if n > 0 {
			texts = append(texts, head.at(off*512, n*512))
			if (off+n)*512 > uint64(len(head)) {
				d.External = []string{beyondHead}
			}
		}
		for _, text := range texts {
			// The one extent that a descriptor within an image names is that
			// image itself; QEMU follows the names only without a capacity.
			d.External = appendNames(d.External, vmdkNames(text, capacity == 0)...)
		}
		return d, true
	case head.has(0, "COWD"):
		return Disk{Format: "vmdk", Kind: "esx", VirtualSize: sectors(head.le32(12))}, true
	case isDescriptor(head):
		text := head.at(0, 64<<10)
		d := Disk{Format: "vmdk", Kind: "descriptor", External: vmdkNames(text, true)}
		for line := range bytes.Lines(text) {
			if sectorsOf, _, ok := vmdkExtent(string(line)); ok {
				d.VirtualSize += sectors(sectorsOf)
			}
		}
		return d, true
	}
	return Disk{}, false
}

// isDescriptor tells a descriptor file as QEMU does: after comments and blank
// lines comes a version.
func isDescriptor(head sniffBytes) bool {
	if head.has(0, "# Disk DescriptorFile") {
		return true
	}
	for line := range bytes.Lines(head.at(0, 64<<10)) {
		s := strings.TrimRight(string(line), "\r\n")
		switch {
		case strings.HasPrefix(s, "#"), strings.Trim(s, " ") == "":
		default:
			return s == "version=1" || s == "version=2" || s == "version=3"
		}
	}
	return false
}

// vmdkNames lists the parent and, if extents says so, the extents that a
// descriptor names.
func vmdkNames(text []byte, extents bool) []string {
	var names []string
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	const hint = "parentFileNameHint"
	if _, after, ok := bytes.Cut(text, []byte(hint)); ok {
		value, _, _ := bytes.Cut(after, []byte("\n"))
		name := strings.Trim(string(value), "= \t\"\r")
		names = append(names, cmp.Or(name, "(a parent image)"))
	}
	if extents {
		for line := range bytes.Lines(text) {
			if _, name, ok := vmdkExtent(string(line)); ok && name != "" {
				names = appendNames(names, name)
			}
		}
	}
	return names
}

// vmdkExtent reads a line like: RW 204800 FLAT "disk-flat.vmdk" 0
func vmdkExtent(line string) (sectors uint64, name string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 3 || (f[0] != "RW" && f[0] != "RDONLY" && f[0] != "NOACCESS") {
		return 0, "", false
	}
	n, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0, "", false
	}
	if _, rest, quoted := strings.Cut(line, `"`); quoted {
		name, _, _ = strings.Cut(rest, `"`)
		name = cmp.Or(strings.TrimSpace(name), "(an extent)")
	}
	return n, name, true
}

// appendNames appends names that are not there yet, up to a limit.
func appendNames(list []string, names ...string) []string {
	for _, n := range names {
		if len(list) < maxExternals && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// sniffVHD recognises VHD by its footer, which a dynamic image also has in
// front (Virtual Hard Disk Image Format Specification 1.0).
func sniffVHD(head, tail sniffBytes) (Disk, bool) {
	const magic = "conectix"
	footer := sniffBytes(nil)
	switch {
	case head.has(0, magic):
		footer = head
	case len(tail) >= 512 && tail.has(len(tail)-512, magic):
		footer = tail[len(tail)-512:]
	case len(tail) >= 511 && tail.has(len(tail)-511, magic): // Virtual PC before 2004
		footer = tail[len(tail)-511:]
	default:
		return Disk{}, false
	}
	d := Disk{Format: "vhd", VirtualSize: int64(footer.be64(48))}
	switch footer.be32(60) {
	case 2:
		d.Kind = "fixed"
	case 3:
		d.Kind = "dynamic"
	case 4:
		d.Kind = "differencing"
		d.External = []string{beyondHead}
		header := sniffBytes(head.at(footer.be64(16), 1024))
		if header.has(0, "cxsparse") {
			var name []uint16
			for i := 64; i < 64+512; i += 2 {
				if c := uint16(header.num(i, 2, binary.BigEndian)); c != 0 {
					name = append(name, c)
				}
			}
			d.External = []string{cmp.Or(string(utf16.Decode(name)), "(a parent image)")}
		}
	}
	return d, true
}
