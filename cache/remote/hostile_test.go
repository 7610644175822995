package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

// The tests here are named by the hostile inputs they are about.

// Wrong answers to ranges: thrown away and asked for again, three times when soft; never
// delivered, never blamed on the object.
func TestH7H8H9H10WrongAnswers(t *testing.T) {
	for _, kind := range []origin.Kind{
		origin.IgnoreRange, origin.RangeOn200, origin.WrongRange, origin.LongRange, origin.WrongTotal, origin.NoRangeHeader, origin.Multipart, origin.GzipEncoding, origin.NoValidators, origin.HeaderBomb,
	} {
		t.Run(string(kind), func(t *testing.T) {
			s, want := serve(t)
			o := open(t, client(t), s.URL()+"/f")
			s.ResetStats()
			s.Inject(origin.Fault{Kind: kind, Times: maxUnusable})
			if got, err := fetch(t, o, 1000, 1000); !unusable(err) || len(got) > 0 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if n := s.Stats("").Requests; n != maxUnusable {
				t.Errorf("%d requests", n)
			}
			mustFetch(t, o, want, 1000, 1000)
			s.Inject(origin.Fault{Kind: kind, Times: maxUnusable - 1})
			mustFetch(t, o, want, 1000, 1000)
		})
	}
}

// The same at Open, where a 200 or missing validators are an answer.
func TestH8H9H10WrongFirstAnswers(t *testing.T) {
	for _, kind := range []origin.Kind{origin.RangeOn200, origin.LongRange,
		origin.NoRangeHeader, origin.Multipart, origin.GzipEncoding, origin.HeaderBomb} {
		s, _ := serve(t)
		s.Inject(origin.Fault{Kind: kind})
		if _, err := client(t, func(o *Options) { o.Hard = true }).Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A server may lie about what follows: body longer or shorter than its Content-Range.
func TestH8BodyAndLabelDisagree(t *testing.T) {
	want := content(1000)
	var extra atomic.Int32
	var chunked atomic.Bool
	var s http.Server
	address := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-999/1000")
		w.Header().Set("ETag", `"x"`)
		body := append(content(1000), make([]byte, 1000)...)[:1000+extra.Load()]
		if !chunked.Load() {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		w.WriteHeader(http.StatusPartialContent)
		if chunked.Load() {
			http.NewResponseController(w).Flush()
		}
		w.Write(body)
	})
	o := open(t, client(t), address)
	for _, tt := range []struct {
		extra   int32
		chunked bool
		ok      bool
	}{{0, false, true}, {0, true, true}, {10, false, false}, {-10, false, false}, {-10, true, false}, {10, true, true}} {
		extra.Store(tt.extra)
		chunked.Store(tt.chunked)
		ctx, cancel := context.WithCancel(t.Context())
		if !tt.ok { // it is asked for again and again
			defer time.AfterFunc(300*time.Millisecond, cancel).Stop()
		}
		r, err := o.Fetch(ctx, 0, 1000, source.Demand)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			r.Close()
		}
		cancel()
		if (err == nil) != tt.ok || tt.ok && !bytes.Equal(got, want) {
			t.Errorf("%+v: %d bytes, %v", tt, len(got), err)
		}
	}
}

func TestH13Statuses(t *testing.T) {
	for _, tt := range []struct {
		status int
		want   error
	}{{400, nil}, {401, nil}, {403, nil}, {404, ErrNotFound}, {405, nil}, {410, ErrNotFound}, {451, nil}, {501, nil}, {204, nil}, {304, nil}} {
		s, want := serve(t)
		o := open(t, client(t), s.URL()+"/f") // soft; what hard makes of them: TestHardMeansWait
		s.ResetStats()
		remove := s.Inject(origin.Fault{Kind: origin.Status, Status: tt.status})
		_, err := fetch(t, o, 0, 10)
		status, ok := errors.AsType[*StatusError](err)
		if !ok || status.Code != tt.status || tt.want != nil && !errors.Is(err, tt.want) || s.Stats("").Requests != 1 {
			t.Errorf("%d: %v after %d requests", tt.status, err, s.Stats("").Requests)
		}
		remove()
		mustFetch(t, o, want, 0, 10) // nothing of that is final
	}
}

