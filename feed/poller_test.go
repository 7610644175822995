package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

// fakeServer answers fetches from a script and records when they came.
type fakeServer struct {
	mu    sync.Mutex
	doc   Document
	err   error
	delay time.Duration
	calls []fetchCall
}

type fetchCall struct {
	at                 time.Time
	etag, lastModified string
}

func (s *fakeServer) fetch(ctx context.Context, url, etag, lastModified string) (*Document, error) {
	s.mu.Lock()
	s.calls = append(s.calls, fetchCall{time.Now(), etag, lastModified})
	doc, err, delay := s.doc, s.err, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if doc.ETag != "" && etag == doc.ETag {
		return &Document{NotModified: true, ETag: etag, MaxAge: doc.MaxAge}, nil
	}
	return &doc, nil
}

func (s *fakeServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *fakeServer) take() []fetchCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls
	s.calls = nil
	return c
}

// gaps are the times between calls.
func gaps(calls []fetchCall) (d []time.Duration) {
	for i := 1; i < len(calls); i++ {
		d = append(d, calls[i].at.Sub(calls[i-1].at))
	}
	return d
}

// polling runs body in a bubble with a running poller on an https feed.
func polling(t *testing.T, s *fakeServer, o PollerOptions, body func(t *testing.T, p *Poller)) {
	synctest.Test(t, func(t *testing.T) {
		o.Fetch = s.fetch
		if o.URL == "" {
			o.URL = "https://user:secret@h.example/feed.xml?key=abc"
		}
		p, err := NewPoller(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		synctest.Wait()
		body(t, p)
		cancel()
		<-done
	})
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %v, want %v to %v", what, got, low, high)
	}
}

