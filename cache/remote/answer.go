package remote

import (
	"fmt"
	"net/http"
	"strings"
)

// refusesRange reports whether a status may mean that a server wants no Range header, or
// cannot serve a range that ends behind a small object.
func refusesRange(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		return true
	}
	return false
}

// identify reads the answer to Open's request: who the object is, and how many bytes of
// it are to be read.
func identify(resp *http.Response, url string) (Identity, int64, error) {
	if err := plain(resp.Header); err != nil {
		return Identity{}, 0, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		r, err := rangeOf(resp)
		if err != nil {
			return Identity{}, 0, err
		}
		want := r.last + 1 // a server may send less than was asked for (RFC 9110, section 15.3.7)
		if r.first != 0 || want > headSize || resp.ContentLength >= 0 && resp.ContentLength != want {
			return Identity{}, 0, fmt.Errorf("%w: asked for the first %d bytes, got Content-Range %.80q and length %d",
				ErrProtocol, headSize, resp.Header.Get("Content-Range"), resp.ContentLength)
		}
		return identityOf(resp.Header, r.total, true), want, nil
	case http.StatusOK:
		if resp.Header.Get("Content-Range") != "" {
			return Identity{}, 0, fmt.Errorf("%w: status 200 with a Content-Range", ErrProtocol)
		}
		want := int64(headSize)
		if resp.ContentLength >= 0 {
			want = min(want, resp.ContentLength)
		}
		return identityOf(resp.Header, max(resp.ContentLength, unknown), false), want, nil
	case http.StatusRequestedRangeNotSatisfiable:
		if r, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil && r.first == unknown && r.total == 0 {
			return identityOf(resp.Header, 0, true), 0, nil
		}
	}
	return Identity{}, 0, statusError(resp, url)
}

// plain refuses content codings: offsets would count the wrong bytes.
func plain(h http.Header) error {
	for _, coding := range h.Values("Content-Encoding") {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return fmt.Errorf("%w: Content-Encoding %.40q was not asked for", ErrProtocol, coding)
		}
	}
	return nil
}

func rangeOf(resp *http.Response) (contentRange, error) {
	if strings.HasPrefix(strings.ToLower(resp.Header.Get("Content-Type")), "multipart/byteranges") {
		return contentRange{}, fmt.Errorf("%w: several ranges in answer to one", ErrProtocol)
	}
	values := resp.Header.Values("Content-Range")
	if len(values) != 1 {
		return contentRange{}, fmt.Errorf("%w: status 206 with %d Content-Range headers", ErrProtocol, len(values))
	}
	r, err := parseContentRange(values[0])
	if err != nil || r.first == unknown {
		return contentRange{}, fmt.Errorf("%w: Content-Range %.80q", ErrProtocol, values[0])
	}
	return r, nil
}

// checkRange decides whether resp is bytes of the object from off, at most up to end, and
// returns up to where. A server may send less than was asked for (RFC 9110, section 15.3.7),
// and need not tell the size of the whole.
func (o *Object) checkRange(resp *http.Response, off, end int64, p pin) (until int64, err error) {
	if err := plain(resp.Header); err != nil {
		return 0, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent, http.StatusOK:
	case http.StatusRequestedRangeNotSatisfiable:
		if r, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil && r.total != o.id.Size {
			return 0, fmt.Errorf("%w: %d bytes, was %d", errShrunk, r.total, o.id.Size)
		}
		return 0, fmt.Errorf("%w: status 416 for a range inside the object", ErrProtocol)
	default:
		return 0, statusError(resp, o.shown)
	}
	if err := o.notPage(resp); err != nil {
		return 0, err
	}
	sure, err := o.check(resp.Header, p)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK {
		if !sure && resp.ContentLength >= 0 && resp.ContentLength != o.id.Size && resp.Header.Get("Content-Range") == "" {
			return 0, o.id.otherSize(resp.Header, resp.ContentLength)
		}
		return 0, fmt.Errorf("%w: status 200 for a range", ErrProtocol)
	}
	r, err := rangeOf(resp)
	if err != nil {
		return 0, err
	}
	if !sure && r.total != unknown && r.total != o.id.Size {
		return 0, o.id.otherSize(resp.Header, r.total)
	}
	until = r.last + 1
	if r.first != off || until > end || r.total != o.id.Size && r.total != unknown || resp.ContentLength >= 0 && resp.ContentLength != until-off {
		return 0, fmt.Errorf("%w: asked for bytes %d-%d/%d, got Content-Range %.80q and length %d",
			ErrProtocol, off, end-1, o.id.Size, resp.Header.Get("Content-Range"), resp.ContentLength)
	}
	return until, nil
}

// errShrunk: the server has something smaller, which may be a page in place of the object.
var errShrunk = fmt.Errorf("%w: a range inside the object is not satisfiable", ErrProtocol)

// notPage refuses HTML in the place of an object that was none: a login page, or that of a
// proxy. So it does nothing in the place of something, as while a file is written anew. Both
// say nothing of the object, whatever their validators are.
func (o *Object) notPage(resp *http.Response) error {
	if h := resp.Header; isHTML(h) && !o.id.HTML && (o.id.ETag == "" || strongETag(h) != o.id.ETag) {
		return fmt.Errorf("%w: a page of HTML in place of the object", ErrProtocol)
	}
	if resp.ContentLength == 0 && o.id.Size > 0 {
		return fmt.Errorf("%w: nothing in place of the object", ErrProtocol)
	}
	return nil
}

// otherSize is the error of an answer with another size. One that lacks the validators which
// the object had may be a message in its place.
func (id Identity) otherSize(h http.Header, size int64) error {
	kind := ErrChanged
	if id.Pinned() && strongETag(h) == "" && lastModified(h) == "" {
		kind = ErrProtocol
	}
	return fmt.Errorf("%w: %d bytes, was %d", kind, size, id.Size)
}

// checkWhole decides whether resp is the whole object from its beginning.
func (o *Object) checkWhole(resp *http.Response, p pin) error {
	if err := plain(resp.Header); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Range") != "" {
		if resp.StatusCode < 300 {
			return fmt.Errorf("%w: status %d for the whole object", ErrProtocol, resp.StatusCode)
		}
		return statusError(resp, o.shown)
	}
	if err := o.notPage(resp); err != nil {
		return err
	}
	if _, err := o.check(resp.Header, p); err != nil {
		return err
	}
	if o.id.Size != unknown && resp.ContentLength >= 0 && resp.ContentLength != o.id.Size {
		return o.id.otherSize(resp.Header, resp.ContentLength)
	}
	return nil
}
