package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"
)

// What lies in the directory of a store:
//
//	CACHEDIR.TAG       for backup programs
//	version            "vmcastfs cache 1\n"; anything else is refused with ErrFormat
//	lock               lock bytes of the directory
//	files/KEY.data     the bytes, block b at b × block size; sparse; as long as the file once the size is known
//	files/KEY.journal  which blocks are present, their checksums, the size, the state
//	files/KEY.lock     lock bytes of the file; its modification time is when the file was last used, to a minute
//	docs/KIND/HASH     a document; HASH is the SHA-256 of its name; its modification time is when it was last used
//
// Names that begin with .tmp- or .gone- are what a killed process left half done; Open removes them. The
// lock bytes stand in lock.go.
const (
	versionLine = "vmcastfs cache 1\n"
	tagLine     = "Signature: 8a477f597d28d172789f06886806bc55\n" // https://bford.info/cachedir/
	tagText     = tagLine + "# This directory is a cache of vmcastfs. Its content can be fetched again: leave it out of backups.\n"

	gonePrefix = ".gone-" // a data file being deleted
)

// A journal. All numbers are little-endian; all checksums are CRC-32C (Castagnoli). A header of 64 bytes:
//
//	 0   8  "VMCJRNL1"; another digit at the end is a later version and refused
//	 8   4  block size, a power of two from 4 KiB to 16 MiB
//	12   4  salt, random, not 0: where the checksums of records start from, so that bytes of another journal are none
//	16  32  the key
//	48  12  zero
//	60   4  checksum of bytes 0 to 59
//
// Then records, in slots of 16 bytes: a head, and up to 255 slots of payload.
//
//	 0   1  kind
//	 1   1  slots of payload
//	 2   6  pos
//	 8   4  value; with a payload, the salted checksum of the payload
//	12   4  salted checksum of bytes 0 to 11
//
// A record of an unknown kind is skipped. A slot that is no record is skipped too. If a record follows,
// the journal was damaged: a verified file counts as partial, as the record that said otherwise may be
// the lost one, and the journal is rewritten. If none follows, it is the tail of an append that was cut
// short: it is ignored, and the next writer cuts it off. A damaged or missing header, or a missing data
// file, starts the file afresh.
//
// Neighbours that were written together share a record, which comes to 4 bytes a block; a lone block
// takes 16. So 100 GB in blocks of 64 KiB are 6 to 26 MB of journal. A journal that is twice as long as
// it need be is rewritten under a temporary name and renamed over the old one. Processes that have the
// old one open see that it lost its name, and read the new one.
const (
	headerSize = 64
	slotSize   = 16
	maxPayload = 255 // slots of payload after a record's head
	maxRecord  = slotSize * (1 + maxPayload)
	maxNote    = 1024 // bytes of the note beside a state

	journalMagic = "VMCJRNL1"
)

// Kinds of records.
const (
	kindSize   = 1 // pos: size of the file in bytes
	kindState  = 2 // pos: the FileState; payload: the note, padded with zeros
	kindBlocks = 3 // pos: first block; value: its checksum, or payload: four checksums a slot
	kindZeros  = 4 // pos: first block; value: number of blocks that are all zero, which take no disk
	kindDrop   = 5 // pos: first block; value: number of blocks that are absent from here on; a verified file is partial again
)

// A document. It is written under a temporary name, synced and renamed. One that is damaged does not exist.
//
//	 0   8  "VMCDOC1\n"
//	 8   4  length of the name
//	12   8  length of the data
//	20   4  checksum of all the other bytes
//	24      the name, then the data
const (
	docMagic   = "VMCDOC1\n"
	docHead    = 8 + 4 + 8 + 4
	maxDocName = 4096

	// MaxDoc bounds the data of a document, in bytes.
	MaxDoc = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func checksumMore(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

type header struct {
	key       Key
	blockSize int
	salt      uint32
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, journalMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(h.blockSize))
	binary.LittleEndian.PutUint32(b[12:], h.salt)
	hex.Decode(b[16:48], []byte(h.key)) // a Key is checked before it gets here
	binary.LittleEndian.PutUint32(b[60:], checksum(b[:60]))
	return b
}

var errHeader = errors.New("journal has a damaged header")

// parseHeader returns errHeader for damage (start afresh) and ErrFormat for what a later version wrote (hands off).
func parseHeader(b []byte, key Key) (header, error) {
	if len(b) < headerSize || checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return header{}, errHeader
	}
	if m := string(b[:8]); m != journalMagic {
		if strings.HasPrefix(m, journalMagic[:7]) {
			return header{}, fmt.Errorf("journal of version %q: %w", m[7:], ErrFormat)
		}
		return header{}, errHeader
	}
	h := header{
		key:       Key(hex.EncodeToString(b[16:48])),
		blockSize: int(binary.LittleEndian.Uint32(b[8:])),
		salt:      binary.LittleEndian.Uint32(b[12:]),
	}
	if h.key != key || checkBlockSize(h.blockSize) != nil {
		return header{}, errHeader
	}
	return h, nil
}

