package remote

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

func TestGet(t *testing.T) {
	s := origin.New()
	body := []byte("<rss/>")
	s.Put("/feed", bytes.NewReader(body), int64(len(body)), time.Unix(1e9, 0), `W/"f"`, "text/xml")
	s.SetHeader("/feed", "Cache-Control", "public, max-age=300")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Inject(origin.Fault{Path: "/old", Kind: origin.Redirect, Status: 301, Value: "/feed"})
	c := client(t)
	d, err := c.Get(t.Context(), s.URL()+"/old", "", "", 6)
	if err != nil {
		t.Fatal(err)
	}
	if string(d.Body) != "<rss/>" || d.ETag != `W/"f"` || d.FinalURL != s.URL()+"/feed" || d.ContentType != "text/xml" ||
		d.MaxAge != 5*time.Minute || d.NotModified || d.LastModified != "Sun, 09 Sep 2001 01:46:40 GMT" {
		t.Errorf("%+v", d)
	}
	if got := s.Log()[0].Header.Get("Accept"); !strings.HasPrefix(got, "application/rss+xml, application/atom+xml, application/feed+json") {
		t.Errorf("Accept: %q", got)
	}
	for _, v := range [][2]string{{d.ETag, ""}, {"", d.LastModified}, {d.ETag, d.LastModified}} {
		if d, err := c.Get(t.Context(), s.URL()+"/feed", v[0], v[1], 6); err != nil || !d.NotModified || d.Body != nil {
			t.Errorf("conditional on %q: %+v, %v", v, d, err)
		}
	}
	if d, err := c.Get(t.Context(), s.URL()+"/feed", `"other"`, "bad\r\nheader", 6); err != nil || d.NotModified {
		t.Errorf("another ETag: %+v, %v", d, err)
	}
	if _, err := c.Get(t.Context(), s.URL()+"/feed", "", "", 5); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := c.Get(t.Context(), s.URL()+"/none", "", "", 5); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	s.Inject(origin.Fault{Kind: origin.Status, Status: 304, Times: 1})
	if _, err := c.Get(t.Context(), s.URL()+"/feed", "", "", 5); !errors.Is(err, ErrProtocol) {
		t.Errorf("304 to an unconditional request: %v", err)
	}
}

func TestF3F4F5DocumentLimits(t *testing.T) {
	s, want := serve(t)
	patient := client(t, func(o *Options) { o.DocumentTimeout, o.StallTimeout = time.Minute, time.Minute })
	quick := client(t, func(o *Options) { o.DocumentTimeout = 200 * time.Millisecond; o.StallTimeout = time.Minute })
	get := func(f origin.Fault, limit int64) (*Document, error) {
		defer s.Inject(f)()
		return patient.Get(t.Context(), s.URL()+"/f", "", "", limit)
	}
	if _, err := get(origin.Fault{Kind: origin.Endless}, 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("F3, never ending: %v", err)
	}
	clock := testkit.StartClock(t)
	for _, f := range []origin.Fault{{Kind: origin.DripFeed, Delay: 20 * time.Millisecond}, {Kind: origin.Hang}, {Kind: origin.Stall, After: 5}} {
		remove := s.Inject(f)
		begun := clock.Elapsed()
		_, err := quick.Get(t.Context(), s.URL()+"/f", "", "", 1<<20)
		remove()
		if _, ok := errors.AsType[*TemporaryError](err); !ok {
			t.Errorf("F4, %s: %v", f.Kind, err)
		}
		if took := clock.Elapsed() - begun; took > time.Minute {
			t.Errorf("F4, %s: %v", f.Kind, took)
		}
	}
	if d, err := get(origin.Fault{Kind: origin.GzipEncoding}, testSize+1000); err != nil || !bytes.Equal(d.Body, want) {
		t.Errorf("gzip: %v", err)
	}
	if _, err := get(origin.Fault{Kind: origin.Truncate, After: 100}, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated: %v", err)
	}
	var bomb bytes.Buffer
	zw := gzip.NewWriter(&bomb)
	io.CopyN(zw, zeros{}, 8<<20)
	zw.Close()
	s.PutBytes("/f", bomb.Bytes())
	s.SetHeader("/f", "Content-Encoding", "gzip")
	if _, err := get(origin.Fault{}, 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("F5, bomb: %v", err)
	}
	s.PutBytes("/f", bomb.Bytes()[:1000])
	s.SetHeader("/f", "Content-Encoding", "gzip")
	if _, err := get(origin.Fault{}, 10<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut gzip: %v", err)
	}
	for _, coding := range []string{"br", "gzip, gzip", "deflate"} {
		s.SetHeader("/f", "Content-Encoding", coding)
		if _, err := get(origin.Fault{}, 10<<20); !errors.Is(err, ErrProtocol) {
			t.Errorf("coding %q: %v", coding, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestMaxAge(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "no-store": 0, "max-age=60": time.Minute, "public, Max-Age=60": time.Minute, `max-age="60"`: time.Minute,
		"max-age=-1": 0, "max-age=x": 0, "max-age=99999999999999": 0, "max-age=2000000000": maxMaxAge, "s-maxage=60": 0,
	} {
		if got := maxAge(http.Header{"Cache-Control": {value}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestFailureOfADocumentIsBrief(t *testing.T) {
	s, _ := serve(t)
	c := client(t)
	s.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	s.ResetStats()
	_, err := c.Get(t.Context(), s.URL()+"/f", "", "", 10)
	if want := fmt.Sprintf("%s/f: status 503 Service Unavailable", s.URL()); err == nil || err.Error() != want || s.Stats("").Requests != 1 {
		t.Errorf("%v after %d requests", err, s.Stats("").Requests)
	}
	s.Down()
	if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", 10); err == nil || !strings.HasPrefix(err.Error(), s.URL()+"/f: dial") {
		t.Errorf("%v", err)
	}
}

// TestRetryAfterOfADocument checks what the poller of a feed is told. It looks for this
// method, and knows nothing of this package.
func TestRetryAfterOfADocument(t *testing.T) {
	s, _ := serve(t)
	in := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for value, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, "-5": 0, "soon": 0, in: time.Hour} {
		for _, status := range []int{429, 503} {
			remove := s.Inject(origin.Fault{Kind: origin.Status, Status: status, RetryAfter: value})
			_, err := client(t).Get(t.Context(), s.URL()+"/f", "", "", testSize)
			remove()
			var asked interface{ RetryAfter() time.Duration }
			if !errors.As(err, &asked) {
				t.Fatalf("%v has no RetryAfter", err)
			}
			if got := asked.RetryAfter(); got > want || got < want-time.Minute && want > 0 {
				t.Errorf("status %d, Retry-After %q: %v", status, value, got)
			}
		}
	}
}
