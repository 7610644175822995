package remote

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

// The tests here are named by the hostile inputs they are about.

const publicFeed = "http://93.184.216.34/vmcast.xml"

func TestH1OnlyHTTP(t *testing.T) {
	c := client(t)
	for _, raw := range []string{"file:///etc/passwd", "ftp://h/x", "gopher://h/", "unix:/run/x", "data:text/plain,x",
		"", "/relative", "//host/x", "http:", "http://", "http:///x", "http:opaque", "javascript:1", "HTTPX://h/", "http://[::1/x",
		"http://h:port/", "http://h/\x7f", "http://" + strings.Repeat("h", maxURL)} {
		if _, err := c.Open(t.Context(), raw, publicFeed); err == nil {
			t.Errorf("opened %.40q", raw)
		}
		if _, err := c.Resume(raw, publicFeed, Identity{Size: 10, Ranged: true}).Fetch(t.Context(), 0, 1, source.Demand); err == nil {
			t.Errorf("fetched %.40q", raw)
		}
		if _, err := c.Get(t.Context(), raw, "", "", 10); err == nil {
			t.Errorf("got %.40q", raw)
		}
	}
	s, _ := serve(t)
	for _, to := range []string{"file:///etc/passwd", "gopher://127.0.0.1/", "http://", "//", "http://h:port/", "", strings.Repeat("x", maxURL+1)} {
		remove := s.Inject(origin.Fault{Kind: origin.Redirect, Value: to})
		if _, err := c.Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrProtocol) {
			t.Errorf("redirect to %.40q: %v", to, err)
		}
		remove()
	}
}

func TestH2PrivateAddressFromPublicFeed(t *testing.T) {
	s, want := serve(t)
	c := client(t)
	for _, raw := range []string{s.URL() + "/f", "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://[fd00::1]/",
		"http://10.0.0.1/", "http://0.0.0.0/", "http://[::ffff:127.0.0.1]/", "http://[::]/", "http://[fe80::1%25lo]/", "http://[64:ff9b::7f00:1]/"} {
		if _, err := c.Open(t.Context(), raw, publicFeed); !errors.Is(err, ErrRefused) {
			t.Errorf("a public feed opened %s: %v", raw, err)
		}
	}
	if n := s.Stats("").Connections; n != 0 {
		t.Errorf("%d connections were made", n)
	}
	for _, base := range []string{"", "http://127.0.0.1:1/feed", "http://localhost/feed", "/srv/local/vmcast.xml"} {
		o, err := c.Open(t.Context(), s.URL()+"/f", base)
		if err != nil {
			t.Errorf("feed at %q: %v", base, err)
			continue
		}
		mustFetch(t, o, want, 0, 10)
	}
	o, err := client(t, func(o *Options) { o.AllowPrivate = true }).Open(t.Context(), s.URL()+"/f", publicFeed)
	if err != nil {
		t.Fatal(err)
	}
	mustFetch(t, o, want, 0, 10)
}

// A connection that was made under a lenient rule is of no use under a strict one.
func TestH2ConnectionsAreNotShared(t *testing.T) {
	s, want := serve(t)
	c := client(t)
	mustFetch(t, open(t, c, s.URL()+"/f"), want, 0, 10)
	if _, err := c.Open(t.Context(), s.URL()+"/f", publicFeed); !errors.Is(err, ErrRefused) {
		t.Errorf("opened over an idle connection: %v", err)
	}
}

