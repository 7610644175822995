package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/time/rate"

	"vmcastfs/cache/mirror"
)

// maxHops is how many redirects are followed.
const maxHops = 10

// A Client fetches over HTTP for one feed. All methods may be called concurrently.
type Client struct {
	options       Options
	credentials   *credentials
	limiter       *rate.Limiter // nil without a bandwidth limit
	hedge         time.Duration // how long at least until a request is made again
	mirrorStall   time.Duration // see mirrorStallOf
	mirrorConnect time.Duration // see there
	proxy         func(*url.URL) (*url.URL, error)

	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	certificates *certificates
	newTransport func(path) http.RoundTripper
	buffers      sync.Pool    // of *[tripBuffer]byte
	stuck        atomic.Int32 // requests whose transport does not return

	mu      sync.Mutex // guards all below; taken before peer.mu
	peers   map[string]*peer
	classes map[string]class     // where they were reached, by origin
	feeds   map[string]class     // where the feed at hand came from, by origin
	waiting map[string]time.Time // since when fetches of an object wait, by its URL
}

// NewClient checks the options and reads the certificate files they name; nothing is
// connected to yet.
func NewClient(o Options) (*Client, error) {
	o = o.withDefaults()
	certificates, err := newCertificates(o)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyFunc(o)
	if err != nil {
		return nil, err
	}
	if !httpguts.ValidHeaderFieldValue(o.UserAgent) {
		return nil, fmt.Errorf("user agent %q is no header value", o.UserAgent)
	}
	c := &Client{
		options:       o,
		credentials:   newCredentials(o),
		proxy:         proxy,
		hedge:         min(hedgeTime, o.StallTimeout/hedgeFactor),
		mirrorStall:   mirrorStallOf(o),
		mirrorConnect: mirrorConnect,
		certificates:  certificates,
		peers:         map[string]*peer{},
		classes:       map[string]class{},
		feeds:         map[string]class{},
		waiting:       map[string]time.Time{},
	}
	if o.Bandwidth > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(o.Bandwidth), int(min(max(o.Bandwidth/20, maxGulp), 1<<30)))
	}
	c.buffers.New = func() any { return new([tripBuffer]byte) }
	c.newTransport = c.httpTransport
	if o.Transport != nil {
		c.newTransport = func(path) http.RoundTripper { return o.Transport }
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends everything under way with an error.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		p.renew()
	}
	return nil
}

// bind returns a context that also ends, with errClosed, when the client is closed.
func (c *Client) bind(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(errClosed) })
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// A route is a URL with what decides where it may lead and who may see which secrets.
type route struct {
	url        *url.URL
	origin     string // of url
	user       *url.Userinfo
	base       *url.URL       // of the feed that named url; nil if that is a local file
	baseOrigin string         // "" for a local file
	configured bool           // url is not named by a feed, but by the administrator
	mirror     *mirror.Mirror // that url is of; nil: of none
}

// newRoute returns the route to a URL that the feed at base names. With base "" the
// administrator has configured the URL. A base that is no http(s) URL is a local file.
func newRoute(raw, base string) (*route, error) {
	u, user, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	r := &route{url: u, origin: originOf(u), user: user}
	if base == "" {
		r.base, r.baseOrigin, r.configured = u, r.origin, true
	} else if b, _, err := parseURL(base); err == nil {
		r.base, r.baseOrigin = b, originOf(b)
	}
	return r, nil
}

// do sends a request to a URL, which is that of the route or one to which it led before. It
// follows redirects, and returns the final answer, whatever its status, and its URL. With
// fresh it makes new connections. seen is the most public class of address on the way,
// anywhere if none is known: each hop names the next one, and must be allowed to.
func (c *Client) do(ctx context.Context, fresh bool, method string, r *route, to *url.URL, header http.Header) (_ *http.Response, final *url.URL, seen class, _ error) {
	seen = anywhere
	if *to != *r.url { // a redirect led there before: its name must not move inwards since
		if at, ok := c.classAt(originOf(to)); ok {
			seen = at
		}
	}
	for hop := 0; ; hop++ {
		resp, err := c.hop(ctx, fresh, method, r, to, header, seen)
		if err != nil {
			return nil, to, seen, err
		}
		if at, ok := c.classAt(originOf(to)); ok {
			seen = min(seen, at)
		}
		if r.mirror != nil {
			return resp, to, seen, nil // its redirects are not followed
		}
		location := resp.Header.Get("Location")
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
			http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, to, seen, nil
		}
		io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		resp.Body.Close()
		if location == "" {
			return nil, to, seen, fmt.Errorf("%w: a redirect without a location", ErrProtocol)
		}
		if hop == maxHops {
			return nil, to, seen, fmt.Errorf("more than %d redirects: %w", maxHops, ErrRefused)
		}
		next, err := redirect(to, location)
		if err != nil {
			return nil, to, seen, err
		}
		to = next
	}
}

// redirect resolves a Location. Userinfo in it is dropped.
func redirect(from *url.URL, location string) (*url.URL, error) {
	if len(location) > maxURL {
		return nil, fmt.Errorf("redirect to a URL of %d bytes: %w", len(location), ErrRefused)
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("redirect to what is no URL: %w", ErrRefused)
	}
	to.User, to.Fragment, to.RawFragment = nil, "", ""
	if err := checkURL(to); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	if from.Scheme == "https" && to.Scheme != "https" {
		return nil, fmt.Errorf("redirect from https to http: %w", ErrRefused)
	}
	return to, nil
}

// proxyOf is the proxy for a URL, with its login if netrc has one for its host; nil: none.
func (c *Client) proxyOf(to *url.URL) (*url.URL, error) {
	proxy, err := c.proxy(to)
	if err != nil {
		return nil, errors.New("the proxy's URL is not valid")
	}
	if proxy == nil || proxy.User != nil || c.credentials.netrc == nil {
		return proxy, nil
	}
	login, password, err := c.credentials.lookup(proxy.Hostname(), false)
	if err != nil || login == "" && password == "" {
		return proxy, err
	}
	with := *proxy
	with.User = url.UserPassword(login, password)
	return &with, nil
}

// hop sends one request and returns its answer. named is the most public class of those
// that redirected here, anywhere if nobody did.
func (c *Client) hop(ctx context.Context, fresh bool, method string, r *route, to *url.URL, header http.Header, named class) (*http.Response, error) {
	from := anywhere
	if !r.configured || originOf(to) != r.origin {
		from = c.classOfBase(ctx, r.base)
	}
	if !c.options.AllowPrivate {
		from = min(from, named)
	}
	proxy, err := c.proxyOf(to)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		// The proxy resolves the name; only a literal address can be checked here.
		if ip, err := netip.ParseAddr(to.Hostname()); err == nil {
			if err := allow(from, ip); err != nil {
				return nil, err
			}
		}
		from = anywhere
	}
	req := (&http.Request{Method: method, URL: to, Host: to.Host, Header: header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1})
	req.Header.Set("User-Agent", c.options.UserAgent)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "*/*")
	}
	if err := c.credentials.authorize(r, to, req.Header); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecrets, err)
	}
	key := originOf(to)
	if proxy == nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				c.sawAddress(key, info.Conn.RemoteAddr())
			}
		}})
	}
	peer := c.peer(key)
	if fresh {
		peer.renew() // what a network has forgotten of one connection it has forgotten of all
	}
	begun := time.Now()
	resp, err := c.roundTrip(peer, path{from, proxy != nil, key == r.baseOrigin, r.mirror != nil}, req.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	peer.answered(resp.StatusCode, time.Since(begun))
	return resp, nil
}
