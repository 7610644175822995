package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Document is what a fetch brings.
type Document struct {
	Body         []byte        // decoded; nil if NotModified
	ETag         string        // validators for the next fetch, "" if none
	LastModified string        //
	FinalURL     string        // after redirects; "": the one asked for
	NotModified  bool          // what is known still holds
	MaxAge       time.Duration // how long the server calls it fresh; 0: it does not say
}

// PollerOptions configure a [Poller]. URL and Fetch are required.
type PollerOptions struct {
	URL string // http, https, or a local file as a path or file: URL

	// Fetch gets the document at url, conditionally if etag or lastModified
	// are not empty: see [FetchFile] for local files. It must respect ctx. An error with a method
	// RetryAfter() time.Duration delays the next attempt by that much.
	Fetch func(ctx context.Context, url, etag, lastModified string) (*Document, error)

	// Load and Save keep one opaque document (the last good feed and the names
	// given) over restarts. Load returns an error if there is none. Either may be nil.
	Load func() ([]byte, error)
	Save func([]byte) error

	// OnFeed is called with every new good feed and its bytes, one call at a
	// time, from within Run or Refresh. It is not called for the one that NewPoller loads.
	OnFeed func(f *Feed, raw []byte)

	Refresh     time.Duration // poll this often whatever feed and server say; 0: they decide
	MinInterval time.Duration // least time between polls they may ask for; 0: the constant [MinInterval]
	Timeout     time.Duration // of one fetch in all; 0: 2 minutes
	Logger      *slog.Logger  // nil: no log
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
	Stale       bool      `json:"stale"`                 // what is shown was not confirmed by the last attempt
	Next        time.Time `json:"next,omitzero"`         // the next attempt, while Run runs
	Warnings    []string  `json:"warnings,omitempty"`
}

// Poller keeps one feed up to date. The package documentation has its rules.
type Poller struct {
	o      PollerOptions
	local  bool
	url    string // for people: without credentials
	names  *Names
	busy   chan struct{} // holds a token while a poll is under way; taken before mu
	resume chan struct{} // tells Run that somebody else has polled

	mu     sync.Mutex // guards all below; never held over a call of an option's func
	feed   *Feed
	saved  saved
	status Status

	retryAfter time.Duration // what the server asked for with its last failure
}

