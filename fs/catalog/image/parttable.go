package image

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// Geometry of the disk that is made of partition images.
const (
	sectorSize    = 512
	partitionUnit = 1 << 20 // where partitions begin
	// MaxPartitions is the highest number of a partition, and how many there may be.
	MaxPartitions = 128 // what a GPT has room for by custom
	gptEntrySize  = 128
	gptSectors    = 1 + MaxPartitions*gptEntrySize/sectorSize // a header and its entries
)

// partition is one partition of a table. Off is set by layOut.
type partition struct {
	Name   string // in a GPT
	Kind   string // xvm.Disk.Kind
	Number int    // 1..MaxPartitions
	Size   int64  // bytes, not 0
	Off    int64  // bytes, a multiple of partitionUnit
}

// sectors is the size in whole sectors.
func (p partition) sectors() int64 { return (p.Size + sectorSize - 1) / sectorSize }

// run is a piece of a disk that is held in memory.
type run struct {
	off  int64
	data []byte
}

// layOut places the partitions one behind the other and writes their table. It is
// an MBR where that can say it, which every guest understands, and else a GPT.
// Seed decides the identifiers of disk and partitions, so that the same parts
// make the same disk. Numbers must differ. Size is that of the disk, a multiple
// of partitionUnit.
func layOut(parts []partition, seed []byte) (size int64, tables []run, err error) {
	const most = 1 << 62
	end, highest := int64(partitionUnit), 0
	for i := range parts {
		p := &parts[i]
		if p.Size <= 0 || p.Size > most-end-2*partitionUnit {
			return 0, nil, fmt.Errorf("a partition of %d bytes cannot be placed", p.Size)
		}
		p.Off = end
		end = roundUp(end + p.Size)
		highest = max(highest, p.Number)
	}
	if len(parts) == 0 || highest > MaxPartitions {
		return 0, nil, errors.New("no partitions, or too many")
	}
	if highest <= 4 && end/sectorSize <= 1<<32 {
		return end, []run{{0, mbr(parts, seed)}}, nil
	}
	size = end + partitionUnit
	entries := make([]byte, MaxPartitions*gptEntrySize)
	for _, p := range parts {
		gptEntry(entries[(p.Number-1)*gptEntrySize:], p, seed)
	}
	last := size/sectorSize - 1
	head := make([]byte, 2*sectorSize, (1+gptSectors)*sectorSize)
	protect(head, last)
	gptHeader(head[sectorSize:], 1, last, 2, entries, seed)
	head = append(head, entries...)
	tail := append(entries[:len(entries):len(entries)], make([]byte, sectorSize)...)
	gptHeader(tail[len(entries):], last, 1, last-gptSectors+1, entries, seed)
	return size, []run{{0, head}, {size - int64(len(tail)), tail}}, nil
}

func roundUp(n int64) int64 { return (n + partitionUnit - 1) / partitionUnit * partitionUnit }

// identifier is 16 bytes that depend on seed and what they are for.
func identifier(seed []byte, what string) []byte {
	sum := sha256.Sum256(append([]byte(what+"\x00"), seed...))
	id := sum[:16]
	id[7] = id[7]&0x0f | 0x40 // a random UUID, in the mixed order of GPT
	id[8] = id[8]&0x3f | 0x80
	return id
}

// mbr is the first sector.
func mbr(parts []partition, seed []byte) []byte {
	b := make([]byte, sectorSize)
	copy(b[440:444], identifier(seed, "disk"))
	for _, p := range parts {
		mbrEntry(b[446+16*(p.Number-1):], mbrType(p.Kind), p.Off/sectorSize, p.sectors())
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

// mbrEntry writes 16 bytes; first and count are sectors.
func mbrEntry(b []byte, kind byte, first, count int64) {
	copy(b, []byte{0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff}) // no cylinders, heads and sectors
	binary.LittleEndian.PutUint32(b[8:], uint32(first))
	binary.LittleEndian.PutUint32(b[12:], uint32(min(count, 1<<32-1)))
}

// protect writes the MBR of a disk with a GPT; last is its last sector.
func protect(b []byte, last int64) {
	mbrEntry(b[446:], 0xee, 1, last)
	copy(b[447:], []byte{0x00, 0x02, 0x00}) // where sector 1 is, as the specification wants it
	b[510], b[511] = 0x55, 0xaa
}

func mbrType(kind string) byte {
	switch kind {
	case "swap":
		return 0x82
	case "lvm":
		return 0x8e
	case "ntfs":
		return 0x07
	case "fat":
		return 0x0c
	}
	return 0x83
}

// gptType is a type GUID in the order of the disk.
func gptType(kind string) string {
	switch kind {
	case "swap":
		return "\x6d\xfd\x57\x06\xab\xa4\xc4\x43\x84\xe5\x09\x33\xc8\x4b\x4f\x4f"
	case "lvm":
		return "\x79\xd3\xd6\xe6\x07\xf5\xc2\x44\xa2\x3c\x23\x8f\x2a\x3d\xf9\x28"
	case "ntfs", "fat":
		return "\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7"
	}
	return "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"
}

func gptEntry(b []byte, p partition, seed []byte) {
	copy(b, gptType(p.Kind))
	copy(b[16:], identifier(seed, fmt.Sprint("partition ", p.Number)))
	binary.LittleEndian.PutUint64(b[32:], uint64(p.Off/sectorSize))
	binary.LittleEndian.PutUint64(b[40:], uint64(p.Off/sectorSize+p.sectors()-1))
	name := utf16.Encode([]rune(p.Name))
	for i, c := range name[:min(len(name), 36)] {
		binary.LittleEndian.PutUint16(b[56+2*i:], c)
	}
}

// gptHeader writes one sector: at is where it lies, other the other header,
// table the entries.
func gptHeader(b []byte, at, other, table int64, entries, seed []byte) {
	le := binary.LittleEndian
	copy(b, "EFI PART\x00\x00\x01\x00")
	le.PutUint32(b[12:], 92)
	le.PutUint64(b[24:], uint64(at))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[40:], 1+gptSectors)                      // first usable sector
	le.PutUint64(b[48:], uint64(max(at, other)-gptSectors)) // last
	copy(b[56:], identifier(seed, "disk"))
	le.PutUint64(b[72:], uint64(table))
	le.PutUint32(b[80:], MaxPartitions)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], 0)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:92]))
}
