package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"vmcastfs/cache/source"
	"vmcastfs/feed/show"
)

// hear opens an object by what a mirror says of it, once its origin has failed with err. nil:
// that may yet be told by the origin itself, or no mirror says anything.
func (c *Client) hear(ctx context.Context, r *route, err error) *Object {
	if ctx.Value(atOrigin{}) != nil || errors.Is(err, ErrProtocol) || !temporary(err) || ctx.Err() != nil {
		return nil
	}
	v := viaOf(&Object{client: c}, r, r.url, false)
	if v == nil {
		return nil
	}
	heard, _, failed := c.open(ctx, v.route, 0)
	if failed != nil || mirrorsOf(heard) == nil {
		return nil
	}
	heard.route, heard.resolved, heard.shown = r, nil, show.ParsedURL(r.url)
	heard.heard.Store(true)
	c.options.Logger.Warn("the server cannot be reached; a mirror says what the object is", "url", heard.shown, "mirror", v.mirror.Name(), "err", err)
	return heard
}

type atOrigin struct{}

// AtOrigin returns a context in which Open waits for the origin, whatever mirrors say.
func AtOrigin(ctx context.Context) context.Context { return context.WithValue(ctx, atOrigin{}, true) }

// Hearsay reports whether nothing but a mirror has said what the object is, because its origin
// failed. Then all bytes may come from mirrors, and whoever reads them must have a signature that
// proves them. It ends when the origin confirms the object.
func (o *Object) Hearsay() bool { return o.heard.Load() }

// Warm has a mirror fetch what a host without an origin would ask it for: what the object is, and
// some of its ranges. Failures are of no matter.
func (o *Object) Warm(ctx context.Context, spans ...[2]int64) {
	r, to, remembered, err := o.location(pinned)
	if mirrorsOf(o) == nil || err != nil {
		return
	}
	v := viaOf(o, r, to, remembered)
	if v == nil {
		return
	}
	header := http.Header{"Range": {fmt.Sprintf("bytes=0-%d", headSize-1)}, "Accept-Encoding": {"identity"}}
	a, _, err := o.client.attempt(ctx, request{method: http.MethodGet, route: v.route, to: v.route.url, header: header, urgency: source.Background})
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, a, headSize)
	a.close(true)
	for _, s := range spans {
		if v.probe(ctx, s[0], s[1]) != nil {
			return
		}
	}
}
