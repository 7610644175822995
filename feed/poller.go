package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
	"vmcastfs/feed/show"
)

// PollerOptions configure a [Poller]. URL and Fetch are required.
type PollerOptions struct {
	URL string // http, https, or a local file as a path or file: URL

	// Fetch gets the document at url, conditionally if etag or lastModified are
	// not empty. For local files there is [FetchFile]. It must respect ctx. An error
	// that has a method RetryAfter() time.Duration delays the next attempt by that
	// much, at most an hour.
	Fetch func(ctx context.Context, url, etag, lastModified string) (*Document, error)

	// Load and Save keep one opaque document over restarts: the last good feed and
	// the names given. Load returns an error if there is none. Either may be nil.
	Load func() ([]byte, error)
	Save func([]byte) error

	// OnFeed is called with every new good feed and its bytes, one call at a time,
	// from within Run or Refresh. It must call neither. It is not called for the feed
	// that NewPoller loads.
	OnFeed func(f *Feed, raw []byte)

	Refresh time.Duration // poll this often whatever feed and server say; 0: they decide
	Timeout time.Duration // of one fetch in all; 0: 2 minutes
	Logger  *slog.Logger  // nil: no log
}

// Status tells how a poller fares. It marshals to JSON.
type Status struct {
	URL         string    `json:"url"` // without credentials and query
	Title       string    `json:"title,omitempty"`
	Releases    int       `json:"releases"`
	LastSuccess time.Time `json:"last_success,omitzero"` // the feed was fetched, or confirmed unchanged; over restarts
	LastAttempt time.Time `json:"last_attempt,omitzero"` // in this process
	LastError   string    `json:"last_error,omitempty"`  // of the last attempt; sanitised
	Failures    int       `json:"failures,omitempty"`    // attempts in a row that failed
	Failed      int       `json:"failed,omitempty"`      // all that failed, in this process
	Stale       bool      `json:"stale"`                 // what is shown was not confirmed by the last attempt
	Next        time.Time `json:"next,omitzero"`         // the next attempt, while Run runs
	Warnings    []string  `json:"warnings,omitempty"`
}

// Poller keeps one feed up to date, by the rules in the package documentation.
type Poller struct {
	o      PollerOptions
	local  bool
	url    string // for people: without credentials
	names  *nameTable
	busy   chan struct{} // holds a token while a poll is under way; taken before mu
	resume chan struct{} // tells Run that somebody else has polled

	mu     sync.Mutex // guards all below; never held over a call of an option's func
	feed   *Feed
	saved  saved
	status Status

	retryAfter time.Duration // what the server asked for with its last failure
}

// NewPoller makes a poller and loads the last good feed, if there is one.
func NewPoller(o PollerOptions) (*Poller, error) {
	if o.URL == "" || o.Fetch == nil {
		return nil, errors.New("feed poller needs a URL and a way to fetch it")
	}
	u, err := parseBase(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Poller{o: o, local: u.Scheme == "file", names: new(nameTable), busy: make(chan struct{}, 1), resume: make(chan struct{}, 1)}
	p.url = show.ParsedURL(u)
	p.status.URL = p.url
	p.status.Stale = true
	p.load()
	return p, nil
}

// Feed is the last good feed and its bytes; nil if there never was one.
func (p *Poller) Feed() (f *Feed, raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.feed, p.saved.Body
}

// Status is safe to call at any time, and never waits for a poll.
func (p *Poller) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Run polls at once, then whenever it is time, until ctx ends. Only one Run
// may be under way.
func (p *Poller) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			p.poll(ctx) // an error is in the status and the log
		case <-p.resume:
		}
		timer.Reset(time.Until(p.plan()))
	}
}

// Refresh polls now, whatever the schedule says, and returns the outcome. If a
// poll is under way it waits for that one first.
func (p *Poller) Refresh(ctx context.Context) error {
	err := p.poll(ctx)
	select {
	case p.resume <- struct{}{}:
	default:
	}
	return err
}

