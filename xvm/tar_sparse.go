package xvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// tarRegion is an entry of a sparse map: len bytes of data at off of the file.
type tarRegion struct{ off, len int64 }

var errTarRegions = errors.New("sparse maps have too many regions")

// tarSegments checks a sparse map and says where its data is. Data begins at archive and is stored bytes long in all.
// An inner region that is not a multiple of 512 bytes is refused: GNU tar pads each region in the archive to a block,
// Go and libarchive do not. The last region, often an empty one, must end the file: GNU tar takes the size from it.
func tarSegments(regions []tarRegion, archive, stored, size int64) ([]Segment, error) {
	segments := make([]Segment, 0, min(len(regions), 1024))
	var end, used int64
	for _, r := range regions {
		switch {
		case r.off < end:
			return nil, errors.New("sparse map is not in order")
		case r.off > size || r.len > size-r.off:
			return nil, errors.New("sparse map goes beyond the file")
		case r.len > stored-used:
			return nil, errors.New("sparse map has more data than is stored")
		case r.len > 0 && used%tarBlockSize != 0:
			return nil, errors.New("sparse map is read differently by different programs (region of broken blocks)")
		}
		end = r.off + r.len
		if r.len == 0 {
			continue
		}
		if n := len(segments); n > 0 && segments[n-1].Logical+segments[n-1].Len == r.off {
			segments[n-1].Len += r.len
		} else {
			segments = append(segments, Segment{Logical: r.off, Archive: archive + used, Len: r.len})
		}
		used += r.len
	}
	switch {
	case used != stored:
		return nil, errors.New("sparse map has less data than is stored")
	case end != size:
		return nil, errors.New("sparse map ends before the file, whose size programs then disagree on")
	}
	return segments, nil
}

// oldGNUMap reads the map of a member of type S: four regions in its header and 21 in each block that follows, as
// long as a flag says that one does. It returns the offset behind the last of them.
func (w *tarWalker) oldGNUMap(ctx context.Context, b tarBlock, next int64) (regions []tarRegion, size, end int64, err error) {
	if size, err = tarNumber(b[483:495]); err != nil {
		return nil, 0, 0, fmt.Errorf("real size: %w", err)
	}
	entries, more := b[386:482], b[482] != 0
	for {
		finished := false
		for ; len(entries) > 0 && !finished; entries = entries[24:] {
			off, n := entries[:12], entries[12:24]
			if off[0] == 0 && n[0] == 0 {
				finished = true
				continue
			}
			var r tarRegion
			if r.off, err = tarNumber(off); err == nil {
				r.len, err = tarNumber(n)
			}
			if err != nil {
				return nil, 0, 0, fmt.Errorf("sparse map is malformed: %w", err)
			}
			if len(regions) == w.regions {
				return nil, 0, 0, errTarRegions
			}
			regions = append(regions, r)
		}
		if !more {
			return regions, size, next, nil
		}
		if finished {
			return nil, 0, 0, errors.New("sparse map goes on behind its end")
		}
		block, err := w.block(ctx, next)
		if err != nil {
			return nil, 0, 0, err
		}
		entries, more = block[:504], block[504] != 0
		next += tarBlockSize
	}
}

// paxMap reads the map of a member with GNU.sparse.* records, whose body of stored bytes begins at body. Formats
// 0.0 and 0.1 have it in the records, 1.0 at the start of the body. It returns the offset behind it.
func (w *tarWalker) paxMap(ctx context.Context, s *tarPaxSparse, body, stored int64) (regions []tarRegion, size, end int64, err error) {
	v := func(name string) string { return s.values[name] }
	version := v("major") + "." + v("minor")
	sizeKey := "size"
	switch {
	case version == "1.0" && s.pairs == nil && v("map") == "" && v("numblocks") == "" && v("size") == "":
		sizeKey = "realsize"
	case (version == "." || version == "0.0" || version == "0.1") && (s.pairs == nil) != (v("map") == "") && v("realsize") == "" && !s.halfPair:
	default:
		return nil, 0, 0, errors.New("sparse format is unknown or mixed")
	}
	if size, err = tarDecimal(v(sizeKey)); err != nil {
		return nil, 0, 0, fmt.Errorf("real size: %w", err)
	}
	if sizeKey == "realsize" {
		regions, end, err = w.bodyMap(ctx, body, stored)
		return regions, size, end, err
	}
	regions = s.pairs
	if m := v("map"); m != "" {
		fields := strings.Split(m, ",")
		if len(fields)%2 != 0 {
			return nil, 0, 0, errors.New("sparse map is malformed: odd count of numbers")
		}
		if len(fields)/2 > w.regions {
			return nil, 0, 0, errTarRegions
		}
		for ; len(fields) > 0; fields = fields[2:] {
			off, err1 := tarDecimal(fields[0])
			n, err2 := tarDecimal(fields[1])
			if err := errors.Join(err1, err2); err != nil {
				return nil, 0, 0, errors.New("sparse map is malformed")
			}
			regions = append(regions, tarRegion{off, n})
		}
	}
	if count, err := tarDecimal(v("numblocks")); err != nil || count != int64(len(regions)) {
		return nil, 0, 0, errors.New("sparse map has another count of regions than it says")
	}
	return regions, size, body, nil
}

// bodyMap reads a map of format 1.0: decimal numbers, one a line, the count first, padded to a block.
func (w *tarWalker) bodyMap(ctx context.Context, body, stored int64) (regions []tarRegion, end int64, err error) {
	var block []byte // what is left of the block before end
	end = body
	number := func() (int64, error) {
		var digits []byte
		for {
			if i := bytes.IndexByte(block, '\n'); i >= 0 {
				digits, block = append(digits, block[:i]...), block[i+1:]
				return tarDecimal(string(digits))
			}
			digits = append(digits, block...)
			if len(digits) > 20 || end-body > stored-tarBlockSize {
				return 0, errTarNumber
			}
			next, err := w.block(ctx, end)
			if err != nil {
				return 0, err
			}
			block, end = next, end+tarBlockSize
		}
	}
	count, err := number()
	if err == nil && count > int64(w.regions) {
		return nil, 0, errTarRegions
	}
	for ; err == nil && count > 0; count-- {
		var r tarRegion
		if r.off, err = number(); err == nil {
			r.len, err = number()
		}
		regions = append(regions, r)
	}
	if errors.Is(err, errTarNumber) {
		err = errors.New("sparse map is malformed")
	}
	return regions, end, err
}