func TestAddressClasses(t *testing.T) {
	for addr, want := range map[string]class{
		"8.8.8.8": public, "2001:4860:4860::8888": public, "::ffff:8.8.8.8": public, "64:ff9b::808:808": public, "2002:808:808::1": public,
		"10.1.2.3": private, "172.16.0.1": private, "192.168.1.1": private, "100.64.0.1": private, "fd00::1": private, "fc00::1": private,
		"224.0.0.1": private, "255.255.255.255": private, "240.0.0.1": private, "ff02::1": private, "198.18.0.1": private, "0.1.2.3": private,
		"::ffff:10.0.0.1": private, "64:ff9b::a00:1": private, "2002:a00:1::": private, "2001::1": private, "fec0::1": private,
		"169.254.169.254": linkLocal, "fe80::1": linkLocal, "64:ff9b::a9fe:a9fe": linkLocal,
		"127.0.0.1": loopback, "127.9.9.9": loopback, "::1": loopback, "0.0.0.0": loopback, "::": loopback, "::ffff:127.0.0.1": loopback, "2002:7f00:1::": loopback,
		"::1%lo": loopback, "fe80::1%lo": linkLocal, "64:ff9b::7f00:1%1": loopback, "2002:7f00:1::%1": loopback, "2001:db8::1%1": private, "64:ff9b:1::1%1": private,
		"::ffff:0:127.0.0.1": loopback, "::ffff:0:10.0.0.1": private, "::ffff:0:169.254.169.254": linkLocal, "::ffff:0:8.8.8.8": public,
		"2a00::5efe:10.0.0.1": private, "2a00::200:5efe:127.0.0.1": loopback, "2a00::5efe:8.8.8.8": public, "fd00::5efe:8.8.8.8": private, "fe80::5efe:8.8.8.8": linkLocal,
	} {
		if got := classOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %v, want %v", addr, got, want)
		}
	}
	reach := map[class]string{public: "1000", private: "1100", linkLocal: "1110", loopback: "1101", anywhere: "1111"}
	for from, want := range reach {
		got := ""
		for to := public; to <= loopback; to++ {
			got += map[bool]string{true: "1", false: "0"}[from.mayReach(to)]
		}
		if got != want {
			t.Errorf("%v reaches %s, want %s", from, got, want)
		}
	}
}

func TestH3RedirectAndRebinding(t *testing.T) {
	s, _ := serve(t)
	c := client(t)
	// The administrator's URL is on the loopback; what it redirects to may not be link-local.
	remove := s.Inject(origin.Fault{Kind: origin.Redirect, Value: "http://169.254.169.254/latest"})
	if _, err := c.Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrRefused) {
		t.Errorf("redirect to the metadata service: %v", err)
	}
	if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", 100); !errors.Is(err, ErrRefused) {
		t.Errorf("redirect of the feed: %v", err)
	}
	remove()
	// A name that was public when the feed came, and now is not.
	u, _ := url.Parse(s.URL())
	rebound := "http://localhost:" + u.Port()
	c.recordClass(rebound, public)
	for _, base := range []string{rebound + "/feed", publicFeed} {
		if _, err := c.Open(t.Context(), rebound+"/f", base); !errors.Is(err, ErrRefused) {
			t.Errorf("rebound name, feed %s: %v", base, err)
		}
	}
	c.recordClass(rebound, loopback) // does not make it less public
	if _, err := c.Open(t.Context(), rebound+"/f", rebound+"/feed"); !errors.Is(err, ErrRefused) {
		t.Errorf("rebound twice: %v", err)
	}
	// The next process has only what was kept with the feed.
	c = client(t)
	c.FeedFrom(rebound+"/feed", "public")
	for range 2 {
		if _, err := c.Open(t.Context(), rebound+"/f", rebound+"/feed"); !errors.Is(err, ErrRefused) {
			t.Errorf("rebound between processes: %v", err)
		}
		c.recordClass(rebound, loopback)
	}
	if n := s.Stats("").Requests; n != 2 {
		t.Errorf("%d requests arrived", n)
	}
	// What the feed at hand came from counts, and no longer what one before did.
	c.FeedFrom(rebound+"/feed", "loopback")
	if _, err := c.Open(t.Context(), rebound+"/f", rebound+"/feed"); err != nil {
		t.Error(err)
	}
}

