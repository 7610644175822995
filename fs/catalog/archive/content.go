package archive

import (
	"context"
	"errors"
	"io"
	"sync"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/seekable"
)

// Content is what the members of an archive are cut from. Where its server has
// ranges that is the archive itself. Else it is a file of the cache, into which
// the archive is taken, or inflated, as one stream.
type Content interface {
	source.Source
	// Proven is the same for bytes that the caller has sums of.
	Proven() source.Source
	// ReadAt reads for the tar walk.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Acquire makes the content readable until Release; local work only.
	Acquire() error
	Release()
	// Size waits for the length in bytes.
	Size(ctx context.Context) (int64, error)
	// Taken is how many bytes have been taken of what must be taken whole.
	Taken() int64
	// Mirrored returns what tells whether a mirror would be asked now for bytes that
	// sums prove; nil: there is none.
	Mirrored() func() bool
	// Transport is "ranges", "whole" (no ranges) or "inflated".
	Transport() string
}

var errNotOpen = errors.New("the archive is not open")

// Acquire does nothing: an archive with ranges needs no file.
func (a *Archive) Acquire() error { return nil }

// Release does nothing.
func (a *Archive) Release() {}

// Size is the length that was pinned.
func (a *Archive) Size(context.Context) (int64, error) { return a.id.Size, nil }

// Mirrored asks what is known of the mirrors.
func (a *Archive) Mirrored() func() bool {
	if obj, ok := a.object.(*remote.Object); ok && obj.HasMirrors() {
		return obj.Mirrored
	}
	return nil
}

// Taken is 0.
func (a *Archive) Taken() int64 { return 0 }

// Transport is "ranges".
func (a *Archive) Transport() string { return "ranges" }

// Content is the archive, or what it is taken into if its server has no ranges.
func (a *Archive) Content() Content {
	if a.id.Ranged {
		return a
	}
	return a.whole(a.from)
}

// whole is what the archive is taken into as one stream.
func (a *Archive) whole(from source.Source) *streamed {
	return &streamed{
		cache: a.env.Cache, key: a.key("whole"), label: a.place.Name + " (whole archive)", transport: "whole",
		size: a.id.Size, open: func() (source.Source, func(), error) { return from, func() {}, nil },
	}
}

// inflatedKey tells an inflated archive from the stored one, and says which
// decoder it comes from. The gzip decoder of the first version was wrong about
// some streams, and what it gave is not found any more.
const inflatedKey = "inflated 2"

// Inflated is the plain content of an archive that was compressed as a whole.
// Stored are the bytes of the compressed one, plain those of the inflated one, or
// store.Unknown. The compressed bytes are not kept, but where the server has no
// ranges.
func (a *Archive) Inflated(format seekable.Format, stored, plain int64) Content {
	under := a.Content()
	key, label := a.key(inflatedKey, string(format)), a.place.Name+" (inflated archive)"
	return &streamed{
		cache: a.env.Cache, key: key, label: label, transport: "inflated", size: plain,
		open: func() (source.Source, func(), error) {
			if err := under.Acquire(); err != nil {
				return nil, nil, err
			}
			stream, err := OpenStream(StreamSpec{
				Key: key, Label: label, Format: format, Stored: under, Size: stored,
				Store: a.env.Store, Memory: a.env.Memory, Origin: Origin(a.place.URL()), Log: a.env.Log,
			})
			if err != nil {
				under.Release()
				return nil, nil, err
			}
			return stream.Source(plain), func() { stream.Close(); under.Release() }, nil
		},
	}
}

// streamed is an archive that is taken once, as one stream, into a file of the
// cache. The members are cut from that file, and a read of one waits until the
// stream has reached it. The file is open while one of its members is.
type streamed struct {
	cache     *cache.Cache
	key       store.Key
	label     string
	transport string
	// open is called when the file is opened, and closed when it is closed; both
	// under mu.
	open   func() (from source.Source, closed func(), err error)
	linger *Linger // has the file stay open for a while; nil: nothing does

	// mu guards what follows it. It comes before the mu of a streamed archive
	// that this one is inflated from, and before the locks of package cache.
	mu     sync.Mutex
	size   int64 // bytes, or store.Unknown
	opens  int
	file   *cache.File
	closed func()
}

func (s *streamed) Acquire() error {
	err := s.acquire()
	if err == nil && s.linger != nil {
		s.linger.keep(s)
	}
	return err
}

func (s *streamed) acquire() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens == 0 {
		from, closed, err := s.open()
		if err != nil {
			return err
		}
		file, err := s.cache.Open(cache.Spec{
			Key: s.key, Label: s.label, Size: s.size, Source: from, Whole: true, MaxSize: MaxInflated,
		})
		if err != nil {
			closed()
			return err
		}
		s.file, s.closed = file, closed
	}
	s.opens++
	return nil
}

func (s *streamed) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens--
	if s.opens == 0 {
		s.file.Close()
		s.closed()
		s.file, s.closed = nil, nil
	}
}

func (s *streamed) current() (*cache.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil, errNotOpen
	}
	return s.file, nil
}

func (s *streamed) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	file, err := s.current()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(ReaderAt(cache.WithUrgency(ctx, u), file), off, n)), nil
}

func (s *streamed) Proven() source.Source { return s }

func (s *streamed) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	file, err := s.current()
	if err != nil {
		return 0, err
	}
	return file.ReadAt(ctx, p, off)
}

func (s *streamed) Size(ctx context.Context) (int64, error) {
	file, err := s.current()
	if err != nil {
		return 0, err
	}
	n, err := file.WaitSize(ctx)
	if err == nil {
		s.mu.Lock()
		s.size = n
		s.mu.Unlock()
	}
	return n, err
}

func (s *streamed) Taken() int64 {
	file, err := s.current()
	if err != nil {
		return 0
	}
	return file.Status().CachedBytes
}

func (s *streamed) Mirrored() func() bool { return nil }

func (s *streamed) Transport() string { return s.transport }

// Whole reads n bytes of content at off.
func Whole(ctx context.Context, from Content, off, n int64) ([]byte, error) {
	if err := from.Acquire(); err != nil {
		return nil, err
	}
	defer from.Release()
	body, err := from.Fetch(ctx, off, n, source.UrgencyOf(ctx))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p := make([]byte, n)
	_, err = io.ReadFull(body, p)
	return p, err
}

// ReaderAt gives a file of the cache the signature of io.ReaderAt. The context
// ends its reads.
func ReaderAt(ctx context.Context, file *cache.File) io.ReaderAt { return readerAt{ctx, file} }

type readerAt struct {
	ctx  context.Context
	file *cache.File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(r.ctx, p, off) }
