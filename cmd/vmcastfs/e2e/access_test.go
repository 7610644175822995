package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
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
