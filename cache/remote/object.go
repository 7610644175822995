package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/feed/show"
)

// headSize is how much of an object Open asks for, in bytes: enough for the metadata of a
// package that has it in front.
const headSize = 128 << 10

// An Object is what a URL named when it was opened. Its methods may be called
// concurrently.
type Object struct {
	client *Client
	base   string // as given to Open
	id     Identity
	head   []byte
	shown  string
	rally  rally
	renew  func(ctx context.Context, was string) string // nil: there never is a fresh URL

	mu       sync.Mutex // guards all below; no other lock is taken under it
	raw      string     // the URL as it was given
	route    *route
	resolved *url.URL  // where redirects led last; nil to start from route.url
	final    error     // ErrChanged, once seen; or why the URL is unusable
	missing  time.Time // when the server first said that there is no such object, if it says so
	gone     bool      // that is final
	waiting  time.Time // when a fetch began to wait for another answer, if one does
	told     bool      // the log says so
	spoke    time.Time // when the log last did
}

// Open asks for the first 128 KiB of a URL and pins what the server says of the object.
// base is the URL of the feed that named it, which decides what addresses it may lead to
// and who sees which credentials; "" if the administrator named it. Failures are retried
// as those of [Object.Fetch].
func (c *Client) Open(ctx context.Context, url, base string) (*Object, error) {
	r, err := newRoute(url, base)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", show.URL(url), err)
	}
	ctx, cancel := c.bind(ctx)
	defer cancel(nil)
	retry := c.newRetry(r, cancel)
	retry.soft.start()
	defer retry.soft.stop(0)
	for {
		o, final, err := c.open(ctx, r, retry.refused)
		if err == nil {
			o.base, o.raw = base, url
			return o, nil
		}
		if err := retry.failed(ctx, c.peer(originOf(final)), err); err != nil {
			return nil, err
		}
	}
}

// Resume is Open from a persisted identity, without a request. If the URL is not usable,
// every Fetch says so.
func (c *Client) Resume(url, base string, id Identity) *Object {
	o := &Object{client: c, base: base, id: id, shown: show.URL(url), raw: url}
	o.route, o.final = newRoute(url, base)
	return o
}