// First is Refresh until there is a feed; again, if not nil, is told before each pause. An
// attempt is repeated for at most patience, if its error has a method Temporary() bool that says true, and no name
// server knows better. The first pause is a second. Each is twice as long as the one
// before, up to ten seconds, and never shorter than the server asks for.
func (p *Poller) First(ctx context.Context, patience time.Duration, again func(err error, pause time.Duration)) error {
	end := time.Now().Add(patience)
	for pause := time.Second; ; pause = min(2*pause, firstRetry) {
		err := p.Refresh(ctx)
		wait := max(pause-jitter(pause/4), retryAfter(err))
		if !isTemporary(err) || time.Now().Add(wait).After(end) {
			return err
		}
		if again != nil {
			again(err, wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isTemporary reports whether another attempt may do better. A host name that does
// not exist is taken for a mistake.
func isTemporary(err error) bool {
	var name *net.DNSError
	if errors.As(err, &name) && name.IsNotFound {
		return false
	}
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// poll fetches once and takes what it gets if that is good.
func (p *Poller) poll(ctx context.Context) error {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	old, last := p.feed, p.saved
	p.mu.Unlock()

	f, next, err := p.fetch(ctx, old, last)
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // the caller stopped the fetch: that says nothing about the feed
	}
	fresh := err == nil && f != old
	p.mu.Lock()
	now := time.Now()
	p.status.LastAttempt = now
	if err != nil {
		p.status.Failures++
		p.status.Failed++
		p.retryAfter = retryAfter(err)
		p.status.LastError, p.status.Stale = p.message(err), true
	} else {
		p.feed, p.saved = f, next
		p.status.Failures, p.status.LastError, p.status.Stale = 0, "", false
		p.status.LastSuccess = now
		p.status.describe(f)
	}
	failures := p.status.Failures
	p.mu.Unlock()

	switch {
	case err != nil:
		what := "feed not refreshed, the last good one stays"
		if old == nil {
			what = "feed not loaded"
		}
		p.o.Logger.Log(ctx, levelOf(failures), what, "url", p.url, "err", p.message(err), "failures", failures)
		return &fetchError{fmt.Sprintf("feed %s: %s", p.url, p.message(err)), err}
	case fresh:
		for _, w := range f.Warnings {
			p.o.Logger.Warn("feed: "+w, "url", p.url)
		}
		p.save(next)
		if p.o.OnFeed != nil {
			p.o.OnFeed(f, next.Body)
		}
	}
	return nil
}

// plan decides when to poll next, and says so in the status.
func (p *Poller) plan() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.status.LastAttempt.IsZero() {
		return now
	}
	var wait time.Duration
	var skip skipTimes
	if p.feed != nil && p.o.Refresh <= 0 && !p.local {
		skip = p.feed.skip
	}
	if p.status.Failures > 0 {
		wait = retryDelay(p.status.Failures)
		wait = max(wait-jitter(wait/4), p.retryAfter)
	} else {
		wait = p.interval()
		wait += jitter(wait / 10)
	}
	p.status.Next = skip.next(p.status.LastAttempt.Add(wait))
	return p.status.Next
}

// interval is the time between polls that succeed. p.mu is held.
func (p *Poller) interval() time.Duration {
	switch {
	case p.o.Refresh > 0:
		return p.o.Refresh
	case p.local:
		return localInterval
	}
	wait := p.saved.maxAge
	if p.feed != nil {
		wait = max(wait, p.feed.ttl)
	}
	if wait <= 0 {
		wait = defaultInterval
	}
	return max(min(wait, maxInterval), minInterval)
}

// retryAfter is what an error of Fetch asks for, bounded.
func retryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if !errors.As(err, &r) {
		return 0
	}
	return min(max(r.RetryAfter(), 0), maxRetryAfter)
}

func jitter(d time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(d) + 1)) }

// fetchError is an error with a text that is fit to be shown.
type fetchError struct {
	text string
	err  error
}

func (e *fetchError) Error() string { return e.text }
func (e *fetchError) Unwrap() error { return e.err }

// message is an error for status and log, on one line. The feed's credentials
// are left out, and so is its address at the start: both say it beside the error.
func (p *Poller) message(err error) string {
	s := strings.ReplaceAll(err.Error(), p.o.URL, p.url)
	if u, perr := url.Parse(p.o.URL); perr == nil && u.User != nil {
		s = strings.ReplaceAll(s, u.User.String()+"@", "")
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "get "), p.url+": ")
	return show.Clip(show.Text(s), 500)
}

// levelOf keeps a long outage from filling the log: the first failure and every
// tenth are warnings.
func levelOf(failures int) slog.Level {
	if failures%10 == 1 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (s *Status) describe(f *Feed) {
	s.Title, s.Releases, s.Warnings = f.Title, len(f.Releases), f.Warnings
}
