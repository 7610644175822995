package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// behind puts a server of its own before the origin, with TLS if there is a
// configuration for it, and points the feed at it.
func (w *world) behind(config *tls.Config, handler http.Handler) *httptest.Server {
	w.t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if s.TLS = config; config != nil {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	w.t.Cleanup(s.Close)
	w.move(s.URL)
	return s
}

// move has the feed and its packages at another address.
func (w *world) move(url string) {
	was := strings.TrimSuffix(w.feed, appliance.FeedPath)
	w.app.Feed = bytes.ReplaceAll(w.app.Feed, []byte(was), []byte(url))
	w.feed = url + appliance.FeedPath
	w.origin.PutBytes(appliance.FeedPath, w.app.Feed)
}

// refused tries to mount and wants a failure that says what it is.
func (w *world) refused(say string, opts ...string) {
	w.t.Helper()
	out, err := w.run("mount", "-o", w.options(opts...), w.feed, w.dir)
	if exitCode(err) != 32 || !strings.Contains(out, say) {
		w.t.Errorf("mount with %q: %v, want 32 and %q\n%s", opts, err, say, out)
	}
	_ = fs.UnmountDir(w.dir, true)
}

func (w *world) wantDisk() {
	w.t.Helper()
	if !bytes.Equal(readAll(w.t, w.path("latest", "disk.img")), w.app.Disk) {
		w.t.Error("disk.img differs")
	}
}

// secret writes a file that only its owner may read.
func secret(t *testing.T, path, text string) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.TempDir(), path)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestCustomCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	s := w.behind(&tls.Config{MinVersion: tls.VersionTLS12}, w.origin)
	w.refused("cacert=FILE", "soft", "timeo=2s")
	ca := secret(t, "ca.pem", pemOf("CERTIFICATE", s.Certificate().Raw))
	w.mount("cacert=" + ca)
	w.wantDisk()
	if st := w.status(); !strings.HasPrefix(st.Feed.URL, "https://") {
		t.Errorf("the feed is %s", st.Feed.URL)
	}
}

// clientCertificate makes a certificate for a client, signed by itself.
func clientCertificate(t *testing.T) (cert *x509.Certificate, certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "host"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return cert, pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", raw)
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	cert, certPEM, keyPEM := clientCertificate(t)
	clients := x509.NewCertPool()
	clients.AddCert(cert)
	s := w.behind(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12}, w.origin)
	ca := "cacert=" + secret(t, "ca.pem", pemOf("CERTIFICATE", s.Certificate().Raw))
	w.refused("", ca, "soft", "timeo=2s")
	w.mount(ca, "cert="+secret(t, "cert.pem", certPEM), "key="+secret(t, "key.pem", keyPEM))
	w.wantDisk()
}

// gate lets through what has the right Authorization.
type gate struct {
	http.Handler
	want    atomic.Value // string
	refused atomic.Int64
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if want := g.want.Load(); want != "" && r.Header.Get("Authorization") != want {
		g.refused.Add(1)
		w.Header().Set("WWW-Authenticate", `Basic realm="vm"`)
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	g.Handler.ServeHTTP(w, r)
}

func TestNetrcFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	g := &gate{Handler: w.origin}
	g.want.Store("Basic dTpzM2NyM3Q=") // u:s3cr3t
	w.behind(nil, g)
	w.refused("401", "soft", "timeo=2s")
	w.mount("netrc=" + secret(t, "netrc", "machine other login x password y\nmachine 127.0.0.1\n\tlogin u\n\tpassword s3cr3t\n"))
	w.wantDisk()
	for what, content := range map[string]string{"/proc/self/mountinfo": told("/proc/self/mountinfo"), "status": told(w.path(".vmcastfs/status.json"))} {
		if strings.Contains(content, "s3cr3t") {
			t.Errorf("the password shows in %s", what)
		}
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	g := &gate{Handler: w.origin}
	g.want.Store("Bearer first")
	w.behind(nil, g)
	token := secret(t, "token", "first\n")
	w.mount("token_file="+token, "complete=off")
	f, err := os.Open(w.path("latest", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	// The token is changed on the server, and in the file as credential
	// helpers do it: by renaming another over it.
	g.want.Store("Bearer second")
	next := secret(t, token+".new", "second\n")
	if err := os.Rename(next, token); err != nil {
		t.Fatal(err)
	}
	const off = 6 << 20
	if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, w.app.Disk[off:off+4096]) {
		t.Errorf("reading after the token changed: %v", err)
	}
	w.wantDisk()
}

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

// What is meant for one origin is not told to another one that it redirects
// to, or whose packages its feed names.
func TestCredentialsStayHome(t *testing.T) {
	t.Parallel()
	for name, redirect := range map[string]bool{"redirect": true, "enclosure": false} {
		for _, kind := range []string{"netrc", "token"} {
			if kind == "netrc" && !redirect {
				continue // an entry for a machine is for all its ports, as netrc has it
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, appliance.Options{})
				other := httptest.NewServer(w.origin) // the same files, another origin
				t.Cleanup(other.Close)
				g := &gate{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if redirect && strings.HasSuffix(r.URL.Path, ".xvm") {
						http.Redirect(rw, r, other.URL+r.URL.Path+"?signature=xyz", http.StatusFound)
						return
					}
					w.origin.ServeHTTP(rw, r)
				})}
				option := "netrc=" + secret(t, "netrc", "machine 127.0.0.1 login u password p")
				g.want.Store("Basic dTpw")
				if kind == "token" {
					option = "token_file=" + secret(t, "token", "first")
					g.want.Store("Bearer first")
				}
				s := w.behind(nil, g)
				if !redirect {
					w.app.Feed = bytes.ReplaceAll(w.app.Feed, []byte(s.URL+"/demo"), []byte(other.URL+"/demo"))
					w.origin.PutBytes(appliance.FeedPath, w.app.Feed)
				}
				w.mount(option)
				w.wantDisk()
				asked := 0
				for _, r := range w.origin.Log() {
					switch {
					case r.Host == strings.TrimPrefix(other.URL, "http://"):
						asked++
						for _, h := range []string{"Authorization", "Cookie", "Referer"} {
							if v := r.Header.Get(h); v != "" {
								t.Errorf("the other origin was told %s: %s", h, v)
							}
						}
					case r.Header.Get("Authorization") == "":
						t.Errorf("its own origin was told nothing at %s", r.Path)
					}
				}
				if asked == 0 {
					t.Error("the other origin was never asked")
				}
				if st := told(w.path(".vmcastfs/status.json")); strings.Contains(st, "signature=xyz") {
					t.Error("status.json shows the signature of a signed address")
				}
			})
		}
	}
}

func TestBandwidthLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("bwlimit=2M", "complete=off")
	if _, err := os.ReadDir(w.path("latest")); err != nil {
		t.Fatal(err)
	}
	before := w.origin.Stats("").BytesSent
	began := time.Now()
	w.wantDisk()
	took, bytes := time.Since(began), w.origin.Stats("").BytesSent-before
	if rate := float64(bytes) / took.Seconds(); rate > 2.6*(1<<20) {
		t.Errorf("%d bytes in %s: %.1f MiB/s", bytes, took, rate/(1<<20))
	}
}