// Move has the object asked for at another URL from now on, as when the one it was
// opened at has expired and its feed names a new one. The identity stays: what answers
// there with another is [ErrChanged].
func (o *Object) Move(url string) error {
	r, err := newRoute(url, o.base)
	if err != nil {
		return fmt.Errorf("move %s: %w", o.shown, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.route, o.resolved, o.raw = r, nil, url
	if !errors.Is(o.final, ErrChanged) {
		o.final = nil
	}
	return nil
}

// Follow has renew asked for a fresh URL when the server says that the one at hand is no good
// any more (401, 403, 404, 410). renew returns "" if there is none. It may be called by many
// fetches at once, and must return soon. Follow is called before the first Fetch.
func (o *Object) Follow(renew func(ctx context.Context, was string) string) { o.renew = renew }

// renewed follows the object to a fresh URL, if there is one.
func (o *Object) renewed(ctx context.Context) bool {
	if o.renew == nil {
		return false
	}
	o.mu.Lock()
	was := o.raw
	o.mu.Unlock()
	fresh := o.renew(ctx, was)
	if fresh == "" || fresh == was {
		return false
	}
	if err := o.Move(fresh); err != nil {
		o.client.options.Logger.Warn("the fresh URL is of no use", "url", show.URL(fresh), "err", err)
		return false
	}
	return true
}

// Identity returns what was pinned at Open.
func (o *Object) Identity() Identity { return o.id }

// Head returns the first bytes of the object, up to 128 KiB; nothing after Resume. They
// must not be modified.
func (o *Object) Head() []byte { return o.head }

// URL returns the URL as given to Open, as it may be shown; see [Display].
func (o *Object) URL() string { return o.shown }

// open makes one attempt at Open, and says where that ended. It was refused before, so often.
func (c *Client) open(ctx context.Context, r *route, refused int) (*Object, *url.URL, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=0-%d", headSize-1)}, "Accept-Encoding": {"identity"}}
	ask := request{method: http.MethodGet, route: r, to: r.url, header: header, urgency: source.Demand, refused: refused}
	a, final, err := c.attempt(ctx, ask)
	if err == nil && refusesRange(a.resp.StatusCode) {
		_ = a.reject(statusError(a.resp, show.ParsedURL(final)))
		header.Del("Range")
		a, final, err = c.attempt(ctx, ask)
	}
	if err != nil {
		return nil, final, err
	}
	o := &Object{client: c, route: r, shown: show.ParsedURL(r.url), resolved: final}
	var want int64
	o.id, want, err = identify(a.resp, show.ParsedURL(final))
	if err != nil {
		return nil, final, a.reject(err)
	}
	o.head = make([]byte, want)
	n, err := io.ReadFull(a, o.head)
	if (err == io.EOF || err == io.ErrUnexpectedEOF) && a.eof && o.id.Size == unknown {
		o.head, o.id.Size, err = o.head[:n:n], int64(n), nil
	}
	if err != nil {
		return nil, final, a.reject(err)
	}
	a.peer.succeeded()
	a.close(o.id.Ranged)
	if o.id.Ranged && o.id.Size == unknown {
		if err := o.findSize(ctx); err != nil {
			return nil, final, err
		}
	}
	return o, final, nil
}

// refusesRange reports whether a status may mean that a server wants no Range header.
func refusesRange(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotImplemented
}

// findSize asks for the size of an object whose server answers ranges without it: by its
// last byte, then with HEAD.
func (o *Object) findSize(ctx context.Context) error {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		header := http.Header{"Accept-Encoding": {"identity"}}
		if method == http.MethodGet {
			header.Set("Range", "bytes=-1")
		}
		a, _, err := o.client.attempt(ctx, request{method: method, route: o.route, to: o.resolved, header: header, urgency: source.Demand})
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
func (o *Object) checkRange(resp *http.Response, off, end int64) (until int64, err error) {
	if err := plain(resp.Header); err != nil {
		return 0, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent, http.StatusOK:
	case http.StatusRequestedRangeNotSatisfiable:
		if r, err := parseContentRange(resp.Header.Get("Content-Range")); err == nil && r.total != o.id.Size {
			if r.total == 0 {
				return 0, fmt.Errorf("%w: it is empty", ErrChanged)
			}
			return 0, fmt.Errorf("%w: %d bytes, was %d", errShrunk, r.total, o.id.Size)
		}
		return 0, fmt.Errorf("%w: status 416 for a range inside the object", ErrProtocol)
	default:
		return 0, statusError(resp, o.shown)
	}
	if err := o.notPage(resp.Header); err != nil {
		return 0, err
	}
	sure, err := o.id.check(resp.Header)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK {
		if !sure && resp.ContentLength >= 0 && resp.ContentLength != o.id.Size && resp.Header.Get("Content-Range") == "" {
			return 0, fmt.Errorf("%w: %d bytes, was %d", ErrChanged, resp.ContentLength, o.id.Size)
		}
		return 0, fmt.Errorf("%w: status 200 for a range", ErrProtocol)
	}
	r, err := rangeOf(resp)
	if err != nil {
		return 0, err
	}
	if !sure && r.total != unknown && r.total != o.id.Size {
		return 0, fmt.Errorf("%w: %d bytes, was %d", ErrChanged, r.total, o.id.Size)
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
// proxy. It says nothing of the object, whatever its validators are.
func (o *Object) notPage(h http.Header) error {
	if isHTML(h) && !o.id.HTML && (o.id.ETag == "" || strongETag(h) != o.id.ETag) {
		return fmt.Errorf("%w: a page of HTML in place of the object", ErrProtocol)
	}
	return nil
}

// checkWhole decides whether resp is the whole object from its beginning.
func (o *Object) checkWhole(resp *http.Response) error {
	if err := plain(resp.Header); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Range") != "" {
		if resp.StatusCode < 300 {
			return fmt.Errorf("%w: status %d for the whole object", ErrProtocol, resp.StatusCode)
		}
		return statusError(resp, o.shown)
	}
	if err := o.notPage(resp.Header); err != nil {
		return err
	}
	if _, err := o.id.check(resp.Header); err != nil {
		return err
	}
	if o.id.Size != unknown && resp.ContentLength >= 0 && resp.ContentLength != o.id.Size {
		return fmt.Errorf("%w: %d bytes, was %d", ErrChanged, resp.ContentLength, o.id.Size)
	}
	return nil
}

// Check asks whether the URL still leads to the object that was opened. It transfers one
// byte at most where the server has ranges. It returns nil, [ErrChanged], or what kept it from
// finding out. An object that has changed is not sealed: where redirects led before, the old
// one may still be had.
//
// A server without ranges is asked with HEAD. HEAD may only confirm the object: some servers
// refuse it, or answer it with another length. Then GET decides, and its body is not read.
func (o *Object) Check(ctx context.Context) error {
	r, _, _, err := o.location()
	if err != nil {
		return fmt.Errorf("check %s: %w", o.shown, err)
	}
	ctx, cancel := o.client.bind(ctx)
	defer cancel(nil)
	if o.id.Ranged && o.id.Size > 0 {
		_, err := o.confirm(ctx, http.MethodGet, r)
		return err
	}
	answered, err := o.confirm(ctx, http.MethodHead, r)
	if err != nil && answered {
		_, err = o.confirm(ctx, http.MethodGet, r)
	}
	return err
}

// confirm makes one request for the sake of its header. It reports whether there was an answer.
func (o *Object) confirm(ctx context.Context, method string, r *route) (answered bool, err error) {
	header := http.Header{"Accept-Encoding": {"identity"}}
	if o.id.Ranged && o.id.Size > 0 {
		header.Set("Range", "bytes=0-0") // for servers that ignore the conditions
	}
	if o.id.ETag != "" {
		header.Set("If-None-Match", o.id.ETag) // not so a date: an older file may take this one's place
	}
	a, final, err := o.client.attempt(ctx, request{method: method, route: r, to: r.url, header: header, urgency: source.Background})
	if err != nil {
		return false, fmt.Errorf("check %s: %w", o.shown, err)
	}
	switch {
	case a.resp.StatusCode == http.StatusNotModified && o.id.ETag != "":
	case header.Get("Range") != "":
		_, err = o.checkRange(a.resp, 0, 1)
	default:
		err = o.checkWhole(a.resp)
	}
	if err != nil {
		return true, fmt.Errorf("check %s: %w", show.ParsedURL(final), a.reject(err))
	}
	a.peer.succeeded()
	a.close(a.resp.StatusCode != http.StatusOK)
	return true, nil
}

// location returns where to ask, on which route, and whether redirects led there before.
func (o *Object) location() (r *route, to *url.URL, remembered bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.final != nil:
		return o.route, nil, false, o.final
	case o.resolved == nil || *o.resolved == *o.route.url:
		return o.route, o.route.url, false, nil
	}
	return o.route, o.resolved, true, nil
}

// remember keeps where redirects from r led; nil forgets it.
func (o *Object) remember(r *route, to *url.URL) {
	o.mu.Lock()
	if o.route == r {
		o.resolved = to
	}
	o.mu.Unlock()
}

// seal makes ErrChanged final.
func (o *Object) seal(err error) {
	if !errors.Is(err, ErrChanged) {
		return
	}
	o.mu.Lock()
	if o.final == nil {
		o.final = err
		o.client.options.Logger.Warn("object has changed on the server", "url", o.shown, "err", err)
	}
	o.mu.Unlock()
}

// OneStream returns the object as a source that is only read forward from its start,
// which is what a server without ranges can do.
func (o *Object) OneStream() source.Forward {
	return source.NewForward(o.Fetch, func(int64) int64 { return 0 })
}
