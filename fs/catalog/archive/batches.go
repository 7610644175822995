package archive

import (
	"context"
	"errors"
	"io"

	"vmcastfs/xvm"
)

// Walk indexes a tar archive. It calls more once it has read many headers.
func Walk(ctx context.Context, a xvm.ReaderAt, size int64, more func()) (*xvm.Index, error) {
	head := make([]byte, min(max(size, 0), 512))
	if n, err := a.ReadAt(ctx, head, 0); n < len(head) {
		return nil, err
	}
	ahead := newHeaderBatches(ctx, a, size, more)
	defer ahead.close()
	return xvm.Walk(ctx, ahead, size, xvm.LimitsFor(head))
}

// headerBatches reads ahead for a walk over headers that are equally far apart: one
// round trip for many of them rather than for each. It is for one goroutine.
type headerBatches struct {
	r    xvm.ReaderAt
	size int64
	ctx  context.Context
	end  context.CancelFunc

	reads      int    // so far
	more       func() // called once there are many
	last, step int64  // the latest read, and how far it was from the one before
	next       int64  // where the next read ahead begins
	ahead      map[int64]chan headerRead
}

type headerRead struct {
	p   []byte
	err error
}

const (
	headerWindow = 4 << 10 // what a walk reads after a jump
	leastStep    = 16 << 10
	batchDepth   = 32
	// manyReads are of a walk that gets on, and is long.
	manyReads = 64
)

func newHeaderBatches(ctx context.Context, r xvm.ReaderAt, size int64, more func()) *headerBatches {
	s := &headerBatches{r: r, size: size, more: more, ahead: make(map[int64]chan headerRead)}
	s.ctx, s.end = context.WithCancel(ctx)
	return s
}

func (s *headerBatches) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if s.reads++; s.reads == manyReads {
		s.more()
	}
	step := off - s.last
	steady := step == s.step && step >= leastStep && len(p) <= headerWindow
	if !steady {
		s.forget()
		s.next = off
	}
	s.last, s.step = off, step
	if steady {
		for s.next = max(s.next, off+step); len(s.ahead) < batchDepth && s.next+headerWindow <= s.size; s.next += step {
			done := make(chan headerRead, 1)
			s.ahead[s.next] = done
			go func(at int64) {
				buf := make([]byte, headerWindow)
				n, err := s.r.ReadAt(s.ctx, buf, at)
				done <- headerRead{buf[:n], err}
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
func (s *headerBatches) forget() {
	for _, done := range s.ahead {
		<-done
	}
	clear(s.ahead)
}

// close ends the reads that are under way and waits for them.
func (s *headerBatches) close() {
	s.end()
	s.forget()
}
