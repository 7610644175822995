package remote

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/origin"
)

func TestH6CredentialsStayAtTheirOrigin(t *testing.T) {
	home, want := serve(t)
	other, _ := serve(t)
	home.Put("/moved", bytes.NewReader(nil), 0, time.Time{}, "", "")
	home.Inject(origin.Fault{Path: "/moved", Kind: origin.Redirect, Value: other.URL() + "/f"})
	home.Inject(origin.Fault{Path: "/near", Kind: origin.Redirect, Value: "/f"})
	netrc := writeFile(t, "netrc", "machine 127.0.0.1 login alice password secret\n")
	token := writeFile(t, "token", "t0ken\n")
	userinfo := strings.Replace(home.URL(), "//", "//bob:pw@", 1)
	basic := func(text string) string {
		r := &http.Request{Header: http.Header{}}
		u, p, _ := strings.Cut(text, ":")
		r.SetBasicAuth(u, p)
		return r.Header.Get("Authorization")
	}
	for _, tt := range []struct {
		name          string
		options       Options
		url, base     string
		first, second string // Authorization at the origin of url, and where it leads
	}{
		{"netrc", Options{Netrc: netrc}, home.URL(), home.URL() + "/feed", basic("alice:secret"), ""},
		{"token", Options{TokenFile: token}, home.URL(), home.URL() + "/feed", "Bearer t0ken", ""},
		{"token before netrc", Options{TokenFile: token, Netrc: netrc}, home.URL(), "", "Bearer t0ken", ""},
		{"userinfo", Options{}, userinfo, home.URL() + "/feed", basic("bob:pw"), ""},
		{"userinfo before netrc", Options{Netrc: netrc}, userinfo, home.URL() + "/feed", basic("bob:pw"), ""},
		{"token for another feed", Options{TokenFile: token}, home.URL(), "http://127.0.0.1:1/feed", "", ""},
		{"token for a local feed", Options{TokenFile: token}, home.URL(), "/local/feed.xml", "", ""},
		{"token where it leads back", Options{TokenFile: token}, home.URL(), other.URL() + "/feed", "", "Bearer t0ken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home.ResetStats()
			other.ResetStats()
			c := client(t, func(o *Options) { o.Netrc, o.TokenFile = tt.options.Netrc, tt.options.TokenFile })
			o, err := c.Open(t.Context(), tt.url+"/moved", tt.base)
			if err != nil {
				t.Fatal(err)
			}
			mustFetch(t, o, want, 0, 10)
			for _, r := range home.Log() {
				if got := r.Header.Get("Authorization"); got != tt.first {
					t.Errorf("home saw %q, want %q", got, tt.first)
				}
			}
			if len(other.Log()) != 2 {
				t.Errorf("%d requests at the other", len(other.Log()))
			}
			for _, r := range other.Log() {
				if got := r.Header.Get("Authorization"); got != tt.second || r.Header.Get("Referer")+r.Header.Get("Cookie") != "" {
					t.Errorf("the other saw %v, want %q", r.Header, tt.second)
				}
			}
			home.ResetStats()
			if _, err := c.Open(t.Context(), tt.url+"/near", tt.base); err != nil {
				t.Fatal(err)
			}
			for _, r := range home.Log() {
				if got := r.Header.Get("Authorization"); got != tt.first {
					t.Errorf("a redirect within the origin showed %q", got)
				}
			}
		})
	}
}

func TestH6ClientCertificateStaysAtItsOrigin(t *testing.T) {
	certPEM, keyPEM, _ := certificate(t, time.Now().Add(time.Hour))
	var shown [2]atomic.Int32
	var servers [2]*httptest.Server
	for i := range servers {
		servers[i] = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown[i].Add(int32(len(r.TLS.PeerCertificates)))
			if i == 0 && r.URL.Path == "/moved" {
				http.Redirect(w, r, servers[1].URL+"/f", http.StatusFound)
				return
			}
			http.ServeContent(w, r, "f", time.Unix(1e9, 0), strings.NewReader("hello"))
		}))
		servers[i].TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		servers[i].StartTLS()
		t.Cleanup(servers[i].Close)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: servers[0].Certificate().Raw})
	c := client(t, func(o *Options) {
		o.CACert = writeFile(t, "ca.pem", string(ca))
		o.Cert, o.Key = writeFile(t, "cert.pem", string(certPEM)), writeFile(t, "key.pem", string(keyPEM))
	})
	if _, err := c.Open(t.Context(), servers[0].URL+"/moved", ""); err != nil {
		t.Fatal(err)
	}
	if shown[0].Load() != 1 || shown[1].Load() != 0 {
		t.Errorf("certificates shown: %d at home, %d elsewhere", shown[0].Load(), shown[1].Load())
	}
}

func TestH18NoSecretsInMessages(t *testing.T) {
	s, _ := serve(t)
	var logged bytes.Buffer
	log := func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c := client(t, log, func(o *Options) { o.Timeo, o.DocumentTimeout = 100*time.Millisecond, 100*time.Millisecond })
	secret := strings.Replace(s.URL(), "//", "//user-sekret:pw-sekret@", 1) + "/f?sig=sekret&x#sekret"
	var messages []string
	note := func(err error) {
		if err == nil {
			t.Error("no error")
			return
		}
		messages = append(messages, err.Error())
	}
	o := c.Resume(secret, "", open(t, client(t, log), secret).Identity())
	for _, f := range []origin.Fault{
		{Kind: origin.Status, Status: 403}, {Kind: origin.Status, Status: 503}, {Kind: origin.Drop}, {Kind: origin.Hang},
		{Kind: origin.WrongRange}, {Kind: origin.Redirect, Value: "http://u-sekret:p-sekret@127.0.0.1:1/?sekret"},
		{Kind: origin.Redirect, Value: "http://sekret:se%zzkret@h/"}, {Kind: origin.Redirect, Value: "gopher://h/?sekret"},
		{Kind: origin.ChangeETag},
	} {
		remove := s.Inject(f)
		_, err := c.Get(t.Context(), secret, "", "", 10)
		note(err)
		_, err = fetch(t, o, 0, 10)
		note(err)
		remove()
	}
	for _, raw := range []string{"http://sekret:pa/sekret@h/", "http://sekret:x@h:sekret/", "http://h/%zz?sekret", "ftp://u:sekret@h/"} {
		_, err := c.Open(t.Context(), raw, "")
		note(err)
	}
	messages = append(messages, o.shown, logged.String(), fmt.Sprintf("%+v", c.Stats()))
	for _, m := range messages {
		if strings.Contains(m, "sekret") {
			t.Errorf("shown: %s", m)
		}
	}
	if o.shown != s.URL()+"/f?..." {
		t.Errorf("URL is shown as %s", o.shown)
	}
}

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t *testing.T, notAfter time.Time) (certPEM, keyPEM []byte, cert *tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
