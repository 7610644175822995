package image

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

// A GPT is whole, wherever the disk ends.
func TestGPT(t *testing.T) {
	for _, parts := range [][]partition{
		{{Name: "a\u00e9\U0001F600", Kind: "ext4", Number: 5, Size: 1}},
		{{Name: strings.Repeat("n", 99), Kind: "swap", Number: 128, Size: 3 << 40}, {Kind: "lvm", Number: 1, Size: 1<<20 + 1}},
	} {
		size, tables, err := layOut(parts, []byte("seed"))
		if err != nil || len(tables) != 2 {
			t.Fatalf("%d tables, %v", len(tables), err)
		}
		head, tail := tables[0].data, tables[1].data
		if tables[1].off+int64(len(tail)) != size || size%partitionUnit != 0 {
			t.Errorf("the disk of %d bytes ends behind %d", size, tables[1].off+int64(len(tail)))
		}
		le := binary.LittleEndian
		for _, h := range []struct{ header, entries []byte }{{head[512:1024], head[1024:]}, {tail[len(tail)-512:], tail[:len(tail)-512]}} {
			sum := le.Uint32(h.header[16:])
			zeroed := bytes.Clone(h.header[:92])
			clear(zeroed[16:20])
			if string(h.header[:8]) != "EFI PART" || crc32.ChecksumIEEE(zeroed) != sum || crc32.ChecksumIEEE(h.entries) != le.Uint32(h.header[88:]) {
				t.Error("a header does not match its sums")
			}
		}
		for _, p := range parts {
			e := head[1024+(p.Number-1)*gptEntrySize:]
			if first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:])); first*512 != p.Off || (last+1)*512 < p.Off+p.Size || (last+1)*512 > tables[1].off {
				t.Errorf("%+v is at %d-%d", p, first, last)
			}
		}
	}
	for _, parts := range [][]partition{nil, {{Number: 1}}, {{Number: 1, Size: -1}}, {{Number: 129, Size: 1}}, {{Number: 1, Size: 1 << 62}, {Number: 2, Size: 1 << 62}}} {
		if _, _, err := layOut(parts, nil); err == nil {
			t.Errorf("%+v is laid out", parts)
		}
	}
}
