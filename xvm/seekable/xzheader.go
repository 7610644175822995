package seekable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
)

// The headers of an xz file.
const (
	xzHeaderLen      = 12 // of stream header and of stream footer
	xzBlockHeaderMax = 1024
	// xzRecordsMax bounds the records of one stream's index, xzIndexesMax the bytes of all indexes that are read
	// from the end. A file with more is still decoded forward.
	xzRecordsMax = 1 << 20
	xzIndexesMax = 16 << 20
)

var (
	xzMagic     = []byte("\xfd7zXZ\x00")
	xzFooter    = []byte("YZ")
	xzCheckSize = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	crc64Table  = crc64.MakeTable(crc64.ECMA)
)

// xzCheck is the hash of a kind of check; nil for none and for kinds nobody has defined, whose bytes are passed over.
func xzCheck(kind uint8) hash.Hash {
	switch kind {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64Table)
	case 10:
		return sha256.New()
	}
	return nil
}

// xzSum is the check as stored: the two CRCs are little-endian, unlike what hash.Hash gives.
func xzSum(h hash.Hash) []byte {
	switch h := h.(type) {
	case hash.Hash64:
		return binary.LittleEndian.AppendUint64(nil, h.Sum64())
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(nil, h.Sum32())
	}
	return h.Sum(nil)
}

// An xzRecord is one block in an index.
type xzRecord struct{ unpadded, plain int64 }

func parseXZHeader(h []byte) (check uint8, err error) {
	if !bytes.Equal(h[:6], xzMagic) {
		return 0, corrupt("no xz header")
	}
	if crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return 0, corrupt("xz header checksum")
	}
	return parseXZFlags(h[6:8])
}

func parseXZFlags(f []byte) (uint8, error) {
	if f[0] != 0 || f[1]&0xf0 != 0 {
		return 0, unsupported("xz stream flags")
	}
	return f[1], nil
}

// vli takes a variable-length integer off b: at most 63 bits in nine bytes, no longer than needed.
func vli(b []byte) (v int64, rest []byte, ok bool) {
	for i, c := range b {
		if i == 9 {
			break
		}
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, b[i+1:], c != 0 || i == 0
		}
	}
	return 0, nil, false
}

// An xzBlock is what a block header says.
type xzBlock struct {
	packed  int64    // compressed size, -1 for unknown
	size    int64    // plain size, -1 for unknown
	filters []filter // in the order in which the encoder applied them
	dict    int64    // of LZMA2, which is the last
}

// parseXZBlock reads a block header from its size to its checksum.
func parseXZBlock(h []byte) (b xzBlock, err error) {
	bad := corrupt("xz block header")
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(h)-4:]) {
		return b, corrupt("xz block header checksum")
	}
	flags, rest, ok := body[1], body[2:], true
	if flags&0x3c != 0 {
		return b, unsupported("xz block flags")
	}
	b.packed, b.size = -1, -1
	if flags&0x40 != 0 {
		if b.packed, rest, ok = vli(rest); !ok || b.packed == 0 {
			return b, bad
		}
	}
	if flags&0x80 != 0 {
		if b.size, rest, ok = vli(rest); !ok {
			return b, bad
		}
	}
	for left := int(flags & 3); left >= 0; left-- {
		id, after, ok := vli(rest)
		n, after, ok2 := vli(after)
		if !ok || !ok2 || n > int64(len(after)) {
			return b, bad
		}
		properties := after[:n]
		rest = after[n:]
		if left > 0 {
			f, err := newFilter(id, properties)
			if err != nil {
				return b, err
			}
			b.filters = append(b.filters, f)
			continue
		}
		if id != xzLZMA2 {
			return b, unsupported("xz filters without LZMA2 at the end")
		}
		if n != 1 || properties[0] > 40 {
			return b, corrupt("xz dictionary size")
		}
		p := properties[0]
		b.dict = min(int64(2|p&1)<<(p/2+11), 1<<32-1)
	}
	if len(bytes.Trim(rest, "\x00")) != 0 {
		return b, bad
	}
	return b, nil
}

// fits bounds the dictionary, of which a block that tells its size needs no more than that.
func (b *xzBlock) fits(maxWindow int64) error {
	if b.dict > maxWindow && (b.size < 0 || b.size > maxWindow) {
		return limited("xz dictionary", b.dict)
	}
	return nil
}

// refuseXZ looks at the header of a stream and of its first block.
func refuseXZ(head []byte, maxWindow int64) error {
	if len(head) <= xzHeaderLen {
		return nil
	}
	_, err := parseXZHeader(head[:xzHeaderLen])
	if first := head[xzHeaderLen]; err == nil && first != 0 {
		if n := (int(first) + 1) * 4; n <= len(head)-xzHeaderLen {
			var b xzBlock
			if b, err = parseXZBlock(head[xzHeaderLen:][:n]); err == nil {
				err = b.fits(maxWindow)
			}
		}
	}
	if errors.Is(err, ErrUnsupported) || errors.Is(err, ErrLimit) {
		return err
	}
	return nil // what is damaged is found by decoding
}

// parseXZFooter gives the kind of check and the size of the index before it.
func parseXZFooter(f []byte) (check uint8, index int64, err error) {
	if !bytes.Equal(f[10:], xzFooter) || crc32.ChecksumIEEE(f[4:10]) != binary.LittleEndian.Uint32(f) {
		return 0, 0, corrupt("xz footer")
	}
	check, err = parseXZFlags(f[8:10])
	return check, (int64(binary.LittleEndian.Uint32(f[4:])) + 1) * 4, err
}
