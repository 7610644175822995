package remote

import (
	"log/slog"
	"net/http"
	"time"

	"vmcastfs/cache/mirror"
)

// Options say how a [Client] reaches the network. The zero value is a working choice:
// soft, environment proxies, the system's certificates, no credentials.
type Options struct {
	// Hard makes a fetch wait for as long as its context lasts, unless the object has
	// changed or is gone. A soft fetch gives up when nothing has arrived for Timeo (default
	// 60 s), and at once where the server gives a clear answer.
	Hard  bool
	Timeo time.Duration

	// ConnectTimeout bounds making a connection, TLS included (default 10 s).
	// StallTimeout is how long an attempt may go without progress, from sending the
	// request on (default 30 s); less than 4 KiB in that time is no progress.
	ConnectTimeout time.Duration
	StallTimeout   time.Duration

	// RetryMin and RetryMax bound the pause before another attempt, before jitter of
	// ±50 % (defaults 100 ms and 30 s). Pauses double. RetryAfterMax caps what a
	// server may ask for with Retry-After (default 2 min).
	RetryMin, RetryMax time.Duration
	RetryAfterMax      time.Duration

	// DocumentTimeout bounds the whole of one Get (default 60 s).
	DocumentTimeout time.Duration

	// MaxConns is how many requests may be under way to one origin (default 8).
	MaxConns int
	// Bandwidth limits what all bodies together receive, in bytes per second; 0 is no
	// limit.
	Bandwidth int64

	// CACert is a PEM file of authorities to trust in place of the system's. Cert and
	// Key are PEM files of a client certificate, shown to the origin of the feed only.
	CACert, Cert, Key string
	// Netrc is a netrc file, TokenFile one that holds a bearer token. Both are read
	// again when they change.
	Netrc, TokenFile string
	// HeaderFile is a file of further request headers, "Name: value" lines, for the origin of
	// the feed only. It is read again when it changes.
	HeaderFile string
	// Proxy is the URL of a proxy for everything; "" takes HTTP_PROXY, HTTPS_PROXY and
	// NO_PROXY from the environment, and "none" uses no proxy. A proxy without userinfo gets
	// the login that Netrc has for its host.
	Proxy string

	// Mirrors are caches that are asked for what block sums prove, see [source.Trial]; nil: none.
	Mirrors *mirror.Set

	// AllowPrivate lifts the address policy: a public feed may then name private,
	// loopback and link-local addresses.
	AllowPrivate bool

	// UserAgent is sent with every request (default "vmcastfs").
	UserAgent string
	// Logger hears of origins that fail and recover; nil for silence.
	Logger *slog.Logger
	// Transport replaces the network in tests. The address policy, proxies and TLS
	// options do not apply to it.
	Transport http.RoundTripper
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&o.Timeo, time.Minute)
	set(&o.ConnectTimeout, 10*time.Second)
	set(&o.StallTimeout, 30*time.Second)
	set(&o.RetryMin, 100*time.Millisecond)
	set(&o.RetryMax, 30*time.Second)
	set(&o.RetryAfterMax, 2*time.Minute)
	set(&o.DocumentTimeout, time.Minute)
	if o.MaxConns <= 0 {
		o.MaxConns = 8
	}
	if o.UserAgent == "" {
		o.UserAgent = "vmcastfs"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
