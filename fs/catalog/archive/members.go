package archive

import (
	"context"
	"fmt"
	"io"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/xvm"
)

// Member is the bytes of a member of the archive that from is. Data lists what is
// not a hole; nil: everything.
func Member(from source.Source, m xvm.Member) (bytes source.Source, data []cache.Extent) {
	if m.Segments == nil {
		return source.Func(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
			return from.Fetch(ctx, m.Offset+off, n, u)
		}), nil
	}
	data = make([]cache.Extent, len(m.Segments))
	for i, seg := range m.Segments {
		data[i] = cache.Extent{Off: seg.Logical, Len: seg.Len}
	}
	return sparse{from, &m}, data
}

// sparse is a member stored without its holes. Its segments lie one behind the
// other in the archive. So any run of the file is one range of the archive, with
// zeros put in between.
type sparse struct {
	archive source.Source
	m       *xvm.Member // its segments were validated by the walk
}

func (s sparse) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	var from, to int64 // of the archive
	for pos, end := off, off+n; pos < end; {
		at, run := s.m.At(pos)
		run = min(run, end-pos)
		pos += run
		switch {
		case at < 0:
			continue
		case to == 0:
			from = at
		case at != to:
			return nil, fmt.Errorf("sparse member: data at %d of the archive is not next to what precedes it", at)
		}
		to = at + run
	}
	if to == 0 {
		return io.NopCloser(s.m.Reader(nil, off, n)), nil
	}
	data, err := s.archive.Fetch(ctx, from, to-from, u)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{s.m.Reader(data, off, n), data}, nil
}
