package archive

import (
	"context"
	"fmt"
	"io"
	"sort"

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
	return sparse{from, m.Segments}, data
}

// sparse is a member stored without its holes. Its segments lie one behind the
// other in the archive. So any run of the file is one range of the archive, with
// zeros put in between.
type sparse struct {
	archive  source.Source
	segments []xvm.Segment // ascending in the file and in the archive, validated by the walk
}

func (s sparse) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	end := off + n
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].Logical+s.segments[i].Len > off })
	var parts []io.Reader
	var from, to int64 // of the archive
	pos := off
	r := &sparseReader{}
	for ; i < len(s.segments) && s.segments[i].Logical < end; i++ {
		seg := s.segments[i]
		begin, stop := max(seg.Logical, off), min(seg.Logical+seg.Len, end)
		at := seg.Archive + begin - seg.Logical
		switch {
		case to == 0:
			from, to = at, at
		case at != to:
			return nil, fmt.Errorf("sparse member: data at %d of the archive is not next to what precedes it", at)
		}
		parts = append(parts, io.LimitReader(zeros{}, begin-pos), &exactReader{r: r, n: stop - begin})
		to += stop - begin
		pos = stop
	}
	parts = append(parts, io.LimitReader(zeros{}, end-pos))
	r.Reader = io.MultiReader(parts...)
	if to > from {
		data, err := s.archive.Fetch(ctx, from, to-from, u)
		if err != nil {
			return nil, err
		}
		r.data = data
	}
	return r, nil
}

type sparseReader struct {
	io.Reader
	data io.ReadCloser
}

func (r *sparseReader) Close() error {
	if r.data == nil {
		return nil
	}
	return r.data.Close()
}

// exactReader reads the next n bytes of the data.
type exactReader struct {
	r *sparseReader
	n int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n, err := e.r.data.Read(p[:min(int64(len(p)), e.n)])
	e.n -= int64(n)
	if err == io.EOF && e.n > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
