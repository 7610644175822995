// Package appliance makes the small signed virtual machine that
// `vmcastfs demo` serves and that the end-to-end tests boot.
//
// Its disk starts with a boot sector of our own (boot.asm): it reads chunks
// spread over the whole disk through the BIOS, checks each against a table in
// sector 1, reports on the serial line and switches the machine off. So a
// machine that says [BootedLine] has proved that the bytes it got through the
// mount are the ones that were published.
package appliance

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

//go:embed boot.bin
var bootSector []byte

// Geometry of the disk.
const (
	sectorSize   = 512
	chunkSectors = 16
	chunkSize    = chunkSectors * sectorSize
	maxChunks    = (sectorSize - 8) / 8 // what the table in sector 1 holds
	firstChunk   = 64 << 10             // chunks start behind the first block
)

// What the boot sector prints on the first serial line.
const (
	BootedLine   = "all sectors match."
	MismatchLine = "MISMATCH."
)

// Disk makes a bootable disk of size bytes whose boot reads chunks chunks.
// The content depends on the arguments alone. Size must be a multiple of 512
// with room for the chunks; chunks is 1 to 63.
func Disk(size int64, chunks int, seed uint64) ([]byte, error) {
	if chunks < 1 || chunks > maxChunks || size%sectorSize != 0 || size < firstChunk+int64(chunks)*chunkSize {
		return nil, fmt.Errorf("make disk: %d bytes with %d chunks is not possible", size, chunks)
	}
	disk := make([]byte, size)
	fill(disk[2*sectorSize:], seed)
	copy(disk, bootSector)
	partition(disk[446:462], uint32(size/sectorSize))

	table := disk[sectorSize : 2*sectorSize]
	copy(table, "VMCF")
	binary.LittleEndian.PutUint32(table[4:], uint32(chunks))
	stride := (size - firstChunk) / int64(chunks) / chunkSize * chunkSize
	for i := range chunks {
		off := firstChunk + int64(i)*stride
		if i == chunks-1 {
			off = (size - chunkSize) / sectorSize * sectorSize // the disk's very end too
		}
		entry := table[8+8*i:]
		binary.LittleEndian.PutUint32(entry, uint32(off/sectorSize))
		binary.LittleEndian.PutUint32(entry[4:], chunkSum(disk[off:off+chunkSize]))
	}
	return disk, nil
}

// chunkSum is the sum the boot sector computes.
func chunkSum(p []byte) uint32 {
	var sum uint32
	for ; len(p) >= 4; p = p[4:] {
		sum = bits.RotateLeft32(sum, 1) + binary.LittleEndian.Uint32(p)
	}
	return sum
}

// partition writes one MBR entry that spans the disk from sector 2 on.
func partition(entry []byte, sectors uint32) {
	entry[0] = 0x80                             // active
	copy(entry[1:4], []byte{0xfe, 0xff, 0xff})  // CHS: too large, use LBA
	entry[4] = 0xda                             // non-file-system data
	copy(entry[5:8], []byte{0xfe, 0xff, 0xff})  //
	binary.LittleEndian.PutUint32(entry[8:], 2) // first sector
	binary.LittleEndian.PutUint32(entry[12:], sectors-2)
}

// fill writes bytes that do not compress into all but every fourth 64 KiB,
// which stays zero as on a real disk.
func fill(p []byte, seed uint64) {
	rng := rand.NewPCG(seed, 0x766d63617374)
	const run = 64 << 10
	for i := 0; len(p) > 0; i++ {
		n := min(run, len(p))
		if i%4 != 3 {
			q := p[:n]
			for ; len(q) >= 8; q = q[8:] {
				binary.LittleEndian.PutUint64(q, rng.Uint64())
			}
		}
		p = p[n:]
	}
}
