package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// failUntil is a transport whose server is down until a time.
type failUntil struct {
	mu      sync.Mutex
	up      time.Time
	status  int // 0: no connection
	header  http.Header
	content []byte
	tries   []time.Time
}

func (f *failUntil) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.tries = append(f.tries, now)
	if now.Before(f.up) {
		if f.status == 0 {
			return nil, errors.New("connection refused")
		}
		return &http.Response{StatusCode: f.status, Header: f.header, Body: http.NoBody, Request: r}, nil
	}
	var first, last int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
		return nil, err
	}
	part := f.content[first:min(last+1, len(f.content))]
	h := http.Header{"Etag": {`"one"`}, "Content-Range": {fmt.Sprintf("bytes %d-%d/%d", first, first+len(part)-1, len(f.content))}}
	return &http.Response{StatusCode: http.StatusPartialContent, Header: h, ContentLength: int64(len(part)),
		Body: body{bytes.NewReader(part)}, Request: r}, nil
}

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// TestRecoveryWakesAll has many fetches wait for a server that is down for
// long: it is not stormed meanwhile, and none waits long once it is back.
func TestRecoveryWakesAll(t *testing.T) {
	const fetches = 40
	const away = 20 * time.Minute
	for name, c := range map[string]struct {
		status int
		header http.Header
		wake   time.Duration // at most, after the server is back
		load   int           // requests a minute while it is down
	}{
		"no connection":            {0, nil, 8 * time.Second, 200},
		"status 503":               {503, nil, 8 * time.Second, 200},
		"503 with Retry-After: 20": {503, http.Header{"Retry-After": {"20"}}, 41 * time.Second, 200},
		"429 with Retry-After: 20": {429, http.Header{"Retry-After": {"20"}}, 46 * time.Second, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &failUntil{status: c.status, header: c.header, content: content(testSize)}
				cl := client(t, func(o *Options) {
					o.Hard, o.Transport, o.RetryMin, o.RetryMax, o.StallTimeout = true, tr, 0, 0, 0
				})
				o := cl.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true})
				begun := time.Now()
				tr.up = begun.Add(away)
				var wg sync.WaitGroup
				var mu sync.Mutex
				var worst time.Duration
				for i := range fetches {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 7 * time.Second) // they do not come all at once
						mustFetch(t, o, tr.content, int64(i*1000), 1000)
						mu.Lock()
						worst = max(worst, time.Since(tr.up))
						mu.Unlock()
					})
				}
				wg.Wait()
				down := 0
				for _, at := range tr.tries {
					if at.Before(tr.up) {
						down++
					}
				}
				t.Logf("worst wait after recovery %s, %d requests in %s of outage", worst, down, away)
				if worst > c.wake {
					t.Errorf("a fetch waited for %s after the server was back", worst)
				}
				if down > c.load*int(away/time.Minute) {
					t.Errorf("%d requests to a server that was down for %s", down, away)
				}
			})
		})
	}
}

func TestCheck(t *testing.T) {
	old := time.Now().Add(-48 * time.Hour)
	for name, c := range map[string]struct {
		etag    string
		ranges  bool
		change  func(s *origin.Server, b []byte)
		changed bool
		fails   bool
	}{
		"the same, by ETag":       {`"one"`, true, func(*origin.Server, []byte) {}, false, false},
		"the same, by date":       {"", true, func(*origin.Server, []byte) {}, false, false},
		"the same, no ranges":     {`"one"`, false, func(*origin.Server, []byte) {}, false, false},
		"by date, no ranges":      {"", false, func(*origin.Server, []byte) {}, false, false},
		"another ETag":            {`"one"`, true, func(s *origin.Server, b []byte) { s.Put("/f", bytes.NewReader(b), testSize, old, `"two"`, "") }, true, false},
		"another ETag, no ranges": {`"one"`, false, func(s *origin.Server, b []byte) { s.Put("/f", bytes.NewReader(b), testSize, old, `"two"`, "") }, true, false},
		"a newer date": {"", true, func(s *origin.Server, b []byte) {
			s.Put("/f", bytes.NewReader(b), testSize, old.Add(time.Hour), "", "")
		}, true, false},
		"an older date": {"", true, func(s *origin.Server, b []byte) {
			s.Put("/f", bytes.NewReader(b), testSize, old.Add(-time.Hour), "", "")
		}, true, false},
		"another size": {"", true, func(s *origin.Server, b []byte) { s.Put("/f", bytes.NewReader(b), testSize-1, old, "", "") }, true, false},
		"a weak ETag":  {`W/"one"`, true, func(s *origin.Server, b []byte) { s.Put("/f", bytes.NewReader(b), testSize, old, `W/"two"`, "") }, false, false},
		"ranges lost":  {`"one"`, true, func(s *origin.Server, b []byte) { s.Inject(origin.Fault{Path: "/f", Kind: origin.IgnoreRange}) }, false, true},
		"gone":         {`"one"`, true, func(s *origin.Server, b []byte) { s.Remove("/f") }, false, true},
		"unreachable":  {`"one"`, true, func(s *origin.Server, b []byte) { s.Down() }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, b := serve(t)
			s.Put("/f", bytes.NewReader(b), testSize, old, c.etag, "")
			if !c.ranges {
				s.Inject(origin.Fault{Path: "/f", Kind: origin.IgnoreRange})
			}
			o := open(t, client(t), s.URL()+"/f")
			testkit.Eventually(t, "the head is sent", time.Minute, func() bool { return s.Stats("/f").BytesSent >= headSize })
			before := s.Stats("/f").BytesSent
			c.change(s, b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := o.Check(ctx)
			if lost := name == "ranges lost"; errors.Is(err, ErrNoRanges) != lost {
				t.Errorf("%v", err)
			} else if lost {
				return // the body has begun to come
			}
			if errors.Is(err, ErrChanged) != c.changed || (err != nil) != (c.changed || c.fails) {
				t.Errorf("%v", err)
			}
			if n := s.Stats("/f").BytesSent - before; n > 20 && (c.ranges || !c.changed) {
				t.Errorf("%d bytes for a check", n)
			}
		})
	}
}