func TestPollerHonoursTTLAndMaxAge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		channel     string
		maxAge, opt time.Duration
		want        time.Duration
	}{
		{"default", "", 0, 0, defaultInterval},
		{"ttl", "<ttl>120</ttl>", 0, 0, 2 * time.Hour},
		{"max-age", "", 3 * time.Hour, 0, 3 * time.Hour},
		{"the longer one", "<ttl>120</ttl>", time.Hour, 0, 2 * time.Hour},
		{"too short", "", time.Second, 0, minInterval},
		{"too long", "<ttl>2000000000</ttl>", 0, 0, maxInterval},
		{"overflow", "<ttl>99999999999999999999</ttl>", 1<<63 - 1, 0, maxInterval},
		{"refresh wins", "<ttl>120</ttl><skipDays><day>Saturday</day></skipDays>", time.Hour, 7 * time.Second, 7 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := strings.Replace(rssOf(item("a", "1", "")), "<title>t</title>", "<title>t</title>"+tc.channel, 1)
			s := &fakeServer{doc: Document{Body: []byte(body), ETag: `"1"`, LastModified: "yesterday", MaxAge: tc.maxAge}}
			polling(t, s, PollerOptions{Refresh: tc.opt}, func(t *testing.T, p *Poller) {
				time.Sleep(5 * tc.want)
				calls := s.take()
				if len(calls) < 4 {
					t.Fatalf("%d calls", len(calls))
				}
				for _, g := range gaps(calls) {
					between(t, "gap", g, tc.want, tc.want+tc.want/10)
				}
				if calls[0].etag != "" || calls[1].etag != `"1"` || calls[1].lastModified != "yesterday" {
					t.Errorf("not conditional: %+v", calls)
				}
				if st := p.Status(); st.Stale || st.LastError != "" || st.Releases != 1 || st.LastSuccess != st.LastAttempt || !st.Next.After(time.Now()) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestPollerSkips(t *testing.T) {
	t.Parallel()
	// The bubble's clock starts at midnight UTC, Saturday 2000-01-01.
	body := strings.Replace(rssOf(item("a", "1", "")), "<title>t</title>",
		"<title>t</title><ttl>60</ttl><skipHours><hour>1</hour><hour>2</hour><hour>3</hour></skipHours><skipDays><day>Sunday</day></skipDays>", 1)
	s := &fakeServer{doc: Document{Body: []byte(body)}}
	polling(t, s, PollerOptions{}, func(t *testing.T, p *Poller) {
		time.Sleep(4 * 24 * time.Hour)
		for _, c := range s.take() {
			u := c.at.UTC()
			if u.Hour() >= 1 && u.Hour() <= 3 || u.Weekday() == time.Sunday {
				t.Errorf("polled on %v", u)
			}
		}
	})
	if s := parseSkip([]string{"24", " 5 ", "25", "-1", "x"}, []string{"monday", "Blursday"}); s != (skipTimes{hours: 1 | 1<<5, days: 2}) {
		t.Errorf("%+v", s)
	}
	var hours []string
	for h := range 24 {
		hours = append(hours, fmt.Sprint(h))
	}
	if s := parseSkip(hours, []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}); s != (skipTimes{}) {
		t.Errorf("a feed can forbid itself: %+v", s)
	}
}

func TestPollerBacksOff(t *testing.T) {
	t.Parallel()
	s := &fakeServer{err: errors.New("dial \x1b[31mhttps://user:secret@h.example/feed.xml?key=abc: refused")}
	polling(t, s, PollerOptions{}, func(t *testing.T, p *Poller) {
		time.Sleep(2 * time.Hour)
		want := firstRetry
		for i, g := range gaps(s.take()) {
			between(t, fmt.Sprint("gap ", i), g, want*3/4, want)
			want = min(2*want, maxRetry)
		}
		st := p.Status()
		if f, raw := p.Feed(); f != nil || raw != nil {
			t.Error("there is a feed")
		}
		if !st.Stale || st.Failures < 10 || !st.LastSuccess.IsZero() || st.URL != "https://h.example/feed.xml?..." {
			t.Errorf("%+v", st)
		}
		if b, _ := json.Marshal(st); strings.Contains(string(b), "secret") || strings.Contains(string(b), "abc") || strings.Contains(string(b), "u001b") {
			t.Errorf("status tells too much: %s", b)
		}
		s.set(func() { s.err, s.doc = nil, Document{Body: []byte(rssOf(item("a", "1", "")))} })
		if err := p.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
		if st := p.Status(); st.Stale || st.Failures != 0 || st.LastError != "" || st.Releases != 1 {
			t.Errorf("%+v", st)
		}
	})
}

type retryError struct{ after time.Duration }

func (retryError) Error() string { return "503" }

func (e retryError) RetryAfter() time.Duration { return e.after }

func TestPollerRetryAfter(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]time.Duration{5 * time.Minute: 5 * time.Minute, 100 * time.Hour: maxRetryAfter} {
		s := &fakeServer{err: fmt.Errorf("get: %w", retryError{after})}
		polling(t, s, PollerOptions{}, func(t *testing.T, p *Poller) {
			time.Sleep(2*want + time.Second)
			for _, g := range gaps(s.take()) {
				between(t, "gap", g, want, max(want, maxRetry))
			}
		})
	}
	if retryAfter(retryError{-time.Hour}) != 0 {
		t.Error("negative Retry-After")
	}
}

// passing is an error of which its type says whether it may pass.
type passing bool

func (passing) Error() string { return "passing" }

func (p passing) Temporary() bool { return bool(p) }

// TestFirst: the first feed is asked for again only while that may help.
func TestFirst(t *testing.T) {
	good := Document{Body: []byte(rssOf(item("a", "1", "")))}
	busy := func(after time.Duration) error {
		return fmt.Errorf("get: %w", errors.Join(retryError{after}, passing(true)))
	}
	for name, tc := range map[string]struct {
		err      error
		until    time.Duration // when the server is well again; 0: never
		patience time.Duration
		ok       bool
		tries    int           // 0: several
		took     time.Duration // at most
	}{
		"at once":             {nil, 0, 0, true, 1, 0},
		"well after a while":  {busy(0), 20 * time.Second, time.Minute, true, 0, 30 * time.Second},
		"no patience":         {busy(0), 20 * time.Second, 0, false, 1, 0},
		"never well":          {busy(0), 0, time.Minute, false, 0, time.Minute},
		"as the server asks":  {busy(30 * time.Second), 20 * time.Second, time.Minute, true, 2, 31 * time.Second},
		"the server asks all": {busy(time.Hour), 20 * time.Second, time.Minute, false, 1, 0},
		"for good":            {passing(false), 20 * time.Second, time.Minute, false, 1, 0},
		"of no such kind":     {errors.New("x"), 20 * time.Second, time.Minute, false, 1, 0},
		"no such host":        {errors.Join(passing(true), &net.DNSError{IsNotFound: true}), 20 * time.Second, time.Minute, false, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeServer{err: tc.err, doc: good}
			p, err := NewPoller(PollerOptions{URL: "https://h.example/feed.xml", Fetch: s.fetch})
			if err != nil {
				t.Fatal(err)
			}
			if tc.until > 0 {
				time.AfterFunc(tc.until, func() { s.set(func() { s.err = nil }) })
			}
			began := time.Now()
			pauses := 0
			err = p.First(t.Context(), tc.patience, func(err error, pause time.Duration) {
				if pauses++; err == nil || pause <= 0 {
					t.Errorf("%s: told of %v, and of a pause of %v", name, err, pause)
				}
			})
			tries := len(s.take())
			if pauses != tries-1 {
				t.Errorf("%s: told of %d pauses between %d tries", name, pauses, tries)
			}
			if took := time.Since(began); (err == nil) != tc.ok || took > tc.took || tc.tries > 0 && tries != tc.tries || tc.tries == 0 && (tries < 4 || tries > 12) {
				t.Errorf("%s: %v after %d tries in %v", name, err, tries, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{err: busy(0)}
		p, err := NewPoller(PollerOptions{URL: "https://h.example/feed.xml", Fetch: s.fetch})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := p.First(ctx, time.Minute, func(error, time.Duration) {}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 500*time.Millisecond {
			t.Errorf("stopped: %v after %v", err, time.Since(began))
		}
	})
}

func TestPollerSurvivesAPanic(t *testing.T) {
	t.Parallel()
	good := []byte(rssOf(item("a", "1", "")))
	bad := false
	p, err := NewPoller(PollerOptions{URL: "https://h.example/feed.xml", Fetch: func(context.Context, string, string, string) (*Document, error) {
		if bad {
			panic("boom")
		}
		return &Document{Body: good}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad = range []bool{false, true, false} {
		if err := p.Refresh(t.Context()); (err != nil) != bad {
			t.Errorf("%v", err)
		}
		if f, _ := p.Feed(); f == nil || p.Status().Stale != bad {
			t.Errorf("%+v", p.Status())
		}
	}
}

func TestPollerRefreshIsCancelled(t *testing.T) {
	t.Parallel()
	s := &fakeServer{doc: Document{Body: []byte(rssOf(item("a", "1", "")))}, delay: time.Minute}
	polling(t, s, PollerOptions{}, func(t *testing.T, p *Poller) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Refresh(ctx); !errors.Is(err, context.DeadlineExceeded) { // waits for the poll of Run
			t.Errorf("%v", err)
		}
		if st := p.Status(); st.Failures != 0 {
			t.Errorf("somebody's patience counts as a failure: %+v", st)
		}
		time.Sleep(time.Minute)
		if f, _ := p.Feed(); f == nil {
			t.Error("the poll that was waited for is lost")
		}
	})
}

func TestNewPollerRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []PollerOptions{{}, {URL: "http://h/"}, {Fetch: FetchFile}, {URL: "http://h:x/", Fetch: FetchFile}} {
		if _, err := NewPoller(o); err == nil {
			t.Errorf("%+v", o)
		}
	}
}

// TestH3NotModifiedByAnother: who stands in for the one who gave the feed is not
// believed to confirm it, and what was saved tells who that was.
func TestH3NotModifiedByAnother(t *testing.T) {
	t.Parallel()
	body := rssOf(item("a", "1", ""))
	from, conditional := "public", 0
	var doc []byte
	var got *Feed
	fetch := func(_ context.Context, _, etag, _ string) (*Document, error) {
		switch {
		case etag != "":
			conditional++
			return &Document{NotModified: true, From: from}, nil
		case from == "loopback":
			return &Document{Body: []byte("an inner service"), From: from}, nil
		}
		return &Document{Body: []byte(body), ETag: `"1"`, From: from}, nil
	}
	start := func() *Poller {
		p, err := NewPoller(PollerOptions{URL: "https://h.example/feed.xml", Fetch: fetch, OnFeed: func(f *Feed, _ []byte) { got = f },
			Load: func() ([]byte, error) { return doc, nil }, Save: func(b []byte) error { doc = b; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start()
	if err := p.Refresh(t.Context()); err != nil || got == nil || got.From != "public" {
		t.Fatalf("%+v, %v", got, err)
	}
	got, from = nil, "loopback"
	p = start()
	if f, _ := p.Feed(); f == nil || f.From != "public" {
		t.Fatalf("loaded %+v", f)
	}
	if err := p.Refresh(t.Context()); err == nil || got != nil || conditional != 1 {
		t.Errorf("another is believed: %v, %+v, %d conditional requests", err, got, conditional)
	}
	if f, _ := p.Feed(); f.From != "public" {
		t.Errorf("the last good feed is now from %q", f.From)
	}
	// The same feed in earnest from elsewhere is one from there.
	from = "private"
	if err := p.Refresh(t.Context()); err != nil || got == nil || got.From != "private" {
		t.Errorf("%+v, %v", got, err)
	}
	if f, _ := start().Feed(); f.From != "private" {
		t.Errorf("after a restart it is from %q", f.From)
	}
}
