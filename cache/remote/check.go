package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"vmcastfs/cache/source"
	"vmcastfs/feed/show"
)

// Check asks whether the URL still leads to the object that was opened. It transfers one
// byte at most where the server has ranges. It returns nil, [ErrChanged], [ErrNoRanges], or
// what kept it from finding out. An object that has changed is not sealed: where redirects led
// before, the old one may still be had.
//
// A server without ranges is asked with HEAD. HEAD may only confirm the object: some servers
// refuse it, or answer it with another length. Then GET decides, and its body is not read.
func (o *Object) Check(ctx context.Context) error {
	r, _, _, err := o.location(adopted)
	if err != nil {
		return fmt.Errorf("check %s: %w", o.shown, err)
	}
	ctx, cancel := o.client.bind(ctx)
	defer cancel(nil)
	if o.id.Ranged && o.id.Size > 0 {
		_, err := o.confirm(ctx, http.MethodGet, r, firstByte)
		if status, ok := errors.AsType[*StatusError](err); ok && refusesRange(status.Code) {
			if _, whole := o.confirm(ctx, http.MethodHead, r, ""); whole == nil {
				return fmt.Errorf("check %s: %w", o.shown, ErrNoRanges)
			}
		}
		return err
	}
	answered, err := o.confirm(ctx, http.MethodHead, r, "")
	if err != nil && answered {
		_, err = o.confirm(ctx, http.MethodGet, r, "")
	}
	return err
}

// firstByte is the range that tells whether a server still has the object, and ranges.
const firstByte = "bytes=0-0"

// confirm makes one request for the sake of its header, for firstByte or the whole. It reports
// whether there was an answer. A range is asked for without a condition: "not modified" would
// not tell whether there are ranges yet.
func (o *Object) confirm(ctx context.Context, method string, r *route, extent string) (answered bool, err error) {
	header := http.Header{"Accept-Encoding": {"identity"}}
	if extent != "" {
		header.Set("Range", extent)
	} else if o.id.ETag != "" {
		header.Set("If-None-Match", o.id.ETag) // not so a date: an older file may take this one's place
	}
	a, final, err := o.client.attempt(ctx, request{method: method, route: r, to: r.url, header: header, urgency: source.Background})
	if err != nil {
		return false, fmt.Errorf("check %s: %w", o.shown, err)
	}
	switch {
	case a.resp.StatusCode == http.StatusNotModified && header.Get("If-None-Match") != "":
	case extent != "":
		if _, err = o.checkRange(a.resp, 0, 1, adopted); err != nil && o.checkWhole(a.resp, adopted) == nil {
			err = ErrNoRanges
		}
	default:
		err = o.checkWhole(a.resp, adopted)
	}
	if err != nil {
		return true, fmt.Errorf("check %s: %w", show.ParsedURL(final), a.reject(err))
	}
	a.peer.succeeded()
	a.close(a.resp.StatusCode != http.StatusOK)
	o.heard.Store(false)
	return true, nil
}

// findSize asks for the size of an object whose server answers ranges without it: by its
// last byte, then with HEAD. Nobody shares the object yet.
func (o *Object) findSize(ctx context.Context) error {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		header := http.Header{"Accept-Encoding": {"identity"}}
		if method == http.MethodGet {
			header.Set("Range", "bytes=-1")
		}
		a, _, err := o.client.attempt(ctx, request{method: method, route: o.route, to: o.resolved, header: header, urgency: source.UrgencyOf(ctx)})
		if err != nil {
			return err
		}
		size := int64(unknown)
		if _, err := o.id.check(a.resp.Header); err == nil && plain(a.resp.Header) == nil {
			if r, err := rangeOf(a.resp); err == nil && method == http.MethodGet && a.resp.StatusCode == http.StatusPartialContent && r.first == r.last {
				size = r.last + 1
			} else if method == http.MethodHead && a.resp.StatusCode == http.StatusOK {
				size = a.resp.ContentLength
			}
		}
		a.close(true)
		if size >= int64(len(o.head)) && size > 0 {
			o.id.Size = size
			return nil
		}
	}
	return fmt.Errorf("%w: the server does not tell the size", ErrProtocol)
}
