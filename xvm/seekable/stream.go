package seekable

import (
	"context"
	"io"
	"sync"
)

// A stream is a consumer of a runner.
type stream struct {
	r   *Reader
	ctx context.Context

	mu     sync.Mutex // guards what follows and the runner; held while Read waits
	w      *runner
	off    int64
	closed bool
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		switch err := s.w.more(s.ctx); {
		case err == errYielded:
			if err := s.again(); err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		}
		if gap := s.off - s.w.off; gap > 0 {
			s.w.skip(int(min(gap, int64(len(s.w.rest)))))
			continue
		}
		n := s.w.take(p)
		s.off += int64(n)
		return n, nil
	}
}

// again goes on with a new decoder, at or before the place where the one that has yielded was; s.mu is held.
func (s *stream) again() error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.closed {
		return ErrClosed
	}
	delete(s.r.used, s.w)
	s.w = s.r.start(s.ctx, s.r.x.floor(s.off), s.w.after.Load())
	return nil
}

// Close gives the decoder back for reuse. It waits for a Read under way.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.r.park(s.w)
		s.w = nil
	}
	return nil
}

// nothing is the stream behind the end.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
func (nothing) Close() error             { return nil }
