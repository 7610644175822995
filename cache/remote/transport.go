package remote

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
	"vmcastfs/feed/show"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/sys/unix"
)

const (
	// maxHeader is how large the header of an answer may be, in bytes.
	maxHeader = 64 << 10
	idleTime  = 90 * time.Second

	// probeIdle is how long a connection may be silent before TCP asks whether its other
	// end is there, once in probeTime.
	probeIdle = 2 * time.Second
	probeTime = time.Second
	// deadTime is how long that end may leave bytes or probes unacknowledged. This tells a
	// dead path from a slow server, which acknowledges.
	deadTime = 4 * time.Second
)

// A path is one way to the network. Connections of different paths are never shared, so
// that one dialled under a lenient rule cannot serve a request under a strict one. Nor are
// those of different origins: each has transports of its own.
type path struct {
	from    class // who named the address; proxied connections go anywhere
	proxied bool
	cert    bool // show the client certificate
	mirror  bool // it is near, or of no use
}

// roundTrip sends a request to the origin of p. It ends when the context of the request
// does. A transport that has not returned by then is replaced: its connections and locks
// are not trusted with another request.
func (c *Client) roundTrip(p *peer, w path, req *http.Request) (*http.Response, error) {
	if c.stuck.Load() >= maxStuck {
		return nil, errStuck
	}
	t := p.transport(w, c.newTransport)
	return roundTrip(t, req, &c.buffers, func(ended <-chan struct{}) {
		c.options.Logger.Error("the HTTP transport is stuck and was replaced", "url", show.ParsedURL(req.URL))
		p.renew()
		c.stuck.Add(1)
		<-ended
		c.stuck.Add(-1)
	})
}

// transport returns the transport of a path to the origin, made by make if there is none.
func (p *peer) transport(w path, make func(path) http.RoundTripper) http.RoundTripper {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.transports[w]
	if t == nil {
		t = make(w)
		p.transports[w] = t
	}
	return t
}

// renew gives up all connections to the origin: idle ones now, others when their requests
// have ended. The next request makes a new one. It does not wait for a stuck transport.
func (p *peer) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transports {
		if t, ok := t.(interface{ CloseIdleConnections() }); ok {
			go t.CloseIdleConnections()
		}
	}
	clear(p.transports)
}

// httpTransport returns a transport for a path. It speaks HTTP/1.1 only: each range has a
// connection of its own, so that one that stalls holds up no other.
func (c *Client) httpTransport(w path) http.RoundTripper {
	connect, handshake := c.options.ConnectTimeout, c.options.ConnectTimeout
	if w.mirror {
		connect, handshake = c.mirrorConnect, mirrorStall
	}
	dialer := &net.Dialer{
		Timeout:         connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeTime, Count: int(deadTime / probeTime)},
	}
	config := c.certificates.current().Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1) // not shared: a session keeps its client certificate
	if !w.cert {
		config.Certificates = nil
	}
	t := &http.Transport{
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    handshake,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    c.options.MaxConns,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	from := anywhere
	if w.proxied {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return c.proxyOf(r.URL) }
		t.OnProxyConnectResponse = tunnelled
	} else {
		from = w.from
	}
	dialer.Control = func(_, address string, conn syscall.RawConn) error {
		if err := allowAddress(from, address); err != nil {
			return err
		}
		return setDeadTime(conn)
	}
	t.DialContext = dialer.DialContext
	return t
}

// setDeadTime has a connection end once its other end has not acknowledged for deadTime.
func setDeadTime(conn syscall.RawConn) error {
	var err error
	if control := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadTime/time.Millisecond))
	}); control != nil {
		return control
	}
	return err
}

// tunnelled decides whether a proxy's answer to CONNECT is a tunnel. A login that is missing
// can be told by its status; another refusal says nothing of the object.
func tunnelled(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusProxyAuthRequired:
		return statusError(resp, show.ParsedURL(proxy))
	}
	return fmt.Errorf("proxy %s refuses to connect: status %d", show.ParsedURL(proxy), resp.StatusCode)
}

// proxyFunc returns what chooses the proxy of a URL, nil for none.
func proxyFunc(o Options) (func(*url.URL) (*url.URL, error), error) {
	switch o.Proxy {
	case "":
		return httpproxy.FromEnvironment().ProxyFunc(), nil
	case "none":
		return func(*url.URL) (*url.URL, error) { return nil, nil }, nil
	}
	u, err := url.Parse(o.Proxy)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("proxy is not a URL of the form http://host:port")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fmt.Errorf("proxy scheme %q: one of http, https, socks5 is needed", u.Scheme)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, nil
}
