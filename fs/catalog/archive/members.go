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
	r := &sparseReader{m: s.m, pos: off, end: off + n}
	var from, to int64 // of the archive
	for pos := off; pos < r.end; {
		at, run := s.m.At(pos)
		run = min(run, r.end-pos)
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
		return r, nil
	}
	var err error
	r.data, err = s.archive.Fetch(ctx, from, to-from, u)
	return r, err
}

type sparseReader struct {
	m        *xvm.Member
	pos, end int64         // of the file
	data     io.ReadCloser // what is in no hole; nil: nothing
}

func (r *sparseReader) Read(p []byte) (int, error) {
	if r.pos >= r.end {
		return 0, io.EOF
	}
	at, run := r.m.At(r.pos)
	p = p[:min(int64(len(p)), run, r.end-r.pos)]
	n, err := len(p), error(nil)
	if at < 0 {
		clear(p)
	} else if n, err = r.data.Read(p); n > 0 && err == io.EOF {
		err = nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.pos += int64(n)
	return n, err
}

func (r *sparseReader) Close() error {
	if r.data == nil {
		return nil
	}
	return r.data.Close()
}
