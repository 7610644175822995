package remote

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
)

// authorization returns what a Get of url shows to its origin.
func authorization(t *testing.T, s *origin.Server, c *Client, url string) string {
	t.Helper()
	s.ResetStats()
	if _, err := c.Get(t.Context(), url, "", "", testSize); err != nil {
		t.Fatal(err)
	}
	return s.Log()[0].Header.Get("Authorization")
}

func TestTokenFileIsReadAgain(t *testing.T) {
	s, _ := serve(t)
	name := writeFile(t, "token", "one\n")
	c := client(t, func(o *Options) { o.TokenFile = name })
	expect := func(want string) {
		t.Helper()
		if got := authorization(t, s, c, s.URL()+"/f"); got != "Bearer "+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	replace := func(text string) {
		os.WriteFile(name+".new", []byte(text), 0o600)
		os.Rename(name+".new", name)
	}
	expect("one")
	replace("two")
	expect("two")
	os.Truncate(name, 0) // in the middle of being written
	expect("two")
	os.Remove(name)
	expect("two")
	replace("three")
	expect("three")
	replace("a b\nc")
	if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", testSize); err == nil || strings.Contains(err.Error(), "a b") {
		t.Errorf("two words for a token: %v", err)
	}
	// A pipe in its place holds nobody up, with a writer or without.
	replace("three")
	expect("three")
	os.Remove(name)
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("three")
	writer, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	expect("three")
	replace("four")
	expect("four")
	c = client(t, func(o *Options) { o.TokenFile = filepath.Join(t.TempDir(), "absent") })
	if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", testSize); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("no token file: %v", err)
	}
}

