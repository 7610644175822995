package store

import (
	"bytes"
	"testing"
)

func FuzzReplay(f *testing.F) {
	h := header{key: key("f"), blockSize: bs, salt: 1}
	im := newMapping(bs)
	im.apply(record{kind: kindSize, pos: 50 * bs})
	for b := range int64(20) {
		im.set(b*2+b/10, uint32(b))
	}
	for b := range int64(9) {
		im.set(30+b, uint32(b))
	}
	im.setZeros(41, 5)
	im.state, im.note = Verified, "a note"
	seed := im.encode(h, nil)
	f.Add(seed[headerSize:])
	f.Add(seed[headerSize : len(seed)-5])
	f.Add(appendRecord(nil, 1, record{kind: kindDrop, pos: 3, value: 1 << 31}))
	f.Add(appendRecord(nil, 1, record{kind: kindZeros, value: 1<<32 - 1}))
	f.Add(appendRecord(nil, 1, record{kind: kindBlocks, pos: MaxBlocks - 1, value: 9}))
	f.Fuzz(func(t *testing.T, journal []byte) {
		if len(journal) > 64<<10 { // each record may take the memory of 1024 blocks
			return
		}
		// Give the fuzzer a chance: checks are made right where it left room for a record.
		for i := 0; i+slotSize <= len(journal); i += slotSize {
			if journal[i]&0x80 != 0 {
				n := min(int(journal[i+1]), (len(journal)-i)/slotSize-1)
				p := journal[i+slotSize : i+slotSize*(1+n)]
				r := record{kind: journal[i] & 7, pos: int64(journal[i+2]) | int64(journal[i+7])<<40, value: uint32(journal[i+8]), payload: p}
				copy(journal[i:], appendRecord(nil, 1, r))
			}
		}
		a := newMapping(bs)
		end, _, err := replay(bytes.NewReader(journal), 1, 0, int64(len(journal)), func(rs []record) {
			for _, r := range rs {
				a.apply(r)
			}
		})
		if err != nil || end < 0 || end > int64(len(journal)) {
			t.Fatal(end, err)
		}
		// What was understood can be written, and read back the same.
		enc := a.encode(h, nil)
		b := newMapping(bs)
		if end, damaged, err := replay(bytes.NewReader(enc), 1, headerSize, int64(len(enc)), func(rs []record) {
			for _, r := range rs {
				if !b.apply(r) {
					t.Fatalf("own record %+v refused", r)
				}
			}
		}); end != int64(len(enc)) || damaged || err != nil {
			t.Fatal(end, damaged, err)
		}
		if a.present != b.present || a.zeros != b.zeros || a.size != b.size || a.state != b.state || a.note != b.note {
			t.Fatalf("%+v, then %+v", a, b)
		}
		if got := a.next(0, a.end(), presentWord); got != b.next(0, b.end(), presentWord) {
			t.Fatal(got)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(header{key: key("f"), blockSize: bs, salt: 1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b), key("f"))
		if err == nil && (h.key != key("f") || checkBlockSize(h.blockSize) != nil) {
			t.Error(h)
		}
	})
}
