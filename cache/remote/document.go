package remote

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"vmcastfs/cache/source"
	"vmcastfs/feed/show"
)

const (
	// maxMaxAge caps Document.MaxAge.
	maxMaxAge = 7 * 24 * time.Hour
	// acceptFeed is what a document may be, the best first.
	acceptFeed = "application/rss+xml, application/atom+xml, application/feed+json, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5"
)

// A Document is a small file fetched whole.
type Document struct {
	Body         []byte        // decoded; nil if NotModified
	ETag         string        // as given, also if weak; "" if none
	LastModified string        // as given; "" if none
	FinalURL     string        // after redirects, without userinfo; relative links in Body count from it. For messages use show.URL
	ContentType  string        // as given
	NotModified  bool          // the document with the given ETag or date stands
	MaxAge       time.Duration // of Cache-Control, at most a week; 0 if not said
	From         string        // the most public kind of address on the way to it, for [Client.FeedFrom]; "" behind a proxy
}

// Get fetches a document of at most limit bytes, before and after decoding. It takes at most
// Options.DocumentTimeout, and makes one attempt: a poller has a rhythm of its own. etag and
// lastModified are those of the copy at hand, "" if there is none. The URL counts as named by
// the administrator.
//
// Errors are a [*StatusError], a [*TemporaryError], or wrap [ErrTooLarge], [ErrProtocol] or
// [ErrRefused].
func (c *Client) Get(ctx context.Context, url, etag, lastModified string, limit int64) (*Document, error) {
	d, err := c.get(ctx, url, etag, lastModified, limit)
	_, isStatus := errors.AsType[*StatusError](err)
	_, isTemporary := errors.AsType[*TemporaryError](err)
	switch {
	case err == nil || isStatus:
	case (temporary(err) || notValidNow(err)) && !isTemporary && !errors.Is(err, ErrProtocol):
		return nil, &TemporaryError{show.URL(url), err}
	default:
		return nil, fmt.Errorf("get %s: %w", show.URL(url), err)
	}
	return d, err
}

func (c *Client) get(ctx context.Context, url, etag, lastModified string, limit int64) (*Document, error) {
	r, err := newRoute(url, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bind(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, c.options.DocumentTimeout,
		&TemporaryError{show.ParsedURL(r.url), fmt.Errorf("not complete after %v", c.options.DocumentTimeout)})
	defer stop()

	header := http.Header{"Accept": {acceptFeed}, "Accept-Encoding": {"gzip"}}
	for key, value := range map[string]string{"If-None-Match": etag, "If-Modified-Since": lastModified} {
		if value != "" && len(value) <= maxValidator && httpguts.ValidHeaderFieldValue(value) {
			header.Set(key, value)
		}
	}
	a, final, err := c.attempt(ctx, request{method: http.MethodGet, route: r, to: r.url, header: header, urgency: source.Demand})
	if err != nil {
		return nil, err
	}
	h := a.resp.Header
	d := &Document{
		ETag:         orNone(h.Get("ETag")),
		LastModified: orNone(h.Get("Last-Modified")),
		FinalURL:     final.String(),
		ContentType:  orNone(h.Get("Content-Type")),
		MaxAge:       maxAge(h),
	}
	if a.seen != anywhere {
		d.From = a.seen.String()
	}
	switch a.resp.StatusCode {
	case http.StatusOK:
		d.Body, err = readDocument(a, limit)
	case http.StatusNotModified:
		d.NotModified = true
		if header.Get("If-None-Match") == "" && header.Get("If-Modified-Since") == "" {
			err = fmt.Errorf("%w: status 304 for an unconditional request", ErrProtocol)
		}
	default:
		err = statusError(a.resp, show.ParsedURL(final))
	}
	if err != nil {
		return nil, a.reject(err)
	}
	a.peer.succeeded()
	a.close(true)
	return d, nil
}

// readDocument reads and decodes a body of at most limit bytes, before and after.
func readDocument(a *attempt, limit int64) ([]byte, error) {
	var body io.Reader = &capped{a, limit}
	switch coding := strings.ToLower(a.resp.Header.Get("Content-Encoding")); coding {
	case "", "identity":
	case "gzip", "x-gzip":
		zr, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("decode gzip: %w", err)
		}
		body = &capped{zr, limit}
	default:
		return nil, fmt.Errorf("%w: Content-Encoding %.40q was not asked for", ErrProtocol, coding)
	}
	return io.ReadAll(body)
}

// A capped reader fails with ErrTooLarge once more than left bytes have come.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}

// orNone returns a header value, or "" if it is longer than maxValidator.
func orNone(s string) string {
	if len(s) > maxValidator {
		return ""
	}
	return s
}

// maxAge reads Cache-Control: max-age (RFC 9111, section 5.2.2.1).
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && seconds > 0 {
			return min(time.Duration(seconds)*time.Second, maxMaxAge)
		}
	}
	return 0
}
