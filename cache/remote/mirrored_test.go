package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/mirror"
	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

// rack is an origin with testSize bytes at /f, and a mirror that has the same.
type rack struct {
	origin, mirror *origin.Server
	at             string // where the mirror has /f
	content        []byte
	set            *mirror.Set
}

func serveRack(t *testing.T, fragment string) *rack {
	t.Helper()
	r := &rack{mirror: origin.New()}
	r.origin, r.content = serve(t)
	r.at = "/http/" + strings.TrimPrefix(r.origin.URL(), "http://") + "/f"
	r.put(r.content, `"one"`)
	if err := r.mirror.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.mirror.Close() })
	var err error
	if r.set, err = mirror.Parse([]string{r.mirror.URL() + fragment}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rack) put(content []byte, etag string) {
	r.mirror.Put(r.at, bytes.NewReader(content), int64(len(content)), time.Now().Add(-time.Hour), etag, "application/x-tar")
}

// tried fetches for somebody who compares blocks.
func tried(t *testing.T, o *Object, off, n int64) ([]byte, *source.Trial, error) {
	t.Helper()
	ctx, trial := source.WithTrial(t.Context())
	body, err := o.Fetch(ctx, off, n, source.Demand)
	if err != nil {
		return nil, trial, err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	return got, trial, err
}

func TestMirror(t *testing.T) {
	r := serveRack(t, "")
	o := open(t, client(t, func(o *Options) { o.Mirrors = r.set }), r.origin.URL()+"/f")
	before := r.origin.Stats("/f").BytesSent
	got, trial, err := tried(t, o, 1000, 200_000)
	if err != nil || !bytes.Equal(got, r.content[1000:201_000]) {
		t.Fatal("wrong bytes", err)
	}
	if n := r.origin.Stats("/f").BytesSent - before; n != 0 {
		t.Errorf("%d bytes came from the origin", n)
	}
	if st := r.set.Status()[0]; st.Bytes != 200_000 || st.State != "works" {
		t.Errorf("%+v", st)
	}
	if q := r.mirror.Log()[0]; q.Header.Get("Range") != "bytes=1000-200999" || q.Header.Get("If-Range") != `"one"` {
		t.Errorf("the mirror was asked with %v", q.Header)
	}
	if settle := trial.Accuse(); settle == nil {
		t.Error("nobody can be accused")
	} else if o.Mirrored() {
		t.Error("an accused mirror would be asked")
	} else {
		settle(false)
	}
	// What nobody compares comes from the origin.
	if _, err := fetch(t, o, 0, 200_000); err != nil || len(r.mirror.Log()) != 1 {
		t.Errorf("the mirror was asked for what no sum proves: %v", err)
	}
}

// Whatever a mirror does, the bytes are right, and the origin gives what it does not.
func TestH19BadMirror(t *testing.T) {
	const off, n = 20_000, 250_000
	for name, x := range map[string]struct {
		fault origin.Fault
		state string // of the mirror then
	}{
		"drop":        {origin.Fault{Kind: origin.Drop}, "paused"},
		"reset":       {origin.Fault{Kind: origin.Reset, After: 100_000}, "paused"},
		"truncate":    {origin.Fault{Kind: origin.Truncate, After: 100_000}, "paused"},
		"other range": {origin.Fault{Kind: origin.WrongRange}, "paused"},
		"half":        {origin.Fault{Kind: origin.ShortRange}, "paused"},
		"more":        {origin.Fault{Kind: origin.LongRange}, "paused"},
		"total":       {origin.Fault{Kind: origin.WrongTotal}, "paused"},
		"no range":    {origin.Fault{Kind: origin.NoRangeHeader}, "paused"},
		"multipart":   {origin.Fault{Kind: origin.Multipart}, "paused"},
		"gzip":        {origin.Fault{Kind: origin.GzipEncoding}, "paused"},
		"replaced":    {origin.Fault{Kind: origin.ChangeETag, Value: `"two"`}, "works"}, // 200, by If-Range
		"nameless":    {origin.Fault{Kind: origin.NoValidators}, "works"},
		"whole":       {origin.Fault{Kind: origin.IgnoreRange}, "works"},
		"forbidden":   {origin.Fault{Kind: origin.Status, Status: 403}, "works"},
		"gateway":     {origin.Fault{Kind: origin.Status, Status: 504}, "works"},
		"redirect":    {origin.Fault{Kind: origin.Redirect, Value: "http://192.0.2.1/f"}, "works"},
		"bomb":        {origin.Fault{Kind: origin.HeaderBomb}, "paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serveRack(t, "")
			o := open(t, client(t, func(o *Options) { o.Mirrors = r.set }), r.origin.URL()+"/f")
			r.mirror.Inject(x.fault)
			for range 2 {
				if got, _, err := tried(t, o, off, n); err != nil || !bytes.Equal(got, r.content[off:off+n]) {
					t.Fatal("wrong bytes", err)
				}
			}
			if st := r.set.Status()[0]; st.State != x.state || st.LastError == "" {
				t.Errorf("%+v", st)
			}
			if asked := len(r.mirror.Log()); asked > 1 {
				t.Errorf("it was asked %d times", asked)
			}
			if err := o.Check(t.Context()); err != nil || o.Strange() {
				t.Errorf("the mirror has a say in what the object is: %v", err)
			}
		})
	}
}

