package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
)

// answerer is a transport whose answers change.
type answerer struct {
	failUntil
	mu       sync.Mutex
	answer   func(r *http.Request) *http.Response // nil: the object
	requests int
}

func (a *answerer) set(answer func(r *http.Request) *http.Response) {
	a.mu.Lock()
	a.answer = answer
	a.mu.Unlock()
}

func (a *answerer) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	answer := a.answer
	a.requests++
	a.mu.Unlock()
	if answer == nil {
		return a.failUntil.RoundTrip(r)
	}
	resp := answer(r)
	if resp == nil {
		return nil, &tls.CertificateVerificationError{Err: errors.New("expired")}
	}
	resp.Request = r
	return resp, nil
}

// respond makes an answer of a status, header lines and a body.
func respond(status int, body string, header ...string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response {
		h := http.Header{}
		for _, line := range header {
			key, value, _ := strings.Cut(line, ": ")
			h.Add(key, value)
		}
		return &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	}
}

// TestHardMeansWait holds all answers against all states: an object that is being opened, one
// that has been served to a soft mount, and to a hard one, in this process or before.
func TestHardMeansWait(t *testing.T) {
	const page = "<html>please log in</html>"
	want := content(testSize)
	login := func(status int, header ...string) func(*http.Request) *http.Response {
		return func(r *http.Request) *http.Response {
			if r.URL.Path != "/login" {
				return respond(302, "", "Location: http://127.0.0.1/login")(r)
			}
			return respond(status, page, header...)(r)
		}
	}
	for name, c := range map[string]struct {
		answer func(*http.Request) *http.Response
		final  bool // for a hard fetch
	}{
		"400":                       {respond(400, ""), false},
		"401":                       {respond(401, ""), false},
		"402":                       {respond(402, ""), false},
		"403":                       {respond(403, ""), false},
		"403, a page":               {respond(403, page, "Content-Type: text/html"), false},
		"404":                       {respond(404, ""), false},
		"405":                       {respond(405, ""), false},
		"407":                       {respond(407, ""), false},
		"410":                       {respond(410, ""), true},
		"429":                       {respond(429, ""), false},
		"451":                       {respond(451, ""), false},
		"500":                       {respond(500, ""), false},
		"501":                       {respond(501, ""), false},
		"503":                       {respond(503, ""), false},
		"204":                       {respond(204, ""), false},
		"304":                       {respond(304, ""), false},
		"416":                       {respond(416, ""), false},
		"certificate":               {func(*http.Request) *http.Response { return nil }, false},
		"page":                      {respond(200, page, "Content-Type: text/html"), false},
		"page with an ETag":         {respond(200, page, "Content-Type: text/html; charset=utf-8", `ETag: "login"`), false},
		"page as a range":           {respond(206, page, "Content-Type: text/html", `ETag: "login"`, "Content-Range: bytes 0-25/26"), false},
		"XHTML":                     {respond(200, page, "Content-Type: application/xhtml+xml", `ETag: "login"`), false},
		"text without a validator":  {respond(200, "please log in", "Content-Type: text/plain"), false},
		"JSON, a weak ETag":         {respond(200, `{"error":1}`, "Content-Type: application/json", `ETag: W/"x"`), false},
		"login":                     {login(200, "Content-Type: text/html"), false},
		"login with an ETag":        {login(200, "Content-Type: text/html", `ETag: "login"`), false},
		"login, 401":                {login(401), false},
		"login as a range":          {login(206, "Content-Type: text/html", `ETag: "login"`, "Content-Range: bytes 0-25/26"), false},
		"login, not satisfiable":    {login(416, "Content-Type: text/html", "Content-Range: bytes */26"), false},
		"redirect loop":             {respond(302, "", "Location: /f"), false},
		"redirect to nowhere":       {respond(302, ""), false},
		"redirect to a file":        {respond(302, "", "Location: file:///etc/passwd"), false},
		"redirect inwards":          {respond(302, "", "Location: http://169.254.169.254/login"), false},
		"another ETag":              {respond(206, "x", `ETag: "two"`, "Content-Range: bytes 0-0/300000"), true},
		"another object":            {respond(200, "another", `ETag: "two"`), true},
		"another, gzip is its name": {respond(200, "another", `ETag: "two"`, "Content-Type: application/gzip"), true},
		"another length":            {respond(206, "x", `ETag: "two"`, "Content-Range: bytes 0-0/7"), true},
		"a message, another length": {respond(206, "x", "Content-Range: bytes 0-0/7"), false},
		"empty now":                 {respond(416, "", "Content-Range: bytes */0"), false},
		"empty, an ETag":            {respond(200, "", `ETag: "two"`), false},
		"empty, no ETag":            {respond(200, ""), false},
		"a coding":                  {respond(206, "x", `ETag: "one"`, "Content-Encoding: gzip", "Content-Range: bytes 0-0/300000"), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, state := range []string{"opening, hard", "served, soft", "served, hard", "served before, hard", "proven by sums, hard"} {
				if state == "proven by sums, hard" && name == "another ETag" {
					continue // a hint then
				}
				synctest.Test(t, func(t *testing.T) {
					a := &answerer{failUntil: failUntil{content: want}}
					var log bytes.Buffer
					cl := client(t, func(o *Options) {
						o.Hard, o.Transport = strings.Contains(state, "hard"), a
						o.Timeo, o.RetryMin, o.RetryMax, o.StallTimeout = time.Minute, 0, 0, 0
						o.Logger = slog.New(slog.NewTextHandler(&log, nil))
					})
					temporaryHere := name == "429" || name == "500" || name == "503"
					if state == "opening, hard" {
						a.set(c.answer)
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
						defer cancel()
						begun := time.Now()
						_, err := cl.Open(ctx, "http://127.0.0.1/f", "")
						if took := time.Since(begun); !temporaryHere && took > time.Minute && err != nil {
							t.Errorf("%s: it took %v", state, took)
						}
						return
					}
					o := cl.Resume("http://127.0.0.1/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true})
					if state != "served before, hard" {
						mustFetch(t, o, want, 0, 1000)
					}
					a.set(c.answer)
					hard := cl.options.Hard
					type result struct {
						got []byte
						err error
						at  time.Duration
					}
					results := make(chan result, 5)
					begun := time.Now()
					for i := range int64(cap(results)) {
						go func() {
							time.Sleep(time.Duration(i) * time.Second)
							var src source.Source = o
							if state == "proven by sums, hard" {
								src = o.Unpinned()
							}
							got, err := fetch(t, src, i*1000, 1000)
							results <- result{got, err, time.Since(begun)}
						}()
					}
					const away = 10 * time.Minute
					time.Sleep(away)
					synctest.Wait()
					ended := len(results)
					switch {
					case !hard || c.final:
						if ended != cap(results) {
							t.Errorf("%s: %d reads of %d have ended after %v", state, ended, cap(results), away)
						}
					case ended > 0:
						r := <-results
						t.Errorf("%s: %d reads have not waited: %v", state, ended, r.err)
					default:
						if since := cl.FailingSince("http://127.0.0.1/f"); since.IsZero() {
							t.Errorf("%s: nothing tells that reads wait", state)
						}
						if !strings.Contains(log.String(), "level=WARN") || strings.Count(log.String(), "level=WARN") > 2 {
							t.Errorf("%s: the log says %q", state, log.String())
						}
						if perMinute := float64(a.requests) / away.Minutes(); perMinute > 30*12 { // tries, of up to so many hops
							t.Errorf("%s: %.0f requests a minute for 5 readers", state, perMinute)
						}
					}
					if hard && c.final {
						for range ended {
							if r := <-results; r.err == nil || r.at > time.Minute {
								t.Errorf("%s: ended after %v with %v", state, r.at, r.err)
							}
						}
					}
					a.set(nil)
					back := time.Now()
					if hard && !c.final && ended == 0 {
						for range cap(results) {
							r := <-results
							i := 0
							if r.err == nil {
								for i = range cap(results) {
									if bytes.Equal(r.got, want[i*1000:i*1000+1000]) {
										break
									}
								}
							}
							if r.err != nil || !bytes.Equal(r.got, want[i*1000:i*1000+1000]) {
								t.Errorf("%s: a read that waited: %d bytes, %v", state, len(r.got), r.err)
							}
						}
						if took := time.Since(back); took > 15*time.Second {
							t.Errorf("%s: a read waited for %v when all was well again", state, took)
						}
						if since := cl.FailingSince("http://127.0.0.1/f"); !since.IsZero() {
							t.Errorf("%s: reads still count as waiting", state)
						}
					}
					cl.Close()
				})
			}
		})
	}
}