type record struct {
	kind    byte
	pos     int64
	value   uint32
	payload []byte
}

type parsed int

const (
	good  parsed = iota // a record, of the length returned
	short               // the bytes end before the record does
	bad                 // this slot does not begin a record
)

// parseRecord reads the record at the start of b. The payload aliases b.
func parseRecord(salt uint32, b []byte) (record, int, parsed) {
	if len(b) < slotSize {
		return record{}, 0, short
	}
	if crc32.Update(salt, castagnoli, b[:12]) != binary.LittleEndian.Uint32(b[12:]) {
		return record{}, 0, bad
	}
	r := record{
		kind:  b[0],
		pos:   int64(binary.LittleEndian.Uint64(b) >> 16),
		value: binary.LittleEndian.Uint32(b[8:]),
	}
	n := slotSize * (1 + int(b[1]))
	if len(b) < n {
		return record{}, 0, short
	}
	r.payload = b[slotSize:n]
	if len(r.payload) > 0 && crc32.Update(salt, castagnoli, r.payload) != r.value {
		return record{}, 0, bad
	}
	return r, n, good
}

// appendRecord encodes r; with a payload, whose length is a multiple of a slot, value becomes the payload's check.
func appendRecord(buf []byte, salt uint32, r record) []byte {
	if len(r.payload) > 0 {
		r.value = crc32.Update(salt, castagnoli, r.payload)
	}
	var h [slotSize]byte
	binary.LittleEndian.PutUint64(h[:], uint64(r.pos)<<16|uint64(len(r.payload)/slotSize)<<8|uint64(r.kind))
	binary.LittleEndian.PutUint32(h[8:], r.value)
	binary.LittleEndian.PutUint32(h[12:], crc32.Update(salt, castagnoli, h[:12]))
	return append(append(buf, h[:]...), r.payload...)
}

func stateRecord(s FileState, note string) record {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote], "")
	}
	p := make([]byte, (len(note)+slotSize-1)/slotSize*slotSize)
	copy(p, note)
	return record{kind: kindState, pos: int64(s), payload: p}
}

// runWriter gathers blocks, given in rising order, into as few records as the format allows.
type runWriter struct {
	buf   []byte
	salt  uint32
	first int64
	zero  bool
	n     int64    // blocks of the open run
	sums  []uint32 // theirs, unless zero
}

func (w *runWriter) add(b int64, sum uint32, zero bool) {
	if w.n > 0 && (b != w.first+w.n || zero != w.zero || !zero && w.n == 4*maxPayload) {
		w.end()
	}
	if w.n == 0 {
		w.first, w.zero = b, zero
	}
	w.n++
	if !zero {
		w.sums = append(w.sums, sum)
	}
}

// end closes the open run: a multiple of four sums goes into one record, the remaining ones into one each.
func (w *runWriter) end() {
	if w.zero && w.n > 0 {
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindZeros, pos: w.first, value: uint32(w.n)})
	}
	b, sums := w.first, w.sums
	if k := len(sums) &^ 3; k > 0 {
		p := make([]byte, 0, 4*k)
		for _, s := range sums[:k] {
			p = binary.LittleEndian.AppendUint32(p, s)
		}
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindBlocks, pos: b, payload: p})
		b, sums = b+int64(k), sums[k:]
	}
	for i, s := range sums {
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindBlocks, pos: b + int64(i), value: s})
	}
	w.n, w.sums = 0, w.sums[:0]
}

func encodeDoc(name string, data []byte) []byte {
	b := make([]byte, docHead, docHead+len(name)+len(data))
	copy(b, docMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(name)))
	binary.LittleEndian.PutUint64(b[12:], uint64(len(data)))
	b = append(append(b, name...), data...)
	binary.LittleEndian.PutUint32(b[20:], docSum(b))
	return b
}

var errDocDamaged = fmt.Errorf("document is damaged: %w", fs.ErrNotExist)

func parseDoc(b []byte) (name string, data []byte, err error) {
	if len(b) < docHead || !bytes.HasPrefix(b, []byte(docMagic)) {
		return "", nil, errDocDamaged
	}
	n, m := uint64(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint64(b[12:])
	rest := uint64(len(b) - docHead)
	if n > maxDocName || m > MaxDoc || n+m != rest || docSum(b) != binary.LittleEndian.Uint32(b[20:]) {
		return "", nil, errDocDamaged
	}
	b = b[docHead:]
	return string(b[:n]), b[n:], nil
}

// parseDocName reads the name from the first bytes of a document, unchecked.
func parseDocName(b []byte) (string, error) {
	if len(b) < docHead || !bytes.HasPrefix(b, []byte(docMagic)) {
		return "", errDocDamaged
	}
	length := binary.LittleEndian.Uint32(b[8:])
	if b = b[docHead:]; uint64(length) > uint64(len(b)) {
		return "", errDocDamaged
	}
	return string(b[:length]), nil
}

// docSum is the checksum of all but the four bytes that hold it.
func docSum(b []byte) uint32 {
	return checksumMore(checksum(b[:20]), b[24:])
}
