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

// mirrorStallOf is that time; less for soft reads, which must not give up for a mirror's sake.
func mirrorStallOf(o Options) time.Duration {
	if o.Hard {
		return mirrorStall
	}
	return min(mirrorStall, o.Timeo/4)
}

// mirrorsOf are those that may have the object. A mirror is asked with a validator only, which
// is part of the key under which it keeps a range.
func mirrorsOf(o *Object) *mirror.Set {
	if !o.id.Ranged || o.id.ifRange() == "" {
		return nil
	}
	return o.client.options.Mirrors
}

// Mirrors are those of the options.
func (c *Client) Mirrors() *mirror.Set { return c.options.Mirrors }

// HasMirrors reports whether mirrors are configured that may have the object.
func (o *Object) HasMirrors() bool { return mirrorsOf(o) != nil }

// Mirrored reports whether a mirror would be asked for bytes of the object now.
func (o *Object) Mirrored() bool {
	if mirrorsOf(o) == nil {
		return false
	}
	r, to, remembered, err := o.location(unpinned)
	if err != nil {
		return false
	}
	return viaOf(o, r, to, remembered) != nil
}

// A via is a mirror that has an object.
type via struct {
	object *Object
	mirror *mirror.Mirror
	route  *route // to it
	origin string // which it stands for
}

// viaOf returns the mirror that is to be asked, nil for none. A place that redirects led to and
// that has a query is likely signed, which is a secret.
func viaOf(o *Object, r *route, to *url.URL, remembered bool) *via {
	if remembered && to.RawQuery != "" {
		return nil
	}
	origin := originOf(to)
	m := o.client.options.Mirrors.Choose(r.url.String(), origin, o.client.peer(origin).snapshot().Failing)
	if m == nil {
		return nil
	}
	u, ok := m.URL(to)
	if !ok {
		return nil
	}
	at := &route{url: u, origin: originOf(u), configured: true, mirror: m}
	if m.Credentials && r.origin == r.baseOrigin {
		at.baseOrigin = at.origin
	}
	return &via{o, m, at, origin}
}

// latest is the identity that the origin has given last, of those that are the object.
func latest(o *Object) Identity {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.known); n > 0 {
		return o.known[n-1]
	}
	return o.id
}

// ask asks the mirror for bytes off to end. Nothing is tried twice: the origin is there for
// that.
func (v *via) ask(ctx context.Context, off, end int64, u source.Urgency, still func() bool) (*attempt, error) {
	id := latest(v.object)
	header := http.Header{"Accept-Encoding": {"identity"}, "Range": {fmt.Sprintf("bytes=%d-%d", off, end-1)}, "If-Range": {id.ifRange()}}
	a, _, err := v.object.client.attempt(ctx, request{method: http.MethodGet, route: v.route, to: v.route.url, header: header, urgency: u, still: still})
	if err != nil {
		return nil, err
	}
	if err := v.check(a.resp, id, off, end); err != nil {
		a.close(false)
		return nil, err
	}
	return a, nil
}

// check decides whether resp is bytes off to end of the object, and all of them. A status
// is no lie, nor is 200: the origin may have something else by now, which it is for the origin
// to say.
func (v *via) check(resp *http.Response, id Identity, off, end int64) error {
	if resp.StatusCode != http.StatusPartialContent {
		return statusError(resp, v.object.shown)
	}
	as := &Object{client: v.object.client, id: id, shown: v.object.shown} // of which nothing is noted
	until, err := as.checkRange(resp, off, end, pinned)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", mirror.ErrBad, err)
	case until != end:
		return fmt.Errorf("%w: it has %d bytes of %d", mirror.ErrBad, until-off, end-off)
	}
	return nil
}

// failed tells what is wrong with the mirror, which was asked for a range.
func (v *via) failed(off, end int64, err error) {
	status, isStatus := errors.AsType[*StatusError](err)
	switch {
	case isStatus && (status.Code == http.StatusBadGateway || status.Code == http.StatusGatewayTimeout || status.Code == http.StatusServiceUnavailable):
		v.mirror.Lacks(v.origin, err)
	case isStatus:
		v.mirror.Refused(v.origin, err)
	default:
		v.mirror.Failed(v.object.client.ctx, err, errors.Is(err, mirror.ErrBad), func(ctx context.Context) error { return v.probe(ctx, off, end) })
	}
}

// probe asks the mirror for a range, and throws it away. A status is an answer; whether it is
// a good one is told by those who want it.
func (v *via) probe(ctx context.Context, off, end int64) error {
	a, err := v.ask(ctx, off, end, source.Background, nil)
	if _, isStatus := errors.AsType[*StatusError](err); err != nil {
		if isStatus {
			return nil
		}
		return err
	}
	defer a.close(true)
	_, err = io.CopyN(io.Discard, a, end-off)
	return short(err)
}

// short says of a body that ends early that this is no fault of the network.
func short(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its body is short", mirror.ErrBad)
	}
	return err
}

// askMirror connects the stream to a mirror, and reports whether there is one that answers
// well.
func (s *stream) askMirror(r *route, to *url.URL, remembered bool) bool {
	if s.trial == nil || s.failed {
		s.failed = false // the next time is another one
		return false
	}
	v := viaOf(s.object, r, to, remembered)
	if v == nil {
		return false
	}
	still := func() bool { now := viaOf(s.object, r, to, remembered); return now != nil && now.mirror == v.mirror }
	a, err := v.ask(s.ctx, s.off, s.end, s.urgency, still)
	switch {
	case err == nil:
		s.attempt, s.peer, s.until, s.via = a, a.peer, s.end, v
		s.trial.From(v.mirror)
		return true
	case s.ctx.Err() == nil && err != errNotNow:
		v.failed(s.off, s.end, err)
	}
	return false
}

// leaveMirror has the origin go on where the body of a mirror broke.
func (s *stream) leaveMirror(err error) {
	s.failed = true
	if s.ctx.Err() == nil {
		s.via.failed(s.off, s.end, short(err))
	}
}