// A mirror that says nothing costs a fetch two seconds, in the middle of a body or before it.
// The origin answers everything meanwhile.
func TestH20SilentMirror(t *testing.T) {
	for name, kind := range map[string]origin.Kind{"hang": origin.Hang, "stall": origin.Stall, "drip": origin.DripFeed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serveRack(t, "")
			c := client(t, func(o *Options) { o.Mirrors, o.Hard = r.set, true })
			c.mirrorStall = mirrorStallOf(c.options)
			o := open(t, c, r.origin.URL()+"/f")
			r.mirror.Inject(origin.Fault{Kind: kind, After: 70_000, Delay: time.Millisecond})
			begun := time.Now()
			got, _, err := tried(t, o, 0, testSize)
			if took := time.Since(begun); err != nil || !bytes.Equal(got, r.content) || took < 2*time.Second {
				t.Fatalf("after %v: %v", took, err)
			}
			if st := r.set.Status()[0]; st.State != "paused" {
				t.Errorf("%+v", st)
			}
			asked := len(r.mirror.Log())
			if _, _, err := tried(t, o, 0, testSize); err != nil || len(r.mirror.Log()) != asked {
				t.Errorf("it is asked again at once: %v", err)
			}
		})
	}
	t.Run("deaf, for a soft read", func(t *testing.T) { // which waits for less than that
		t.Parallel()
		full, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		r := serveRack(t, "")
		id := open(t, client(t), r.origin.URL()+"/f").Identity()
		// The origin may be slow on a busy machine, but not always.
		testkit.Eventually(t, "a read does not give up for the mirror's sake", time.Minute, func() bool {
			set, err := mirror.Parse([]string{"http://" + full.Addr().String()}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			c := client(t, func(o *Options) { o.Mirrors, o.Timeo = set, 6*time.Second })
			c.mirrorStall = mirrorStallOf(c.options)
			got, _, err := tried(t, c.Resume(r.origin.URL()+"/f", "", id), 0, testSize)
			return err == nil && bytes.Equal(got, r.content)
		})
	})
}

// A caller that leaves says nothing about the mirror.
func TestLeftMirror(t *testing.T) {
	r := serveRack(t, "")
	o := open(t, client(t, func(o *Options) { o.Mirrors = r.set }), r.origin.URL()+"/f")
	r.mirror.Inject(origin.Fault{Kind: origin.Stall, After: 1000})
	ctx, leave := context.WithCancel(t.Context())
	ctx, _ = source.WithTrial(ctx)
	body, err := o.Fetch(ctx, 0, testSize, source.Demand)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	time.AfterFunc(50*time.Millisecond, leave)
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if st := r.set.Status()[0]; st.State != "works" || st.LastError != "" {
		t.Errorf("%+v", st)
	}
}

// While the origin fails, the mirror goes on giving what it has, and a gap in it does not bench
// it.
func TestOriginDown(t *testing.T) {
	r := serveRack(t, "")
	c := client(t, func(o *Options) { o.Mirrors, o.Hard = r.set, true })
	id := open(t, c, r.origin.URL()+"/f").Identity()
	o := c.Resume(r.origin.URL()+"/f", "", id)
	r.origin.Inject(origin.Fault{Kind: origin.Status, Status: 500})
	r.mirror.Inject(origin.Fault{Kind: origin.Status, Status: 502, Times: 2})
	if got, _, err := tried(t, o, 0, testSize); err != nil || !bytes.Equal(got, r.content) {
		t.Fatal(err)
	}
	r.mirror.Inject(origin.Fault{Kind: origin.Truncate, After: 1000, Times: 1})
	if got, _, err := tried(t, o, 0, testSize); err != nil || !bytes.Equal(got, r.content) {
		t.Fatal(err)
	}
}