// saved is what outlives the process.
type saved struct {
	Version      int       `json:"version"`
	URL          string    `json:"url"` // asked for: another one's feed is not this one's
	FinalURL     string    `json:"final_url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Fetched      time.Time `json:"fetched"`
	Body         []byte    `json:"body"`
	Names        *Names    `json:"names"`
	maxAge       time.Duration
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
	if o.MinInterval <= 0 {
		o.MinInterval = MinInterval
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Poller{o: o, local: u.Scheme == "file", names: new(Names), busy: make(chan struct{}, 1), resume: make(chan struct{}, 1)}
	p.url = redact(u)
	p.status.URL = p.url
	p.status.Stale = true
	p.load()
	return p, nil
}

// load takes up what an earlier process saved. Damage costs the feed, not the start.
func (p *Poller) load() {
	if p.o.Load == nil {
		return
	}
	b, err := p.o.Load()
	if err != nil {
		return // none, or none to be had: the network will tell
	}
	s := saved{Names: new(Names)}
	if err := json.Unmarshal(b, &s); err != nil || s.Version != 1 || s.URL != urlKey(p.o.URL) {
		p.o.Logger.Warn("saved feed is of no use", "url", p.url, "err", err)
		return
	}
	if s.Names != nil {
		p.names = s.Names
	}
	f, err := Parse(s.Body, s.FinalURL, p.names)
	if err != nil {
		p.o.Logger.Warn("saved feed does not parse", "url", p.url, "err", err)
		return
	}
	p.feed, p.saved = f, s
	p.status.LastSuccess = s.Fetched
	p.status.describe(f)
}

// urlKey is what tells feeds apart in saved documents, without credentials.
func urlKey(s string) string {
	if u, err := url.Parse(s); err == nil {
		u.User = nil
		s = u.String()
	}
	return digest(s)
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
		return ctx.Err() // we were told to stop: that says nothing about the feed
	}
	fresh := err == nil && f != old
	p.mu.Lock()
	now := time.Now()
	p.status.LastAttempt = now
	if err != nil {
		p.status.Failures++
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
		p.o.Logger.Log(ctx, levelOf(failures), "feed not refreshed, the last good one stays", "url", p.url, "err", p.message(err), "failures", failures)
		return &fetchError{fmt.Sprintf("refresh feed %s: %s", p.url, p.message(err)), err}
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

// fetch returns the feed to hold from now on: old itself if nothing has changed.
func (p *Poller) fetch(ctx context.Context, old *Feed, last saved) (*Feed, saved, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	if old == nil {
		last = saved{}
	}
	doc, err := p.o.Fetch(ctx, p.o.URL, last.ETag, last.LastModified)
	switch {
	case err != nil:
		return nil, last, err
	case doc == nil:
		return nil, last, errors.New("nothing was fetched")
	case doc.NotModified && old == nil:
		return nil, last, errors.New("server says that the feed has not changed, though it was never fetched")
	case doc.NotModified:
		last.maxAge = doc.MaxAge
		return old, last, nil
	}
	final := doc.FinalURL
	if final == "" {
		final = p.o.URL
	}
	if err := checkFinal(p.o.URL, final); err != nil {
		return nil, last, err
	}
	next := saved{
		Version: 1, URL: urlKey(p.o.URL), FinalURL: withoutUser(final), ETag: doc.ETag, LastModified: doc.LastModified,
		Fetched: time.Now(), Body: doc.Body, Names: p.names, maxAge: doc.MaxAge,
	}
	if old != nil && string(doc.Body) == string(last.Body) && next.FinalURL == last.FinalURL {
		return old, next, nil
	}
	f, err := Parse(doc.Body, final, p.names)
	if err != nil {
		return nil, last, err
	}
	if old != nil && len(old.Releases) > 0 && len(f.Releases) == 0 {
		return nil, last, fmt.Errorf("%w, while the last good one held %d", ErrNoReleases, len(old.Releases))
	}
	f.compare(old)
	return f, next, nil
}

// checkFinal refuses an answer that came over less than was asked for.
func checkFinal(asked, final string) error {
	a, err1 := parseBase(asked)
	f, err2 := parseBase(final)
	switch {
	case err1 != nil || err2 != nil:
		return errors.New("feed was redirected to a malformed URL")
	case a.Scheme == "https" && f.Scheme != "https":
		return ErrDowngrade
	case a.Scheme != "file" && f.Scheme != "http" && f.Scheme != "https":
		return fmt.Errorf("feed was redirected to a URL of scheme %q", Sanitize(clip(f.Scheme, 20)))
	}
	return nil
}

func withoutUser(s string) string {
	if u, err := url.Parse(s); err == nil && u.User != nil {
		u.User = nil
		return u.String()
	}
	return s
}

// compare warns of releases whose package is now elsewhere, or of another size.
func (f *Feed) compare(old *Feed) {
	if old == nil {
		return
	}
	was := make(map[string]*Release, len(old.Releases))
	for i := range old.Releases {
		was[old.Releases[i].ID] = &old.Releases[i]
	}
	changed := 0
	for i := range f.Releases {
		if o := was[f.Releases[i].ID]; o != nil && (o.URL != f.Releases[i].URL || o.Length != f.Releases[i].Length) {
			if changed++; changed <= 10 {
				f.warn("release %s has a new package under its old id", clip(f.Releases[i].label(), 80))
			}
		}
	}
	if changed > 10 {
		f.warn("and %d more releases", changed-10)
	}
}

// save persists the last good feed. Failing that, a restart has to fetch it again.
func (p *Poller) save(s saved) {
	if p.o.Save == nil {
		return
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = p.o.Save(b)
	}
	if err != nil {
		p.o.Logger.Warn("last good feed not saved: a mount without network will not have it", "url", p.url, "err", err)
	}
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
	var skip Skip
	if p.feed != nil && p.o.Refresh <= 0 && !p.local {
		skip = p.feed.Skip
	}
	if p.status.Failures > 0 {
		wait = retryDelay(p.status.Failures)
		wait = max(wait-jitter(wait/4), p.retryAfter)
	} else {
		wait = p.interval()
		wait += jitter(wait / 10)
	}
	p.status.Next = skip.Next(p.status.LastAttempt.Add(wait))
	return p.status.Next
}

// interval is the time between polls that succeed. p.mu is held.
func (p *Poller) interval() time.Duration {
	switch {
	case p.o.Refresh > 0:
		return p.o.Refresh
	case p.local:
		return LocalInterval
	}
	wait := p.saved.maxAge
	if p.feed != nil {
		wait = max(wait, p.feed.TTL)
	}
	if wait <= 0 {
		wait = DefaultInterval
	}
	return max(min(wait, MaxInterval), p.o.MinInterval)
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

// message is an error for status and log: without the feed's credentials, on one line.
func (p *Poller) message(err error) string {
	s := strings.ReplaceAll(err.Error(), p.o.URL, p.url)
	if u, perr := url.Parse(p.o.URL); perr == nil && u.User != nil {
		s = strings.ReplaceAll(s, u.User.String()+"@", "")
	}
	return clip(Sanitize(s), 500)
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