func TestH13RangeNotSatisfiable(t *testing.T) {
	s, _ := serve(t)
	o := open(t, client(t), s.URL()+"/f")
	defer s.Inject(origin.Fault{Kind: origin.Status, Status: 416})()
	if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrProtocol) {
		t.Errorf("416 inside the object: %v", err)
	}
}

func TestH13RetryAfterIsCapped(t *testing.T) {
	s, want := serve(t)
	o := open(t, client(t, func(o *Options) { o.RetryAfterMax = 50 * time.Millisecond; o.Hard = true }), s.URL()+"/f")
	for _, value := range []string{"86400", time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat)} {
		s.Inject(origin.Fault{Kind: origin.Status, Status: 429, RetryAfter: value, Times: 1})
		begun, clock := time.Now(), testkit.StartClock(t)
		mustFetch(t, o, want, 0, 10)
		if took := time.Since(begun); took < 50*time.Millisecond || clock.Elapsed() > time.Minute {
			t.Errorf("%s: waited %v", value, took)
		}
	}
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "NaN": 0, "0.5": 500 * time.Millisecond, "99999999999": math.MaxInt32 * time.Second, "1e999": math.MaxInt32 * time.Second, "Mon, 01 Jan 2001 00:00:00 GMT": 0} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("Retry-After %q: %v", value, got)
		}
	}
	// A date is seen from the clock of the server that gives it.
	if got := retryAfter(http.Header{"Retry-After": {"Mon, 01 Jan 2001 00:00:09 GMT"}, "Date": {"Mon, 01 Jan 2001 00:00:00 GMT"}}); got != 9*time.Second {
		t.Errorf("by the server's clock: %v", got)
	}
}

func TestH13StormIsNotFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answerer{answer: respond(503, "")}
		c := client(t, func(o *Options) {
			o.Transport, o.Timeo, o.RetryMin, o.RetryMax = a, time.Second, 10*time.Millisecond, time.Second
		})
		fetch(t, c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true}), 0, 10)
		if n := a.requests; n < 3 || n > 20 {
			t.Errorf("%d requests in a second of doubling pauses from 10 ms", n)
		}
		c.Close()
	})
	s, _ := serve(t)
	o := client(t).Resume(s.URL()+"/f", "", open(t, client(t), s.URL()+"/f").Identity())
	s.ResetStats()
	s.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := o.Fetch(ctx, 0, 10, source.Demand)
		ended <- err
	}()
	testkit.Eventually(t, "it is asked often", time.Minute, func() bool { return s.Stats("").Requests > 10 })
	cancel()
	<-ended
	// One is used again, unless the next request comes before it is back.
	if st := s.Stats(""); st.Connections > st.Requests/2 {
		t.Errorf("%d connections for %d refused requests", st.Connections, st.Requests)
	}
}

func TestH13ExpiredCertificate(t *testing.T) {
	certPEM, _, cert := certificate(t, time.Now().Add(-time.Minute))
	var attempts atomic.Int32
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		attempts.Add(1)
		return nil, nil
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	c := client(t, func(o *Options) {
		o.Hard = true
		o.StallTimeout = time.Minute
		o.CACert = writeFile(t, "ca.pem", string(certPEM))
	})
	_, err := c.Open(t.Context(), s.URL+"/f", "")
	if err == nil || !strings.Contains(err.Error(), "expired") || attempts.Load() != 1 {
		t.Errorf("%v after %d attempts", err, attempts.Load())
	}
	// A first mount may wait until the clock is right.
	_, err = c.Get(t.Context(), s.URL+"/feed", "", "", 1000)
	if _, ok := errors.AsType[*TemporaryError](err); !ok || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a feed: %v", err)
	}
}

