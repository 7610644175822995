package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
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
	doubt  func()                                       // see Follow; nil: nobody is told
	heard  atomic.Bool                                  // from a mirror alone, see Hearsay
	byDate atomic.Bool                                  // the server gives no strong ETag any more

	mu       sync.Mutex // guards all below; no other lock is taken under it
	raw      string     // the URL as it was given
	route    *route
	resolved *url.URL   // where redirects led last; nil to start from route.url
	final    error      // why nothing can be had: ErrChanged, or the URL is unusable
	changed  error      // ErrChanged, for all but what sums prove
	other    Identity   // the last that was not the pinned one
	known    []Identity // others that the object has as well, see Adopt
	missing  time.Time  // when the server first said that there is no such object, if it says so
	missed   time.Time  // when it last did
	gone     bool       // that is final
	waiting  time.Time  // when a fetch began to wait for another answer, if one does
	told     bool       // the log says so
	spoke    time.Time  // when the log last did
	whole    time.Time  // when the server first answered without ranges, if it does
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
	for tries := 0; ; tries++ {
		o, final, err := c.open(ctx, r, retry.refused)
		if err == nil {
			o.base, o.raw = base, url
			return o, nil
		}
		if tries > 0 {
			if o := c.hear(ctx, r, err); o != nil {
				o.base, o.raw = base, url
				return o, nil
			}
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
// fetches at once, and must return soon. So must doubt, which they call while answers are of no
// use: somebody may find out what the server has, and Adopt that. Either may be nil. Follow is
// called before the first Fetch.
func (o *Object) Follow(renew func(ctx context.Context, was string) string, doubt func()) {
	o.renew, o.doubt = renew, doubt
}

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

// DropHead gives the first bytes up. It is called before others use the object.
func (o *Object) DropHead() { o.head = nil }

// open makes one attempt at Open, and says where that ended. It was refused before, so often.
func (c *Client) open(ctx context.Context, r *route, refused int) (*Object, *url.URL, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=0-%d", headSize-1)}, "Accept-Encoding": {"identity"}}
	ask := request{method: http.MethodGet, route: r, to: r.url, header: header, urgency: source.UrgencyOf(ctx), refused: refused}
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
	if err != nil && n > 0 && o.id.Ranged && ctx.Err() == nil {
		a.fail(err) // and the rest is asked for like any other
		o.head, err = o.head[:n:n], nil
	} else if err == nil {
		a.peer.succeeded()
	}
	if err != nil {
		return nil, final, a.reject(err)
	}
	a.close(o.id.Ranged)
	if o.id.Ranged && o.id.Size == unknown {
		if err := o.findSize(ctx); err != nil {
			return nil, final, err
		}
	}
	return o, final, nil
}

// location returns where to ask, on which route, and whether redirects led there before.
func (o *Object) location(p pin) (r *route, to *url.URL, remembered bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.final != nil:
		return o.route, nil, false, o.final
	case o.changed != nil && (p == pinned || p == rangeless):
		return o.route, nil, false, o.changed
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

// seal makes ErrChanged final: for fetches that are pinned, and for all if the size differs.
func (o *Object) seal(err error, p pin) {
	if !errors.Is(err, ErrChanged) {
		return
	}
	o.mu.Lock()
	if o.final == nil && (o.changed == nil || p == unpinned) {
		o.changed = err
		if p == unpinned {
			o.final = err
		}
		o.client.options.Logger.Warn("object has changed on the server", "url", o.shown, "err", err)
	}
	o.mu.Unlock()
}

// OneStream returns the object as a source that is only read forward from its start,
// which is what a server without ranges can do.
func (o *Object) OneStream() source.Forward {
	return source.NewForward(o.Fetch, func(int64) int64 { return 0 })
}