// TestH3PublicServerInBetween has a feed on the loopback redirected by, or to, a public
// server: what that says then counts as said by a public one.
func TestH3PublicServerInBetween(t *testing.T) {
	s, want := serve(t)
	u, _ := url.Parse(s.URL())
	outside := "http://localhost:" + u.Port()
	for name, c := range map[string]struct {
		second string // where the public server leads; "": nowhere
		from   string
		ok     bool
	}{
		"the document is of a public server": {"", "public", true},
		"it redirects inwards":               {s.URL() + "/g", "", false},
	} {
		c1 := client(t)
		c1.recordClass(outside, public)
		// The connection itself is to the loopback, which a public server could not be reached at.
		feed := s.Inject(origin.Fault{Path: "/feed", Kind: origin.Redirect, Value: outside + "/f"})
		inwards := func() {}
		if c.second != "" {
			inwards = s.Inject(origin.Fault{Path: "/f", Kind: origin.Redirect, Value: c.second})
		}
		s.PutBytes("/g", want)
		d, err := c1.Get(t.Context(), s.URL()+"/feed", "", "", testSize)
		if c.ok && (err != nil || d.From != c.from) || !c.ok && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if _, err := c1.Open(t.Context(), s.URL()+"/feed", ""); (err == nil) != c.ok {
			t.Errorf("%s: open: %v", name, err)
		}
		// Nor is a place of a public server that was led to before asked where its name has
		// moved inwards: the way there is gone again.
		if c.ok {
			r, err := newRoute(s.URL()+"/feed", "")
			if err != nil {
				t.Fatal(err)
			}
			moved, _ := url.Parse(outside + "/f")
			if _, _, _, err := c1.do(t.Context(), false, http.MethodGet, r, moved, http.Header{}); !errors.Is(err, ErrRefused) {
				t.Errorf("%s: the remembered place: %v", name, err)
			}
		}
		// Who allows private addresses has allowed this.
		c2 := client(t, func(o *Options) { o.AllowPrivate = true })
		c2.recordClass(outside, public)
		if _, err := c2.Get(t.Context(), s.URL()+"/feed", "", "", testSize); err != nil {
			t.Errorf("%s, allowed: %v", name, err)
		}
		feed()
		inwards()
	}
}

func TestH4RedirectLoop(t *testing.T) {
	s, _ := serve(t)
	s.Inject(origin.Fault{Kind: origin.Redirect, Value: "/f"})
	c := client(t, func(o *Options) { o.Hard = true })
	if _, err := c.Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if n := s.Stats("").Requests; n != maxHops+1 {
		t.Errorf("%d requests", n)
	}
}