// TestHardMissing has the server of an object that was served answer 404 for long. That ends
// hard fetches after a grace time, and is no end for ever.
func TestHardMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(testSize)
		a := &answerer{failUntil: failUntil{content: want}}
		var log bytes.Buffer
		cl := client(t, func(o *Options) {
			o.Hard, o.Transport, o.RetryMin, o.RetryMax, o.StallTimeout = true, a, 0, 0, 0
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		o := cl.Resume("http://127.0.0.1/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true})
		mustFetch(t, o, want, 0, 10)
		for range 2 {
			a.set(respond(404, ""))
			begun := time.Now()
			_, err := fetch(t, o, 0, 10)
			if took := time.Since(begun); !errors.Is(err, ErrNotFound) || took < missingTime || took > missingTime+2*time.Minute {
				t.Errorf("ended after %v: %v", took, err)
			}
			if !strings.Contains(log.String(), "object is gone") {
				t.Error("the log does not tell")
			}
			begun = time.Now()
			if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrNotFound) || time.Since(begun) > time.Second {
				t.Errorf("the next read ended after %v: %v", time.Since(begun), err)
			}
			a.set(nil)
			mustFetch(t, o, want, 0, 10) // it is back, and the hour begins anew
		}
		// Two looks hours apart are none either.
		a.set(respond(404, ""))
		short, stop := context.WithTimeout(t.Context(), time.Second)
		if _, err := o.Fetch(short, 0, 10, source.Demand); err == nil {
			t.Error("fetched what is missing")
		}
		stop()
		time.Sleep(2 * missingTime)
		begun := time.Now()
		if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrNotFound) || time.Since(begun) < missingTime {
			t.Errorf("missed twice, hours apart: ended after %v: %v", time.Since(begun), err)
		}
		a.set(nil)
		mustFetch(t, o, want, 0, 10)
		// An hour with one good answer in it is none.
		a.set(respond(404, ""))
		done := make(chan error, 1)
		go func() { _, err := fetch(t, o, 0, 10); done <- err }()
		time.Sleep(50 * time.Minute)
		a.set(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
		a.set(respond(404, ""))
		go func() { _, err := fetch(t, o, 0, 10); done <- err }()
		time.Sleep(50 * time.Minute)
		select {
		case err := <-done:
			t.Errorf("two absences were added up: %v", err)
		default:
		}
		a.set(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestHardFollows has a fresh URL found while a fetch waits at one that has expired.
func TestHardFollows(t *testing.T) {
	for _, hard := range []bool{true, false} {
		s, want := serve(t)
		s.Put("/fresh", bytes.NewReader(want), testSize, time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
		c := client(t, func(o *Options) { o.Hard = hard })
		o := open(t, c, s.URL()+"/f")
		var asked atomic.Int32
		o.Follow(func(_ context.Context, was string) string {
			if was != s.URL()+"/f" {
				t.Errorf("asked for another in the place of %s", was)
			}
			if n := asked.Add(1); hard && n < 3 {
				return "" // the feed has no other yet
			}
			return s.URL() + "/fresh"
		}, nil)
		s.Inject(origin.Fault{Path: "/f", Kind: origin.Status, Status: 403})
		mustFetch(t, o, want, 1000, 1000)
		if n := asked.Load(); hard && n < 3 || n == 0 {
			t.Errorf("asked %d times for a fresh URL", n)
		}
	}
}

// TestHardReadsCredentialsAgain has each kind of credentials replaced while a fetch waits for
// want of them.
func TestHardReadsCredentialsAgain(t *testing.T) {
	for _, kind := range []string{"token", "netrc", "certificate", "authority"} {
		t.Run(kind, func(t *testing.T) {
			want := content(testSize)
			oldCert, oldKey, _ := certificate(t, time.Now().Add(time.Hour))
			newCert, newKey, _ := certificate(t, time.Now().Add(2*time.Hour))
			var strict atomic.Bool
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				var shown string
				if len(r.TLS.PeerCertificates) > 0 {
					shown = r.TLS.PeerCertificates[0].NotAfter.UTC().Format(time.RFC3339)
				}
				ok := !strict.Load() || kind == "token" && r.Header.Get("Authorization") == "Bearer new" || kind == "netrc" && password == "new" ||
					kind == "certificate" && shown == notAfter(t, newCert) || kind == "authority"
				if !ok {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				w.Header().Set("ETag", `"one"`)
				http.ServeContent(w, r, "f.xvm", time.Time{}, bytes.NewReader(want))
			}))
			s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
			s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
			s.StartTLS()
			defer s.Close()
			authority := string(pemOf(s.Certificate().Raw))
			ca, token, netrc := writeFile(t, "ca.pem", authority), writeFile(t, "token", "old"), writeFile(t, "netrc", "machine 127.0.0.1 login me password old")
			cert, key := writeFile(t, "cert.pem", string(oldCert)), writeFile(t, "key.pem", string(oldKey))
			c := client(t, func(o *Options) {
				o.Hard, o.CACert, o.Cert, o.Key, o.StallTimeout = true, ca, cert, key, time.Minute
				if kind == "netrc" {
					o.Netrc = netrc
				} else {
					o.TokenFile = token
				}
			})
			o := open(t, c, s.URL+"/f")
			replace := func(name, text string) {
				if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(name+".new", name); err != nil {
					t.Fatal(err)
				}
			}
			strict.Store(true)
			if kind == "authority" {
				replace(ca, string(oldCert)) // which has not issued that of the server
				if changed, err := c.certificates.read(); !changed || err != nil {
					t.Fatal(changed, err)
				}
				c.peer(originOf(o.route.url)).renew()
			}
			done := make(chan error, 1)
			go func() {
				r, err := o.Fetch(t.Context(), 1000, 1000, source.Demand)
				if err == nil {
					var got []byte
					got, err = io.ReadAll(r)
					r.Close()
					if err == nil && !bytes.Equal(got, want[1000:2000]) {
						err = errors.New("wrong bytes")
					}
				}
				done <- err
			}()
			select {
			case err := <-done:
				t.Fatalf("the fetch did not wait: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			replace(token, "new")
			replace(netrc, "machine 127.0.0.1 login me password new")
			replace(cert, string(newCert)) // for a moment it does not fit its key
			time.Sleep(50 * time.Millisecond)
			replace(key, string(newKey))
			replace(ca, authority)
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the new credentials are not read")
			}
		})
	}
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// notAfter is when a certificate ends.
func notAfter(t *testing.T, text []byte) string {
	t.Helper()
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.NotAfter.UTC().Format(time.RFC3339)
}
