package xvm

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// XVAChunk is the size in bytes of every file that a disk of an XVA archive is
// cut into, but the last.
const XVAChunk = 1 << 20

// XVAName is the member that describes an XVA archive; it comes first.
const XVAName = "ova.xml"

// maxXVAMembers bounds the chunks and checksums of an XVA archive: 128 GiB of
// data.
const maxXVAMembers = 1 << 18

// LimitsFor are the limits for a [Walk] of the archive that begins so: an XVA
// archive has two headers for each MiB.
func LimitsFor(head []byte) Limits {
	if isXVA(head) {
		return Limits{Members: maxXVAMembers, Requests: maxXVAMembers, HeaderBytes: 64 << 20}
	}
	return Limits{}
}

// isXVA tells an XVA archive by its first 512 bytes.
func isXVA(head []byte) bool {
	return IsTar(head) && strings.HasPrefix(string(head), XVAName+"\x00")
}

// XVADisk is a disk of an XVA archive, put together from its chunks.
type XVADisk struct {
	Ref    string     // the directory of its chunks, "Ref:4"
	Name   string     // under which it is shown: "disk0.img"
	Size   int64      // bytes
	Chunks []XVAPiece // what is stored, ascending; the rest is zeros
}

// XVAPiece is one stored chunk.
type XVAPiece struct {
	Chunk  int64 // number: it begins at Chunk * XVAChunk of the disk
	Offset int64 // of its content in the archive, bytes
	Len    int64 // bytes, at most XVAChunk
	// Where the archive keeps its checksum, in bytes; SumLen 0: it has none.
	SumOffset, SumLen int64
	Algo              string // "sha1" (40 hex digits) or "xxhash" (XXH64, 16 hex digits)
}

// Digest is the checksum of a chunk's content as the archive writes it, in lower
// case; "" if the archive has none of it.
func (p XVAPiece) Digest(content []byte) string {
	switch p.Algo {
	case "sha1":
		sum := sha1.Sum(content)
		return hex.EncodeToString(sum[:])
	case "xxhash":
		return fmt.Sprintf("%016x", xxhash.Sum64(content))
	}
	return ""
}

// MaxXVASum is how much of a checksum file counts, in bytes.
const MaxXVASum = 128

// XVASum is the checksum that a checksum file holds, as Digest writes it.
func XVASum(file []byte) string {
	return strings.ToLower(strings.TrimSpace(string(file[:min(len(file), MaxXVASum)])))
}

// maxXVASize bounds a disk of an XVA archive; XenServer's own limit is 16 TiB.
const maxXVASize = 64 << 40

// XVADisks puts the disks of an XVA archive together. Description is the
// content of ova.xml, from which sizes and order come; without a usable one
// disks end behind their last chunk and keep the order of the archive. owned
// tells which members are chunks and checksums, and so are not files of the
// package themselves. No disks: it is no XVA archive.
//
// A chunk that is absent is zeros. One that is neither whole nor the last of
// its disk, that comes out of order, or is a link, refuses the archive.
func XVADisks(x *Index, description []byte) (disks []XVADisk, owned func(name string) bool, err error) {
	if len(x.Members) == 0 || !slices.ContainsFunc(x.Members, func(m Member) bool { return m.Name == XVAName }) {
		return nil, nil, nil
	}
	byRef := make(map[string]int)
	for _, m := range x.Members {
		ref, number, algo, ok := xvaMember(m.Name)
		if !ok {
			continue
		}
		i, known := byRef[ref]
		if !known {
			if len(disks) == maxDrives {
				return nil, nil, fmt.Errorf("XVA archive: more than %d disks", maxDrives)
			}
			i = len(disks)
			byRef[ref] = i
			disks = append(disks, XVADisk{Ref: ref})
		}
		if err := disks[i].add(m, number, algo); err != nil {
			return nil, nil, fmt.Errorf("XVA archive: %q: %w", m.Name, err)
		}
	}
	told := xvaDevices(description)
	for i := range disks {
		d := &disks[i]
		for _, p := range d.Chunks[:max(0, len(d.Chunks)-1)] {
			if p.Len != XVAChunk {
				return nil, nil, fmt.Errorf("XVA archive: %s/%08d has %d bytes, not %d", d.Ref, p.Chunk, p.Len, XVAChunk)
			}
		}
		if n := len(d.Chunks); n > 0 {
			d.Size = d.Chunks[n-1].Chunk*XVAChunk + d.Chunks[n-1].Len
		}
		if v, ok := told[d.Ref]; ok && v.size > d.Size && v.size <= maxXVASize {
			d.Size = v.size
		}
	}
	rank := func(d XVADisk) int {
		if v, ok := told[d.Ref]; ok {
			return v.rank
		}
		return maxDrives
	}
	slices.SortStableFunc(disks, func(a, b XVADisk) int { return cmp.Compare(rank(a), rank(b)) })
	for i := range disks {
		disks[i].Name = fmt.Sprintf("disk%d.img", i)
	}
	return disks, func(name string) bool {
		_, _, _, ok := xvaMember(name)
		return ok
	}, nil
}

func (d *XVADisk) add(m Member, number int64, algo string) error {
	last := len(d.Chunks) - 1
	if m.Link != "" {
		return fmt.Errorf("it is a link")
	}
	if algo == "" {
		switch {
		case last >= 0 && number <= d.Chunks[last].Chunk:
			return fmt.Errorf("chunks are not in order")
		case m.Segments != nil || m.Size > XVAChunk || m.Size == 0:
			return fmt.Errorf("a chunk of %d bytes", m.Size)
		case (number+1)*XVAChunk > maxXVASize:
			return fmt.Errorf("a disk of more than %d bytes", int64(maxXVASize))
		}
		d.Chunks = append(d.Chunks, XVAPiece{Chunk: number, Offset: m.Offset, Len: m.Size})
		return nil
	}
	if last < 0 || d.Chunks[last].Chunk != number {
		return fmt.Errorf("a checksum without its chunk before it")
	}
	if p := &d.Chunks[last]; p.SumLen == 0 || algo == "sha1" { // of two, the stronger
		p.SumOffset, p.SumLen, p.Algo = m.Offset, m.Size, algo
	}
	return nil
}

// xvaMember splits Ref:4/00000012, …12.checksum and …12.xxhash.
func xvaMember(name string) (ref string, number int64, algo string, ok bool) {
	ref, file, _ := strings.Cut(name, "/")
	id, isRef := strings.CutPrefix(ref, "Ref:")
	if !isRef || !digits(id, 1, 18) {
		return "", 0, "", false
	}
	if s, is := strings.CutSuffix(file, ".checksum"); is {
		file, algo = s, "sha1"
	} else if s, is := strings.CutSuffix(file, ".xxhash"); is {
		file, algo = s, "xxhash"
	}
	if !digits(file, 8, 12) {
		return "", 0, "", false
	}
	number, err := strconv.ParseInt(file, 10, 64)
	return ref, number, algo, err == nil
}

func digits(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789") == ""
}
