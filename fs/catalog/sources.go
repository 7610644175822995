package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// section is the run of an archive that a plain member occupies.
type section struct {
	archive source.Source
	off     int64
}

func (s section) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	return s.archive.Fetch(ctx, s.off+off, n, u)
}

// sparse is a member stored without its holes. Its segments lie one behind the
// other in the archive, so that any run of the file is one range of the
// archive with zeros put in between.
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

// data lists what is not a hole, for cache.Spec.
func (s sparse) data() []cache.Extent {
	extents := make([]cache.Extent, len(s.segments))
	for i, seg := range s.segments {
		extents[i] = cache.Extent{Off: seg.Logical, Len: seg.Len}
	}
	return extents
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

// inflated is the plain content of a compressed member.
type inflated struct{ reader *seekable.Reader }

func (s inflated) Start(off int64) int64 { return s.reader.Start(off) }

func (s inflated) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	if n != store.Unknown {
		return nil, errors.New("an inflating source streams to its end")
	}
	return s.reader.Stream(ctx, off)
}
