package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// The layout of a journal; doc.go has the table.
const (
	headerSize = 64
	slotSize   = 16
	maxPayload = 255 // slots of payload after a record's head
	maxRecord  = slotSize * (1 + maxPayload)
	maxNote    = 1024 // bytes of the note beside a state

	journalMagic = "VMCJRNL1"
)

// Kinds of records. A kind that is not listed is skipped if its check is right.
const (
	kindSize   = 1 // pos: size of the file in bytes
	kindState  = 2 // pos: the FileState; payload: the note, padded with zeros
	kindBlocks = 3 // pos: first block; value: its checksum, or payload: four checksums a slot
	kindZeros  = 4 // pos: first block; value: number of blocks that are all zero
	kindDrop   = 5 // pos: first block; value: number of blocks that are absent from here on
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