func TestH5Downgrade(t *testing.T) {
	plain, _ := serve(t)
	s := origin.New()
	s.PutBytes("/f", []byte("x"))
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Inject(origin.Fault{Kind: origin.Redirect, Value: plain.URL() + "/f"})
	c := client(t, func(o *Options) { o.CACert = writeFile(t, "ca.pem", string(s.CertPEM())) })
	if _, err := c.Open(t.Context(), s.URL()+"/f", ""); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	// F15: the same for the feed.
	if _, err := c.Get(t.Context(), s.URL()+"/f", "", "", 1000); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if n := plain.Stats("").Requests; n != 0 {
		t.Errorf("%d requests in the clear", n)
	}
}

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
			if got, err := fetch(t, o, 1000, 1000); !errors.Is(err, ErrProtocol) || len(got) > 0 {
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
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
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

func TestH11Validators(t *testing.T) {
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	type version struct {
		etag  string
		time  time.Time
		extra int64 // bytes added
	}
	for _, tt := range []struct {
		name        string
		first, then version
		want        error
	}{
		{"same", version{`"a"`, old, 0}, version{`"a"`, old, 0}, nil},
		{"strong ETag differs", version{`"a"`, old, 0}, version{`"b"`, old, 0}, ErrChanged},
		{"strong ETag same, date moves", version{`"a"`, old, 0}, version{`"a"`, old.Add(time.Minute), 0}, nil},
		{"weak ETag differs, date same", version{`W/"a"`, old, 0}, version{`W/"b"`, old, 0}, nil},
		{"weak ETag same, date moves", version{`W/"a"`, old, 0}, version{`W/"a"`, old.Add(time.Minute), 0}, ErrChanged},
		{"malformed ETag differs", version{`a`, old, 0}, version{`b`, old, 0}, nil},
		{"date only, same", version{``, old, 0}, version{``, old, 0}, nil},
		{"date only, moves", version{``, old, 0}, version{``, old.Add(time.Second), 0}, ErrChanged},
		{"date goes back", version{``, old, 0}, version{``, old.Add(-time.Hour), 0}, ErrChanged},
		{"strong becomes weak", version{`"a"`, old, 0}, version{`W/"a"`, old, 0}, ErrProtocol}, // If-Range fails
		{"strong goes, date moves", version{`"a"`, old, 0}, version{``, old.Add(time.Minute), 0}, ErrChanged},
		{"all go", version{`"a"`, old, 0}, version{``, time.Time{}, 0}, ErrProtocol},
		{"strong comes", version{``, old, 0}, version{`"a"`, old, 0}, nil},
		{"no validator, same size", version{``, time.Time{}, 0}, version{``, time.Time{}, 0}, nil},
		{"no validator, grown", version{``, time.Time{}, 0}, version{``, time.Time{}, 1}, ErrChanged},
		{"date same, grown", version{``, old, 0}, version{``, old, 1}, ErrChanged},
		{"date same, shrunk", version{``, old, 0}, version{``, old, -1}, ErrChanged},
		{"ETag same, grown", version{`"a"`, old, 0}, version{`"a"`, old, 1}, ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := serve(t)
			want := content(testSize + 1)
			put := func(v version) {
				s.Put("/f", bytes.NewReader(want), testSize+v.extra, v.time, v.etag, "")
			}
			c := client(t)
			put(tt.first)
			o := open(t, c, s.URL()+"/f")
			put(tt.then)
			got, err := fetch(t, o, 100, 100)
			if !errors.Is(err, tt.want) || tt.want == nil && !bytes.Equal(got, want[100:200]) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			put(tt.first)
			s.ResetStats()
			_, err = fetch(t, o, 100, 100)
			if sticky := tt.want == ErrChanged; sticky != (err != nil) || sticky && s.Stats("").Requests != 0 {
				t.Errorf("once it is back: %v after %d requests", err, s.Stats("").Requests)
			}
		})
	}
}

func TestH11Flapping(t *testing.T) {
	s, _ := serve(t)
	o := open(t, client(t, func(o *Options) { o.Hard = true }), s.URL()+"/f")
	s.Inject(origin.Fault{Kind: origin.ChangeETag, Skip: 1, Times: 1})
	for i := range 3 {
		_, err := fetch(t, o, 0, 10)
		if want := i > 0; want != errors.Is(err, ErrChanged) {
			t.Errorf("fetch %d: %v", i, err)
		}
	}
}

// If-Range carries only what may stand in it.
func TestH11IfRange(t *testing.T) {
	s, want := serve(t)
	c := client(t)
	old := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	for _, tt := range []struct {
		etag string
		time time.Time
		want string
	}{
		{`"a"`, old, `"a"`},
		{`W/"a"`, old, old.Format(http.TimeFormat)},
		{``, time.Now().Add(time.Minute), ``}, // as young as the answer: not strong
		{`W/"a"`, time.Time{}, ``},
	} {
		s.Put("/f", bytes.NewReader(want), testSize, tt.time, tt.etag, "")
		o := open(t, c, s.URL()+"/f")
		s.ResetStats()
		mustFetch(t, o, want, 0, 10)
		if got := s.Log()[0].Header.Get("If-Range"); got != tt.want {
			t.Errorf("%q %v: If-Range %q, want %q", tt.etag, tt.time, got, tt.want)
		}
	}
}

