package seekable

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
)

// xzStream is one stream found from the end of the file.
type xzStream struct {
	off     int64 // of its header
	plain   int64
	check   uint8
	records []xzRecord
}

// xzTable walks from the end of the file over footers and indexes to its beginning, and shows the index all blocks.
func (r *Reader) xzTable(ctx context.Context) error {
	var streams []xzStream // last one first
	end, budget := r.stored, int64(xzIndexesMax)
	for end > 0 {
		s, err := r.xzStreamBefore(ctx, &end, &budget, len(streams) > 0)
		if err != nil {
			return err
		}
		streams = append(streams, s)
	}
	if len(streams) == 0 {
		return corrupt("empty xz file")
	}
	size := int64(0)
	for _, s := range streams {
		if size += s.plain; size > maxPlain {
			return corrupt("size of the xz file")
		}
	}
	out := int64(0)
	for i := len(streams) - 1; i >= 0; i-- {
		s := streams[i]
		at := s.off + xzHeaderLen
		for _, rec := range s.records {
			r.x.addStated(point{out: out, in: at * 8, aux: s.check + 1, trust: stated})
			out += rec.plain
			at += (rec.unpadded + 3) &^ 3
		}
	}
	r.x.setStated(size)
	return nil
}

// xzStreamBefore reads the stream, and the padding behind it, that end at *end, and moves *end to its header.
func (r *Reader) xzStreamBefore(ctx context.Context, end, budget *int64, more bool) (s xzStream, err error) {
	spend := func(n int64) error {
		if *budget -= n; *budget < 0 {
			return limited("xz indexes", xzIndexesMax)
		}
		return nil
	}
	// Padding is zeros in fours; a footer ends in two letters.
	var tail []byte
	for {
		n := min(*end, 4<<10)
		if n < 2*xzHeaderLen || *end%4 != 0 {
			return s, corrupt("xz stream padding")
		}
		if err := spend(n); err != nil {
			return s, err
		}
		tail = make([]byte, n)
		if err := r.readAt(ctx, tail, *end-n); err != nil {
			return s, err
		}
		for len(tail) >= 4 && bytes.Equal(tail[len(tail)-4:], []byte{0, 0, 0, 0}) {
			tail = tail[:len(tail)-4]
			*end -= 4
		}
		if len(tail) >= xzHeaderLen {
			break
		}
	}
	check, indexLen, err := parseXZFooter(tail[len(tail)-xzHeaderLen:])
	if err != nil {
		return s, err
	}
	indexEnd := *end - xzHeaderLen
	if indexLen > indexEnd-xzHeaderLen {
		return s, corrupt("size of the xz index")
	}
	index := tail[:len(tail)-xzHeaderLen]
	if int64(len(index)) >= indexLen {
		index = index[int64(len(index))-indexLen:]
	} else {
		if err := spend(indexLen); err != nil {
			return s, err
		}
		index = make([]byte, indexLen)
		if err := r.readAt(ctx, index, indexEnd-indexLen); err != nil {
			return s, err
		}
	}
	records, plain, packed, err := parseXZIndex(index)
	if err != nil {
		return s, err
	}
	s = xzStream{off: indexEnd - indexLen - packed - xzHeaderLen, check: check, records: records, plain: plain}
	if s.off < 0 {
		return s, corrupt("size of the xz index")
	}
	head := make([]byte, min(*end-s.off, xzHeaderLen+xzBlockHeaderMax))
	if err := r.readAt(ctx, head, s.off); err != nil {
		return s, err
	}
	if c, err := parseXZHeader(head[:xzHeaderLen]); err != nil || c != check {
		return s, corrupt("xz header and footer do not fit")
	}
	if err := refuseXZ(head, r.o.MaxWindow); err != nil {
		return s, &refusal{s.off + xzHeaderLen, err}
	}
	*end = s.off
	return s, nil
}

// parseXZIndex reads an index from its first byte to its checksum.
func parseXZIndex(b []byte) (records []xzRecord, plain, packed int64, err error) {
	bad := corrupt("xz index")
	if len(b) < 8 || b[0] != 0 || crc32.ChecksumIEEE(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, 0, 0, bad
	}
	b = b[:len(b)-4]
	n, b, ok := vli(b[1:])
	if !ok || n > int64(len(b)/2) {
		return nil, 0, 0, bad
	}
	if n > xzRecordsMax {
		return nil, 0, 0, limited("xz blocks", n)
	}
	records = make([]xzRecord, n)
	for i := range records {
		r := &records[i]
		if r.unpadded, b, ok = vli(b); !ok || r.unpadded < 5 || r.unpadded > maxStored {
			return nil, 0, 0, bad
		}
		if r.plain, b, ok = vli(b); !ok || r.plain > maxPlain {
			return nil, 0, 0, bad
		}
		plain += r.plain
		if packed += (r.unpadded + 3) &^ 3; plain > maxPlain || packed > maxStored {
			return nil, 0, 0, bad
		}
	}
	if len(b) > 3 || len(bytes.Trim(b, "\x00")) != 0 {
		return nil, 0, 0, bad
	}
	return records, plain, packed, nil
}