// TestHeaderFile has the headers of a file go to the origin of the feed, and nowhere else.
func TestHeaderFile(t *testing.T) {
	s, _ := serve(t)
	other, _ := serve(t)
	name := writeFile(t, "headers", "# for the registry\nPRIVATE-TOKEN: one two\n\nX-Twice: a\nx-twice: b\r\n")
	c := client(t, func(o *Options) { o.HeaderFile, o.TokenFile = name, writeFile(t, "token", "bearer") })
	ask := func(url, base string) http.Header {
		t.Helper()
		s.ResetStats()
		other.ResetStats()
		if _, err := c.Open(t.Context(), url, base); err != nil {
			t.Fatal(err)
		}
		log := append(s.Log(), other.Log()...)
		return log[len(log)-1].Header
	}
	h := ask(s.URL()+"/f", s.URL()+"/feed")
	if h.Get("Private-Token") != "one two" || strings.Join(h.Values("X-Twice"), "+") != "a+b" || h.Get("Authorization") != "Bearer bearer" {
		t.Errorf("sent %v", h)
	}
	if h := ask(other.URL()+"/f", s.URL()+"/feed"); h.Get("Private-Token")+h.Get("X-Twice") != "" {
		t.Errorf("another origin is told %v", h)
	}
	remove := s.Inject(origin.Fault{Path: "/away", Kind: origin.Redirect, Value: other.URL() + "/f"})
	if h := ask(s.URL()+"/away", ""); h.Get("Private-Token")+h.Get("X-Twice") != "" {
		t.Errorf("a redirect tells another origin %v", h)
	}
	remove()
	os.WriteFile(name+".new", []byte("Authorization: Token x\nUser-Agent: mine\n"), 0o600)
	os.Rename(name+".new", name)
	if h := ask(s.URL()+"/f", ""); h.Get("Private-Token") != "" || h.Get("Authorization") != "Token x" || h.Get("User-Agent") != "mine" {
		t.Errorf("after a change: %v", h)
	}
	for _, text := range []string{"no colon", "secret", "Range: bytes=0-1", "host: h", "a b: c", "X: \x01", "Transfer-Encoding: chunked", ": x", strings.Repeat("X\n", 3)} {
		c := client(t, func(o *Options) { o.HeaderFile = writeFile(t, "bad", text) })
		if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", testSize); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	var many strings.Builder
	for i := range maxHeaders + 1 {
		fmt.Fprintf(&many, "X-%d: y\n", i)
	}
	if _, err := parseHeaders(many.String()); err == nil {
		t.Error("too many headers")
	}
}

func TestNetrc(t *testing.T) {
	s, _ := serve(t)
	for text, want := range map[string]string{
		"machine 127.0.0.1 login a password b":                                           "a:b",
		"machine 127.0.0.1\n  login a\n  password b\nmachine other login x password y\n": "a:b",
		"machine other login x password y":                                               "",
		"machine other login x password y default login d password e":                    "d:e",
		"default login d password e":                                                     "d:e",
		"machine 127.0.0.1 login a password b\ndefault login d password e":               "a:b",
		"machine":                     "",
		"machine 127.0.0.1 login":     "machine:",
		"# nothing but a comment\n\n": "",
		"machine machine":             "",
	} {
		c := client(t, func(o *Options) { o.Netrc = writeFile(t, "netrc", text) })
		got := authorization(t, s, c, s.URL()+"/f")
		r := http.Request{Header: http.Header{"Authorization": {got}}}
		login, password, _ := r.BasicAuth()
		if want == "machine:" {
			continue // nonsense in, nonsense out, but no panic
		}
		if pair := login + ":" + password; pair != want && (want != "" || got != "") {
			t.Errorf("%q: %q", text, pair)
		}
	}
	// The default entry is not for hosts that a feed names.
	c := client(t, func(o *Options) { o.Netrc = writeFile(t, "netrc", "default login d password e\n") })
	s.ResetStats()
	if _, err := c.Open(t.Context(), s.URL()+"/f", "http://127.0.0.1:1/feed"); err != nil {
		t.Fatal(err)
	}
	if got := s.Log()[0].Header.Get("Authorization"); got != "" {
		t.Errorf("the default entry was shown: %q", got)
	}
}

func TestProxy(t *testing.T) {
	var asked atomic.Value
	var s http.Server
	proxy := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.RequestURI)
		http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader("through the proxy"))
	})
	c := client(t, func(o *Options) { o.Proxy = proxy })
	o, err := c.Open(t.Context(), "http://images.invalid/f", "http://feed.invalid/feed")
	if err != nil || string(o.Head()) != "through the proxy" || asked.Load() != "http://images.invalid/f" {
		t.Errorf("%v, the proxy was asked for %v", err, asked.Load())
	}
	if _, err := c.Open(t.Context(), "http://10.0.0.1/f", publicFeed); err == nil {
		t.Error("a private address through the proxy")
	}
	t.Setenv("http_proxy", proxy)
	t.Setenv("no_proxy", "direct.invalid")
	c = client(t, func(o *Options) { o.Proxy = "" })
	if _, err := c.Open(t.Context(), "http://images.invalid/g", publicFeed); err != nil || asked.Load() != "http://images.invalid/g" {
		t.Errorf("from the environment: %v", err)
	}
	asked.Store("")
	c = client(t, func(o *Options) { o.Proxy = ""; o.Timeo = 200 * time.Millisecond })
	if _, err := c.Open(t.Context(), "http://direct.invalid/g", publicFeed); err == nil || asked.Load() != "" {
		t.Errorf("no_proxy: %v, asked for %v", err, asked.Load())
	}
}

// TestProxyWantsLogin has a proxy answer CONNECT with a status. Only 407 is known for what it
// is: the status of a proxy says nothing of the object.
func TestProxyWantsLogin(t *testing.T) {
	for status, want := range map[int]bool{407: true, 403: false, 404: false, 502: false} {
		var s http.Server
		proxy := listen(t, &s, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
		_, err := client(t, func(o *Options) { o.Proxy = proxy }).Get(t.Context(), "https://images.invalid/f", "", "", testSize)
		refused, isStatus := errors.AsType[*StatusError](err)
		if isStatus != want || want && (refused.Code != status || refused.URL != proxy) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("CONNECT with status %d: %v", status, err)
		}
		c := client(t, func(o *Options) { o.Proxy, o.Timeo = proxy, 100*time.Millisecond })
		if _, err := c.Open(t.Context(), "https://images.invalid/f", ""); errors.Is(err, ErrNotFound) {
			t.Errorf("CONNECT with status %d: %v", status, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	text := writeFile(t, "text", "no PEM here")
	for name, o := range map[string]Options{
		"no such authority": {CACert: "/nonexistent"}, "bad authority": {CACert: text}, "certificate without key": {Cert: text},
		"key without certificate": {Key: text}, "bad certificate": {Cert: text, Key: text}, "proxy": {Proxy: "ftp://h"},
		"proxy without host": {Proxy: "x"}, "user agent": {UserAgent: "a\r\nb"},
	} {
		if c, err := NewClient(o); err == nil {
			c.Close()
			t.Error(name)
		}
	}
}
