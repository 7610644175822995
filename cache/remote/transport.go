package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	// maxHeader is how large the header of an answer may be, in bytes.
	maxHeader = 64 << 10
	idleTime  = 90 * time.Second
	pingTime  = 15 * time.Second
)

// A path is one way to the network. Connections of different paths are never shared, so
// that one dialled under a lenient rule cannot serve a request under a strict one.
type path struct {
	from    class // who named the address; proxied connections go anywhere
	proxied bool
	cert    bool // show the client certificate
}

// transport returns the transport of a path.
func (c *Client) transport(p path) http.RoundTripper {
	if c.options.Transport != nil {
		return c.options.Transport
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[p]; ok {
		return t
	}
	dialer := &net.Dialer{Timeout: c.options.ConnectTimeout, KeepAlive: pingTime}
	config := c.tls.Clone()
	if !p.cert {
		config.Certificates = nil
	}
	t := &http.Transport{
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    c.options.ConnectTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    c.options.MaxConns,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingTime, PingTimeout: pingTime},
	}
	if p.proxied {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return c.proxyOf(r.URL) }
	} else {
		dialer.Control = control(p.from)
	}
	t.DialContext = dialer.DialContext
	c.transports[p] = t
	return t
}

// tlsConfig reads the certificate files of the options.
func tlsConfig(o Options) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACert != "" {
		pem, err := readAtMost(o.CACert, 16<<20)
		if err != nil {
			return nil, fmt.Errorf("read authorities from %q: %w", o.CACert, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %q", o.CACert)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, fmt.Errorf("a client certificate needs both its certificate and its key file")
	}
	if o.Cert != "" {
		cert, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate %q, key %q: %w", o.Cert, o.Key, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
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
