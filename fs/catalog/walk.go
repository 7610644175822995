package catalog

import (
	"context"
	"errors"
	"io"
	"time"

	"vmcastfs/xvm"
)

// longIndex is for archives that take long to index: those with many headers (an
// XVA has two for each MiB); one that is compressed or on a server without ranges
// must be read whole.
const longIndex = 6 * time.Hour

// ErrIndexing: the archive of the release is still being read, and a listing
// does not wait for that.
var ErrIndexing = errors.New("its archive is still being read; try again later")

// PackageSoon is Package for a listing, which must not hang: it waits no longer
// than an archive with ranges takes, and goes on behind.
func (r *Release) PackageSoon(ctx context.Context) (*Package, error) {
	if p, ok := r.Peek(); ok {
		return p, nil
	}
	soon, cancel := context.WithTimeoutCause(ctx, listPatience, ErrIndexing)
	defer cancel()
	p, err := r.Package(soon)
	if err != nil && ctx.Err() == nil && errors.Is(err, soon.Err()) && context.Cause(soon) == ErrIndexing {
		return nil, &indexingError{r.Name()}
	}
	return p, err
}

const listPatience = indexTimeout + 2*time.Second

type indexingError struct{ release string }

func (e *indexingError) Error() string { return "release " + e.release + ": " + ErrIndexing.Error() }
func (e *indexingError) Unwrap() error { return ErrIndexing }

// walk indexes a tar archive.
func walk(ctx context.Context, a xvm.ReaderAt, size int64, more func()) (*xvm.Index, error) {
	head := make([]byte, min(max(size, 0), 512))
	if n, err := a.ReadAt(ctx, head, 0); n < len(head) {
		return nil, err
	}
	ahead := newStrides(ctx, a, size, more)
	defer ahead.close()
	return xvm.Walk(ctx, ahead, size, xvm.LimitsFor(head))
}

// strides reads ahead for a walk over headers that are equally far apart: one
// round trip for many of them rather than for each. It is for one goroutine.
type strides struct {
	r    xvm.ReaderAt
	size int64
	ctx  context.Context
	end  context.CancelFunc

	reads      int    // so far
	more       func() // called once there are many
	last, step int64  // the latest read, and how far it was from the one before
	next       int64  // where the next read ahead begins
	ahead      map[int64]chan strideRead
}

type strideRead struct {
	p   []byte
	err error
}

const (
	strideWindow = 4 << 10 // what a walk reads after a jump
	strideLeast  = 16 << 10
	strideDepth  = 32
	// manyReads are of a walk that gets on, and is long.
	manyReads = 256
)

func newStrides(ctx context.Context, r xvm.ReaderAt, size int64, more func()) *strides {
	s := &strides{r: r, size: size, more: more, ahead: make(map[int64]chan strideRead)}
	s.ctx, s.end = context.WithCancel(ctx)
	return s
}

func (s *strides) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if s.reads++; s.reads == manyReads {
		s.more()
	}
	step := off - s.last
	steady := step == s.step && step >= strideLeast && len(p) <= strideWindow
	if !steady {
		s.forget()
		s.next = off
	}
	s.last, s.step = off, step
	if steady {
		for s.next = max(s.next, off+step); len(s.ahead) < strideDepth && s.next+strideWindow <= s.size; s.next += step {
			done := make(chan strideRead, 1)
			s.ahead[s.next] = done
			go func(at int64) {
				buf := make([]byte, strideWindow)
				n, err := s.r.ReadAt(s.ctx, buf, at)
				done <- strideRead{buf[:n], err}
			}(s.next)
		}
	}
	if done, ok := s.ahead[off]; ok {
		delete(s.ahead, off)
		if got := <-done; len(got.p) >= len(p) {
			return copy(p, got.p), nil
		}
	}
	n, err := s.r.ReadAt(ctx, p, off)
	if n == len(p) && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// forget drops what was read ahead in vain.
func (s *strides) forget() {
	for _, done := range s.ahead {
		<-done
	}
	clear(s.ahead)
}

// close ends the reads that are under way and waits for them.
func (s *strides) close() {
	s.end()
	s.forget()
}
