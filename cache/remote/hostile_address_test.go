package remote

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
)

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
