package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"vmcastfs/cache/mirror"
	"vmcastfs/cache/source"
)

const (
	// mirrorConnect bounds making a connection to a mirror: it is near.
	mirrorConnect = 250 * time.Millisecond
	// mirrorStall is how long a mirror may take for the header of an answer, and for
	// mirrorProgress bytes of its body.
	mirrorStall    = 2 * time.Second
	mirrorProgress = 64 << 10
)

// mirrorStall is that time; less for soft reads, which must not give up for a mirror's sake.
func (c *Client) mirrorStall() time.Duration {
	if c.options.Hard {
		return mirrorStall
	}
	return min(mirrorStall, c.options.Timeo/4)
}

// mirrors are those that may have the object. A mirror is asked with a validator only, which
// is part of the key under which it keeps a range.
func (o *Object) mirrors() *mirror.Set {
	if !o.id.Ranged || o.id.ifRange() == "" {
		return nil
	}
	return o.client.options.Mirrors
}

// Mirrors are those of the options.
func (c *Client) Mirrors() *mirror.Set { return c.options.Mirrors }

// HasMirrors reports whether mirrors are configured that may have the object.
func (o *Object) HasMirrors() bool { return o.mirrors() != nil }

// Mirrored reports whether a mirror would be asked for bytes of the object now.
func (o *Object) Mirrored() bool {
	if o.mirrors() == nil {
		return false
	}
	r, to, remembered, err := o.location(unpinned)
	if err != nil {
		return false
	}
	at, _ := o.mirrorOf(r, to, remembered)
	return at != nil
}

// mirrorOf returns the route to the mirror that is to be asked, nil for none. A place that
// redirects led to and that has a query is likely signed, which is a secret.
func (o *Object) mirrorOf(r *route, to *url.URL, remembered bool) (at *route, m *mirror.Mirror) {
	if remembered && to.RawQuery != "" {
		return nil, nil
	}
	origin := originOf(to)
	m = o.mirrors().Choose(r.url.String(), origin, o.client.peer(origin).snapshot().Failing)
	if m == nil {
		return nil, nil
	}
	u, ok := m.URL(to)
	if !ok {
		return nil, nil
	}
	at = &route{url: u, origin: originOf(u), configured: true, mirror: m}
	if m.Credentials && originOf(r.url) == r.baseOrigin {
		at.baseOrigin = at.origin
	}
	return at, m
}

// latest is the identity that the origin has given last, of those that are the object.
func (o *Object) latest() Identity {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.known); n > 0 {
		return o.known[n-1]
	}
	return o.id
}

// rangeHeader asks a mirror for bytes off to end of the object.
func (o *Object) rangeHeader(off, end int64) http.Header {
	h := http.Header{"Accept-Encoding": {"identity"}, "Range": {fmt.Sprintf("bytes=%d-%d", off, end-1)}}
	h.Set("If-Range", o.latest().ifRange())
	return h
}

// askMirror connects the stream to a mirror, and reports whether there is one that answers
// well. Nothing is tried twice: the origin is there for that.
func (s *stream) askMirror(r *route, to *url.URL, remembered bool) bool {
	if s.trial == nil || s.failed {
		s.failed = false // the next time is another one
		return false
	}
	o := s.object
	at, m := o.mirrorOf(r, to, remembered)
	if at == nil {
		return false
	}
	still := func() bool { _, now := o.mirrorOf(r, to, remembered); return now == m }
	a, _, err := o.client.attempt(s.ctx, request{method: http.MethodGet, route: at, to: at.url, header: o.rangeHeader(s.off, s.end), urgency: s.urgency, still: still})
	if err == nil {
		if err = o.checkMirror(a.resp, s.off, s.end); err != nil {
			a.close(false)
		}
	}
	switch {
	case err == nil:
		s.attempt, s.peer, s.until, s.mirror = a, a.peer, s.end, m
		s.trial.From(m)
		return true
	case s.ctx.Err() != nil, errors.Is(err, errNotNow): // the caller's loop goes on
	default:
		o.mirrorFailed(m, at, originOf(to), s.off, s.end, err)
	}
	return false
}

// leaveMirror has the origin go on where the body of a mirror broke.
func (s *stream) leaveMirror(err error) {
	m := s.mirror
	s.failed = true
	route, to, remembered, failed := s.object.location(s.pin)
	if s.ctx.Err() != nil || failed != nil {
		return
	}
	if at, now := s.object.mirrorOf(route, to, remembered); now == m {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: its body is short", mirror.ErrBad)
		}
		s.object.mirrorFailed(m, at, originOf(to), s.off, s.end, err)
	}
}

// mirrorFailed tells what is wrong with a mirror that was asked for a range.
func (o *Object) mirrorFailed(m *mirror.Mirror, at *route, origin string, off, end int64, err error) {
	status, isStatus := errors.AsType[*StatusError](err)
	switch {
	case isStatus && (status.Code == http.StatusBadGateway || status.Code == http.StatusGatewayTimeout || status.Code == http.StatusServiceUnavailable):
		// It does not have that range, and cannot get it now. It may have others.
	case isStatus:
		m.Refused(origin, err)
	default:
		m.Failed(o.client.ctx, err, errors.Is(err, mirror.ErrBad), func(ctx context.Context) error { return o.probe(ctx, at, off, end) })
	}
}

// probe asks a mirror for a range, and throws it away.
func (o *Object) probe(ctx context.Context, at *route, off, end int64) error {
	a, _, err := o.client.attempt(ctx, request{method: http.MethodGet, route: at, to: at.url, header: o.rangeHeader(off, end), urgency: source.Background})
	if err != nil {
		return err
	}
	defer a.close(true)
	if err := o.checkMirror(a.resp, off, end); err != nil {
		if _, isStatus := errors.AsType[*StatusError](err); isStatus {
			return nil // it answers; whether it gives the object is told by who asks for it
		}
		return err
	}
	n, err := io.CopyN(io.Discard, a, end-off)
	if err == io.EOF && n < end-off {
		err = fmt.Errorf("%w: its body is short", mirror.ErrBad)
	}
	return err
}

// checkMirror decides whether resp is bytes off to end of the object, and all of them. A status
// is no lie, nor is 200: the origin may have something else by now, which it is for the origin
// to say.
func (o *Object) checkMirror(resp *http.Response, off, end int64) error {
	if resp.StatusCode != http.StatusPartialContent {
		return statusError(resp, o.shown)
	}
	as := &Object{client: o.client, id: o.latest(), shown: o.shown} // of which nothing is noted
	until, err := as.checkRange(resp, off, end, pinned)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", mirror.ErrBad, err)
	case until != end:
		return fmt.Errorf("%w: it has %d bytes of %d", mirror.ErrBad, until-off, end-off)
	}
	return nil
}
