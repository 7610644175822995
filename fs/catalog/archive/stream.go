package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/seekable"
)

const (
	// MaxInflated bounds what a stream may inflate to, in bytes.
	MaxInflated = 16 << 40
	// kindPoints are the persisted seek points of compressed streams.
	kindPoints = "points"
)

// StreamSpec describes a compressed stream to open.
type StreamSpec struct {
	Key    store.Key // what its seek points are kept under
	Label  string    // for the log
	Format seekable.Format
	Stored seekable.ReaderAt
	Size   int64 // bytes of Stored
	Store  *store.Store
	Memory *seekable.Budget
	Origin string // whose share of Memory it takes, see Origin
	Log    *slog.Logger
	// Hint returns seek points of somebody else's; it is asked if none are kept.
	// It may be nil, and return nil.
	Hint func() []byte
}

// Origin names the server of an enclosure, by its URL: the enclosures of one share
// what memory there is for decoders, and what is read ahead, with those of others.
func Origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// Stream is the plain content of a compressed stream, whose seek points are kept
// on the disk. Close keeps those that were found meanwhile.
type Stream struct {
	spec   StreamSpec
	reader *seekable.Reader
}

// OpenStream opens a compressed stream. It does no I/O but for the seek points.
func OpenStream(spec StreamSpec) (*Stream, error) {
	reader, err := seekable.Open(spec.Format, spec.Stored, spec.Size, seekable.Options{
		MaxSize: MaxInflated, Budget: spec.Memory, Origin: spec.Origin, Logger: spec.Log,
	})
	if err != nil {
		return nil, err
	}
	s := &Stream{spec, reader}
	s.restore()
	return s, nil
}

// restore takes up the seek points of an earlier time, else those of the hint.
func (s *Stream) restore() {
	points, err := s.spec.Store.GetDoc(kindPoints, string(s.spec.Key))
	fresh := err != nil
	if fresh {
		if s.spec.Hint == nil {
			return
		}
		if points = s.spec.Hint(); points == nil {
			return
		}
	}
	if err := s.reader.Restore(points); err != nil {
		s.spec.Log.Warn("seek points are not usable; the stream is read from its start", "file", s.spec.Label, "err", err)
	} else if fresh {
		s.keep(points)
	}
}

func (s *Stream) keep(points []byte) {
	if err := s.spec.Store.PutDoc(kindPoints, string(s.spec.Key), points); err != nil {
		s.spec.Log.Warn("seek points are not kept", "file", s.spec.Label, "err", err)
	}
}

// Source supplies the plain content, of which somebody else declares the size in
// bytes; store.Unknown: nobody does. Its errors tell the cache when what it gave
// before is to be withdrawn. A checksum that fails at the end of a gzip member
// says so of the whole member.
func (s *Stream) Source(declared int64) source.Forward {
	return source.NewForward(func(ctx context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
		if n >= 0 {
			return nil, errors.New("an inflating source streams to its end")
		}
		body, err := s.reader.Stream(ctx, off)
		if err != nil {
			return nil, inDoubt(err)
		}
		return &streamBody{body, off, declared}, nil
	}, s.reader.Start)
}

type streamBody struct {
	io.ReadCloser
	off, declared int64
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.off += int64(n)
	if err == io.EOF && b.declared != store.Unknown && b.off < b.declared {
		return n, fmt.Errorf("%w: it ends after %d of its declared %d bytes", source.ErrCorrupt, b.off, b.declared)
	}
	return n, inDoubt(err)
}

// inDoubt adds to an error of a decoder what it means for what was decoded before.
func inDoubt(err error) error {
	var e *seekable.Error
	switch {
	case errors.As(err, &e) && e.AtFault():
		return fmt.Errorf("%w: %w", source.ErrCorrupt, err)
	case errors.Is(err, seekable.ErrPoints):
		return fmt.Errorf("%w: %w", source.ErrDoubt, err)
	}
	return err
}

// Close ends the stream.
func (s *Stream) Close() {
	if points, changed := s.reader.Points(); changed {
		s.keep(points)
	}
	s.reader.Close()
}

// ProvenSize is the size of plain content that the format itself proves. It costs
// a read or two at the stream's end. Not known: the format proves none.
func ProvenSize(ctx context.Context, format seekable.Format, stored seekable.ReaderAt, size int64) (n int64, known bool, err error) {
	reader, err := seekable.Open(format, stored, size, seekable.Options{MaxSize: MaxInflated})
	if err != nil {
		return 0, false, err
	}
	defer reader.Close()
	return reader.Size(ctx)
}