// TestH15Head has HEAD fail or lie where GET works. Ranges are asked for with GET only, and
// the check of a server without ranges believes HEAD only when it confirms.
func TestH15Head(t *testing.T) {
	s, want := serve(t)
	o := open(t, client(t), s.URL()+"/f")
	mustFetch(t, o, want, 0, 10)
	if err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, r := range s.Log() {
		if r.Method != http.MethodGet {
			t.Errorf("sent %s to a server with ranges", r.Method)
		}
	}
	type answer struct {
		status int
		header map[string]string
	}
	good := map[string]string{"ETag": `"one"`, "Content-Length": "300000"}
	for name, c := range map[string]struct {
		head    answer
		etag    string
		methods string
		changed bool
	}{
		"HEAD confirms":           {answer{200, good}, `"one"`, "HEAD", false},
		"304 to HEAD":             {answer{304, map[string]string{"ETag": `"one"`}}, `"one"`, "HEAD", false},
		"HEAD has length 0":       {answer{200, map[string]string{"Content-Length": "0"}}, `"one"`, "HEAD GET", false},
		"length 0 and the ETag":   {answer{200, map[string]string{"ETag": `"one"`, "Content-Length": "0"}}, `"one"`, "HEAD GET", false},
		"HEAD has another ETag":   {answer{200, map[string]string{"ETag": `"head"`, "Content-Length": "300000"}}, `"one"`, "HEAD GET", false},
		"HEAD is not allowed":     {answer{405, nil}, `"one"`, "HEAD GET", false},
		"HEAD is forbidden":       {answer{403, nil}, `"one"`, "HEAD GET", false},
		"HEAD finds nothing":      {answer{404, nil}, `"one"`, "HEAD GET", false},
		"HEAD breaks the server":  {answer{500, nil}, `"one"`, "HEAD GET", false},
		"both say it has changed": {answer{200, map[string]string{"ETag": `"two"`, "Content-Length": "300000"}}, `"two"`, "HEAD GET", true},
	} {
		t.Run(name, func(t *testing.T) {
			var methods []string
			etag := `"one"`
			var s http.Server
			url := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
				methods = append(methods, r.Method)
				if r.Method == http.MethodHead {
					for key, value := range c.head.header {
						w.Header().Set(key, value)
					}
					w.WriteHeader(c.head.status)
					return
				}
				w.Header().Set("ETag", etag)
				w.Header().Set("Content-Length", "300000")
				w.Write(want)
			})
			o := open(t, client(t), url+"/f")
			methods, etag = nil, c.etag
			if err := o.Check(t.Context()); errors.Is(err, ErrChanged) != c.changed || (err != nil) != c.changed {
				t.Error(err)
			}
			if got := strings.Join(methods, " "); got != c.methods {
				t.Errorf("asked with %s, want %s", got, c.methods)
			}
		})
	}
}

func TestH16Headers(t *testing.T) {
	s, want := serve(t)
	old := time.Now().Add(-time.Hour)
	for _, etag := range []string{`"` + strings.Repeat("x", 30_000) + `"`, `"a"b"`, `"`, `""x`, `"a b"`, "\"a\tb\""} {
		s.Put("/f", bytes.NewReader(want), testSize, old, etag, "")
		o := open(t, client(t), s.URL()+"/f")
		if o.Identity().ETag != "" || o.Identity().LastModified == "" {
			t.Errorf("ETag %.20q was taken", o.Identity().ETag)
		}
		mustFetch(t, o, want, 0, 10)
	}
	s.Inject(origin.Fault{Kind: origin.HeaderBomb})
	if _, err := client(t, func(o *Options) { o.Hard = true }).Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	// What is no HTTP at all.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conn.Read(make([]byte, 1000))
			conn.Write([]byte("SSH-2.0-\x1b]0;title\x07\r\n"))
			conn.Close()
		}
	}()
	_, err = client(t, func(o *Options) { o.Hard = true }).Open(t.Context(), "http://"+l.Addr().String(), "")
	if !errors.Is(err, ErrProtocol) || strings.ContainsAny(err.Error(), "\x1b\x07") {
		t.Errorf("%q", err)
	}
}

func TestH17Stalls(t *testing.T) {
	s, want := serve(t)
	c := client(t, func(o *Options) { o.Hard = true; o.StallTimeout = 50 * time.Millisecond })
	o := open(t, c, s.URL()+"/f")
	for _, f := range []origin.Fault{{Kind: origin.Hang}, {Kind: origin.Stall}, {Kind: origin.Stall, After: 9}, {Kind: origin.DripFeed, After: 9, Delay: 5 * time.Millisecond}} {
		f.Times = 2
		s.Inject(f)
		begun, clock := time.Now(), testkit.StartClock(t)
		mustFetch(t, o, want, 0, 20_000)
		if took := time.Since(begun); took < 100*time.Millisecond || clock.Elapsed() > time.Minute {
			t.Errorf("%s: took %v", f.Kind, took)
		}
	}
}