// An object replaced while a body is being read: what came before stands, nothing of the
// new one follows.
func TestH12ReplacedMidRead(t *testing.T) {
	for _, size := range []int{testSize, testSize - 50_000, testSize + 50_000, 10} {
		s, want := serve(t)
		c := client(t)
		o := open(t, c, s.URL()+"/f")
		s.Inject(origin.Fault{Kind: origin.Truncate, After: 5000, Times: 1})
		r, err := o.Fetch(t.Context(), 100_000, 100_000, source.Demand)
		if err != nil {
			t.Fatal(err)
		}
		s.PutBytes("/f", make([]byte, size))
		got, err := io.ReadAll(r)
		r.Close()
		if !errors.Is(err, ErrChanged) || !bytes.Equal(got, want[100_000:105_000]) {
			t.Errorf("size %d: %d bytes, %v", size, len(got), err)
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
		if took := time.Since(begun); took < 50*time.Millisecond || clock.Elapsed() > 5*time.Second {
			t.Errorf("%s: waited %v", value, took)
		}
	}
	for value, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "1e9": 0, "99999999999": 0, "Mon, 01 Jan 2001 00:00:00 GMT": 0} {
		if got := retryAfter(http.Header{"Retry-After": {value}}); got != want {
			t.Errorf("Retry-After %q: %v", value, got)
		}
	}
}

func TestH13StormIsNotFed(t *testing.T) {
	s, _ := serve(t)
	o := open(t, client(t, func(o *Options) {
		o.Timeo, o.RetryMin, o.RetryMax = time.Second, 10*time.Millisecond, time.Second
	}), s.URL()+"/f")
	s.ResetStats()
	s.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	fetch(t, o, 0, 10)
	if n := s.Stats("").Requests; n < 3 || n > 20 {
		t.Errorf("%d requests in a second of doubling pauses from 10 ms", n)
	}
	if n := s.Stats("").Connections; n > 1 {
		t.Errorf("%d connections for refused requests", n)
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
	c := client(t, func(o *Options) { o.Hard = true; o.CACert = writeFile(t, "ca.pem", string(certPEM)) })
	_, err := c.Open(t.Context(), s.URL+"/f", "")
	if err == nil || !strings.Contains(err.Error(), "expired") || attempts.Load() != 1 {
		t.Errorf("%v after %d attempts", err, attempts.Load())
	}
}

func TestH14SignedURLExpires(t *testing.T) {
	want := content(testSize)
	for _, status := range []int{401, 403, 404, 410, 503} {
		var signature, signed atomic.Int64
		var s http.Server
		address := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/f" {
				signed.Add(1)
				http.Redirect(w, r, fmt.Sprintf("/signed?sig=%d", signature.Load()), http.StatusFound)
				return
			}
			if r.URL.Query().Get("sig") != fmt.Sprint(signature.Load()) {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("ETag", `"x"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
		})
		o := open(t, client(t), address+"/f")
		mustFetch(t, o, want, 0, 10)
		mustFetch(t, o, want, 10, 10)
		if n := signed.Load(); n != 1 {
			t.Errorf("%d redirects followed, want one that is remembered", n)
		}
		signature.Add(1)
		mustFetch(t, o, want, 20, 10)
		if n := signed.Load(); n != 2 {
			t.Errorf("status %d: %d redirects followed after expiry", status, n)
		}
	}
	// Where the renewed URL is no better, the status is the answer.
	var requests atomic.Int64
	var s http.Server
	address := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 2 && r.URL.Path == "/signed" {
			w.Header().Set("ETag", `"x"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
		} else if r.URL.Path == "/f" {
			http.Redirect(w, r, "/signed", http.StatusFound)
		} else {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	o := open(t, client(t), address+"/f")
	_, err := fetch(t, o, 0, 10)
	if status, ok := errors.AsType[*StatusError](err); !ok || status.Code != 403 || requests.Load() != 5 {
		t.Errorf("%v after %d requests", err, requests.Load())
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
		if took := time.Since(begun); took < 100*time.Millisecond || clock.Elapsed() > 5*time.Second {
			t.Errorf("%s: took %v", f.Kind, took)
		}
	}
}

func TestH18NoSecretsInMessages(t *testing.T) {
	s, _ := serve(t)
	var logged bytes.Buffer
	c := client(t, func(o *Options) {
		o.Timeo = 100 * time.Millisecond
		o.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	secret := strings.Replace(s.URL(), "//", "//user-sekret:pw-sekret@", 1) + "/f?sig=sekret&x#sekret"
	var messages []string
	note := func(err error) {
		if err == nil {
			t.Error("no error")
			return
		}
		messages = append(messages, err.Error())
	}
	o := open(t, c, secret)
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