// Credentials stay with the origin, unless the option says otherwise for the mirror.
func TestH21MirrorCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	netrc := write("netrc", "machine 127.0.0.1 login me password secret\n")
	token, headers := write("token", "secret"), write("headers", "X-Key: secret\n")
	for _, x := range []struct {
		fragment string
		change   func(*Options)
		header   string
	}{
		{"", func(o *Options) { o.Netrc = netrc }, "Authorization"},
		{"", func(o *Options) { o.TokenFile = token }, "Authorization"},
		{"", func(o *Options) { o.HeaderFile = headers }, "X-Key"},
		{"#credentials", func(o *Options) { o.Netrc = netrc }, "Authorization"},
		{"#credentials", func(o *Options) { o.TokenFile = token }, "Authorization"},
		{"#credentials", func(o *Options) { o.HeaderFile = headers }, "X-Key"},
	} {
		r := serveRack(t, x.fragment)
		o := open(t, client(t, x.change, func(o *Options) { o.Mirrors = r.set }), r.origin.URL()+"/f")
		if _, _, err := tried(t, o, 0, 1000); err != nil {
			t.Fatal(err)
		}
		told := func(q http.Header) bool { return q.Get(x.header) != "" }
		if at := r.mirror.Log(); len(at) != 1 || told(at[0].Header) != (x.fragment != "") || !told(r.origin.Log()[0].Header) {
			t.Errorf("%q, %s: the mirror sees %v", x.fragment, x.header, at)
		}
	}
}

// Two mirrors share the objects. Once one is dead, the other has all, and the origin sends no more
// than what was asked when it died.
func TestH20TwoMirrors(t *testing.T) {
	const objects = 16
	r := serveRack(t, "")
	second := origin.New()
	for _, s := range []*origin.Server{r.origin, r.mirror, second} {
		for i := range objects {
			path := fmt.Sprint("/", i)
			if s != r.origin {
				path = strings.TrimSuffix(r.at, "/f") + path
			}
			s.Put(path, bytes.NewReader(r.content), testSize, time.Unix(1e9, 0), `"one"`, "")
		}
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	var err error
	if r.set, err = mirror.Parse([]string{r.mirror.URL(), second.URL()}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	c := client(t, func(o *Options) { o.Mirrors = r.set })
	var list []*Object
	for i := range objects {
		list = append(list, open(t, c, fmt.Sprint(r.origin.URL(), "/", i)))
	}
	all := func() (first, other, origin int) {
		r.origin.ResetStats()
		r.mirror.ResetStats()
		second.ResetStats()
		for _, o := range list {
			if got, _, err := tried(t, o, 0, testSize); err != nil || !bytes.Equal(got, r.content) {
				t.Fatal("wrong bytes", err)
			}
		}
		return len(r.mirror.Log()), len(second.Log()), len(r.origin.Log())
	}
	if a, b, o := all(); a == 0 || b == 0 || a+b != objects || o > 0 {
		t.Errorf("the mirrors were asked %d and %d times, the origin %d times", a, b, o)
	}
	second.Close()
	if a, _, o := all(); a < objects-1 || o > 1 {
		t.Errorf("with one dead, the other was asked %d times, the origin %d times", a, o)
	}
}

// A client certificate is for the feed's server alone.
func TestH21MirrorCertificate(t *testing.T) {
	certPEM, keyPEM, _ := certificate(t, time.Now().Add(time.Hour))
	cert, key := writeFile(t, "cert.pem", string(certPEM)), writeFile(t, "key.pem", string(keyPEM))
	for fragment, most := range map[string]int{"": 0, "#credentials": 1} {
		var shown, asked [2]atomic.Int32
		var servers [2]*httptest.Server
		for i := range servers {
			servers[i] = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked[i].Add(1)
				shown[i].Add(int32(len(r.TLS.PeerCertificates)))
				w.Header().Set("ETag", `"one"`)
				http.ServeContent(w, r, "f", time.Time{}, strings.NewReader("hello"))
			}))
			servers[i].TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
			servers[i].StartTLS()
			t.Cleanup(servers[i].Close)
		}
		ca := writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: servers[0].Certificate().Raw})))
		set, err := mirror.Parse([]string{servers[1].URL + fragment}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		o := open(t, client(t, func(o *Options) { o.CACert, o.Cert, o.Key, o.Mirrors = ca, cert, key, set }), servers[0].URL+"/f")
		if got, _, err := tried(t, o, 1, 3); err != nil || string(got) != "ell" {
			t.Fatal(got, err)
		}
		if asked[1].Load() != 1 || int(shown[1].Load()) != most || shown[0].Load() != 1 {
			t.Errorf("%q: the mirror was asked %d times, and shown %d certificates; the origin %d", fragment, asked[1].Load(), shown[1].Load(), shown[0].Load())
		}
	}
}
