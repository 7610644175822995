package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"vmcastfs/cache/source"
)

var _ source.Source = (*Object)(nil)

// Fetch returns a stream of exactly n bytes from off, or up to the end of the object if n is
// -1. Fetch fails when there is no first answer. Later errors come from Read, and stay. A body
// that breaks is continued where it broke.
//
// The stream lives as long as ctx, and must be closed. It keeps its place among the MaxConns
// requests to its origin, read or not. It is for one goroutine at a time.
//
// If the server has no ranges, the object is asked for from its start and the first off
// bytes are thrown away; see [Object.OneStream].
func (o *Object) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	return o.fetch(ctx, off, n, u, pinned)
}

func (o *Object) fetch(ctx context.Context, off, n int64, u source.Urgency, p pin) (io.ReadCloser, error) {
	size := o.id.Size
	if off < 0 || n < unknown || size != unknown && (off > size || n > size-off) {
		return nil, fmt.Errorf("fetch %s: %d bytes at %d are not within %d", o.shown, n, off, size)
	}
	if u < source.Demand || u > source.Background {
		u = source.Background
	}
	s := &stream{object: o, urgency: u, pin: p, off: off, end: off + n}
	if n == unknown {
		s.end = size
	}
	if mirrorsOf(o) != nil && p != rangeless {
		if s.trial = source.TrialOf(ctx); s.trial == nil && o.heard.Load() {
			s.trial = &source.Trial{}
		}
	}
	route, _, _, err := o.location(p)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", o.shown, err)
	}
	s.ctx, s.cancel = o.client.bind(ctx)
	s.retry = o.client.newRetry(route, s.cancel)
	s.retry.object = o
	if s.off != s.end {
		s.retry.soft.start()
		err := s.connect()
		s.retry.soft.stop(0)
		if err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// maxRenewals bounds how often a fetch follows its object to a fresh URL without a pause.
const maxRenewals = 2

// A stream is bytes off to end of an object, attempt after attempt.
type stream struct {
	object  *Object
	ctx     context.Context
	cancel  context.CancelCauseFunc
	urgency source.Urgency
	pin     pin
	off     int64
	end     int64 // unknown: wherever the body ends
	retry   *retry
	attempt *attempt // nil between attempts
	until   int64    // where its body ends; unknown: wherever it does
	peer    *peer    // where the last attempt was answered
	broken  error    // how the last attempt ended, if it is not dealt with yet

	// patience is how long a body may pause before its rest is asked for on a fresh
	// connection. It doubles each time, so that a server that is slow gets its StallTimeout.
	patience time.Duration
	err      error // final

	renewals int  // fresh URLs that were followed since the last pause
	asked    bool // for the whole, since a range was refused
	lost     bool // and it can be had

	trial  *source.Trial // nil: mirrors must not be asked
	via    *via          // the mirror that the attempt is at; nil: it is at the origin
	failed bool          // a mirror has just failed, so that the origin is asked next
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.off == s.end {
		return 0, io.EOF
	}
	s.retry.soft.start()
	n, err := s.read(p)
	s.retry.soft.stop(n)
	s.err = err
	if n > 0 {
		return n, nil
	}
	return n, err
}

func (s *stream) read(p []byte) (int, error) {
	for {
		if s.broken != nil {
			err := s.broken
			s.broken = nil
			if err := s.retry.failed(s.ctx, s.peer, err); err != nil {
				return 0, err
			}
		}
		if s.attempt == nil {
			if err := s.connect(); err != nil {
				return 0, err
			}
		}
		if s.via != nil && s.via.mirror.Doubted() {
			s.finish(false)
			continue
		}
		if s.until != unknown {
			p = p[:min(int64(len(p)), s.until-s.off)]
		}
		n, err := s.attempt.Read(p)
		s.off += int64(n)
		if s.via != nil {
			s.via.mirror.Served(n)
		}
		if s.retry.progress(n) {
			s.peer.succeeded()
		}
		switch {
		case s.off == s.end || err == io.EOF && s.end == unknown:
			if s.end == unknown {
				s.end = s.off
			}
			s.peer.succeeded()
			if s.attempt.eof {
				s.finish(true)
			}
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		case s.off == s.until: // the server sends less at once than was asked for
			err = nil
			s.finish(true)
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			s.attempt.fail(err)
			if s.via != nil {
				s.leaveMirror(err)
			} else if err == errSilent {
				s.patience *= 2
			} else {
				s.broken = fmt.Errorf("body broke at offset %d: %w", s.off, err)
			}
			s.finish(false)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Close ends the stream.
func (s *stream) Close() error {
	s.finish(s.off == s.end)
	s.cancel(nil)
	if s.err == nil {
		s.err = errors.New("read of a closed stream")
	}
	return nil
}

// finish ends the attempt, if there is one.
func (s *stream) finish(done bool) {
	if s.attempt != nil {
		s.attempt.close(done)
		s.attempt, s.via = nil, nil
	}
}

// connect gets an answer that continues at off.
func (s *stream) connect() error {
	o := s.object
	for {
		route, to, remembered, err := o.location(s.pin)
		if err != nil {
			return fmt.Errorf("fetch %s: %w", o.shown, err)
		}
		if s.askMirror(route, to, remembered) {
			return nil
		}
		header := http.Header{"Accept-Encoding": {"identity"}}
		ranged := o.id.Ranged && s.pin != rangeless
		if ranged {
			header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.off, s.end-1))
			if v := conditionOf(o); v != "" && s.pin == pinned {
				header.Set("If-Range", v)
			}
		}
		a, final, err := o.client.attempt(s.ctx, request{http.MethodGet, route, to, header, s.urgency, s.retry.refused, nil})
		if err == nil {
			if ranged {
				if header.Get("If-Range") == o.id.ETag && lostETag(o, a.resp) {
					a.close(false)
					continue
				}
				s.until, err = s.checkRangeOrWhole(a.resp)
			} else {
				s.until, err = s.end, o.checkWhole(a.resp, s.pin)
			}
			if err != nil {
				err = a.reject(err)
			}
		}
		if err == nil && !ranged {
			if _, err = io.CopyN(io.Discard, a, s.off); err != nil {
				err = a.reject(fmt.Errorf("body broke before offset %d: %w", s.off, err))
			}
		}
		if errors.Is(err, errShrunk) {
			if _, confirm := o.confirm(s.ctx, http.MethodGet, route, firstByte); errors.Is(confirm, ErrChanged) {
				err = confirm
			}
		}
		if err == nil {
			o.remember(route, final)
			o.answered(s.pin)
			s.attempt, s.peer = a, a.peer
			s.patience = cmp.Or(s.patience, a.slot.hedgeAfter(o.client.hedge))
			if stall := o.client.options.StallTimeout; ranged && s.patience < stall {
				a.silent = newWatch(a.cancel, s.patience, errSilent)
				a.silent.least = max(1, int64(minProgress*s.patience/stall)) // the rate is that of watch
			}
			return nil
		}
		if remembered && s.ctx.Err() == nil {
			// Perhaps only that place has gone: signed URLs expire, mirrors die.
			o.remember(route, nil)
			if !temporary(err) {
				continue
			}
		}
		if IsLost(err) && s.renewals < maxRenewals && o.renewed(s.ctx) {
			s.renewals++
			continue
		}
		if ranged {
			if err = s.refusedRange(err); errors.Is(err, ErrNoRanges) && rangesLost(o) {
				return fmt.Errorf("fetch %s: %w", o.shown, err)
			}
		}
		o.seal(err, s.pin)
		if deniesAccess(err) {
			o.client.renewCertificates()
		}
		if unusable(err) && o.doubt != nil {
			o.doubt()
		}
		if err := s.retry.failed(s.ctx, o.client.peer(originOf(final)), err); err != nil {
			return err
		}
		s.renewals = 0
	}
}
