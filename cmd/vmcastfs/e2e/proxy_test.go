package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// proxy forwards, and tunnels with CONNECT; hosts says what a name stands for.
type proxy struct {
	*httptest.Server
	hosts map[string]string // host:port, host:port
	login string            // user:password that it asks for, or ""
	mu    sync.Mutex        // guards seen
	seen  []string
}

func newProxy(t *testing.T, hosts map[string]string) *proxy {
	p := &proxy{hosts: hosts}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.Host)
	p.mu.Unlock()
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.login)); p.login != "" && r.Header.Get("Proxy-Authorization") != want {
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	to, ok := p.hosts[r.Host]
	if !ok {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	if r.Method == http.MethodConnect {
		p.tunnel(w, to)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = "http", to
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func (p *proxy) tunnel(w http.ResponseWriter, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(server, client); server.Close() }()
	_, _ = io.Copy(client, server)
}

// mountWith mounts with these in the environment.
func (w *world) mountWith(env []string, more ...string) (string, error) {
	cmd := exec.Command(binary, "mount", "-o", w.options(more...), w.feed, w.dir)
	for _, v := range os.Environ() {
		if !strings.Contains(strings.ToLower(strings.SplitN(v, "=", 2)[0]), "proxy") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	w.t.Cleanup(func() { _ = fs.UnmountDir(w.dir, true) })
	return string(out), err
}

func TestProxy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  func(proxy string) []string
		opts func(proxy string) []string
		fail string
	}{
		"option":      {opts: func(p string) []string { return []string{"proxy=" + p} }},
		"environment": {env: func(p string) []string { return []string{"HTTP_PROXY=" + p} }},
		"NO_PROXY": {env: func(p string) []string { return []string{"HTTP_PROXY=" + p, "NO_PROXY=other.test,.vm.test"} },
			opts: func(string) []string { return []string{"soft", "timeo=2s"} }, fail: "feeds.vm.test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, appliance.Options{})
			p := newProxy(t, map[string]string{"feeds.vm.test": strings.TrimPrefix(w.origin.URL(), "http://")})
			w.move("http://feeds.vm.test") // a name that only the proxy can find
			var env, opts []string
			if c.env != nil {
				env = c.env(p.URL)
			}
			if c.opts != nil {
				opts = c.opts(p.URL)
			}
			out, err := w.mountWith(env, opts...)
			if c.fail != "" {
				if exitCode(err) != 32 || !strings.Contains(out, c.fail) || p.requests() > 0 {
					t.Errorf("%v, %d requests to the proxy\n%s", err, p.requests(), out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			w.wantDisk()
			if p.requests() == 0 {
				t.Error("nothing went through the proxy")
			}
		})
	}
	t.Run("https", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, appliance.Options{})
		s := w.behind(&tls.Config{MinVersion: tls.VersionTLS12}, w.origin)
		p := newProxy(t, map[string]string{"example.com:443": strings.TrimPrefix(s.URL, "https://")}) // in httptest's certificate
		w.move("https://example.com")
		ca := secret(t, "ca.pem", pemOf("CERTIFICATE", s.Certificate().Raw))
		if out, err := w.mountWith([]string{"HTTPS_PROXY=" + p.URL}, "cacert="+ca); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.wantDisk()
		if p.requests() == 0 || !strings.HasPrefix(p.seen[0], "CONNECT ") {
			t.Errorf("the proxy saw %q", p.seen)
		}
	})
}

// TestProxyLogin: the login for a proxy is in netrc, never in the options, and is
// not told to the server behind it.
func TestProxyLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	var told atomic.Bool
	s := w.behind(&tls.Config{MinVersion: tls.VersionTLS12}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Proxy-Authorization") != "" {
			told.Store(true)
		}
		w.origin.ServeHTTP(rw, r)
	}))
	p := newProxy(t, map[string]string{"example.com:443": strings.TrimPrefix(s.URL, "https://"), "feeds.vm.test": strings.TrimPrefix(w.origin.URL(), "http://")})
	p.login = "guest:pw"
	ca := "cacert=" + secret(t, "ca.pem", pemOf("CERTIFICATE", s.Certificate().Raw))
	netrc := "netrc=" + secret(t, "netrc", "machine 127.0.0.1 login guest password pw\n")
	w.move("http://feeds.vm.test")
	if out, err := w.mountWith(nil, "proxy="+p.URL); exitCode(err) != 32 || !strings.Contains(out, "407") || !strings.Contains(out, "netrc=") {
		t.Errorf("without a login: %v, %s", err, out)
	}
	before := p.requests()
	if out, err := w.mountWith(nil, "proxy="+strings.Replace(p.URL, "//", "//guest:pw@", 1)); exitCode(err) != 1 || p.requests() > before || strings.Contains(out, "pw@") {
		t.Errorf("a password in an option: %v, %s", err, out)
	}
	for _, url := range []string{"http://feeds.vm.test", "https://example.com"} {
		w.move(url)
		if out, err := w.mountWith(nil, "proxy="+p.URL, netrc, ca); err != nil {
			t.Fatalf("%s: %v\n%s", url, err, out)
		}
		w.wantDisk()
		w.umount()
	}
	if told.Load() {
		t.Error("the server was told the login of the proxy")
	}
}
