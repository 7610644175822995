package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

// start returns a running origin with size random bytes at /f, and those bytes.
func start(t *testing.T, size int) (*Server, []byte) {
	t.Helper()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(content)
	s := New()
	s.PutBytes("/f", content)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, content
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get asks for a range ("" for everything) and returns the answer with its body read.
func get(t *testing.T, c *http.Client, url, ranges string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestRanges(t *testing.T) {
	s, content := start(t, 100_000)
	c := client(t)
	etag := func() string { resp, _, _ := get(t, c, s.URL()+"/f", ""); return resp.Header.Get("ETag") }()
	tests := []struct {
		ranges, ifRange string
		status          int
		off, end        int
		contentRange    string
	}{
		{"", "", 200, 0, 100_000, ""},
		{"bytes=0-0", "", 206, 0, 1, "bytes 0-0/100000"},
		{"bytes=10-19", "", 206, 10, 20, "bytes 10-19/100000"},
		{"bytes=99990-200000", "", 206, 99_990, 100_000, "bytes 99990-99999/100000"},
		{"bytes=99990-", "", 206, 99_990, 100_000, "bytes 99990-99999/100000"},
		{"bytes=-5", "", 206, 99_995, 100_000, "bytes 99995-99999/100000"},
		{"bytes=100000-", "", 416, 0, 0, "bytes */100000"},
		{"bytes=5-4", "", 200, 0, 100_000, ""},
		{"bytes=0-1,4-5", "", 200, 0, 100_000, ""},
		{"items=0-1", "", 200, 0, 100_000, ""},
		{"bytes=0-9", etag, 206, 0, 10, "bytes 0-9/100000"},
		{"bytes=0-9", `"other"`, 200, 0, 100_000, ""},
	}
	for _, tt := range tests {
		resp, body, err := get(t, c, s.URL()+"/f", tt.ranges, "If-Range", tt.ifRange)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || resp.Header.Get("Content-Range") != tt.contentRange {
			t.Errorf("%s: %d %q", tt.ranges, resp.StatusCode, resp.Header.Get("Content-Range"))
		}
		if tt.status < 300 && !bytes.Equal(body, content[tt.off:tt.end]) {
			t.Errorf("%s: wrong bytes", tt.ranges)
		}
	}
	if resp, _, _ := get(t, c, s.URL()+"/f", "", "If-None-Match", etag); resp.StatusCode != 304 {
		t.Errorf("If-None-Match: %d", resp.StatusCode)
	}
	if resp, _, _ := get(t, c, s.URL()+"/absent", ""); resp.StatusCode != 404 {
		t.Errorf("absent: %d", resp.StatusCode)
	}
}

func TestRecords(t *testing.T) {
	s, _ := start(t, 1000)
	c := client(t)
	get(t, c, s.URL()+"/f", "bytes=100-199")
	get(t, c, s.URL()+"/f", "")
	want := Stats{Requests: 2, RangeRequests: 1, BytesSent: 1100}
	if got := s.Stats("/f"); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if got := s.Stats("").Connections; got != 1 {
		t.Errorf("%d connections, want 1 kept alive", got)
	}
	log := s.Log()
	if len(log) != 2 || log[0].Off != 100 || log[0].Len != 100 || log[0].Sent != 100 || log[0].Status != 206 || log[1].Status != 200 {
		t.Errorf("log %+v", log)
	}
	s.ResetStats()
	s.Forbid("/f", 50, 10)
	for _, r := range []struct {
		ranges string
		status int
	}{{"bytes=0-49", 206}, {"bytes=60-", 206}, {"bytes=59-70", 410}, {"bytes=0-50", 410}, {"", 410}} {
		if resp, _, _ := get(t, c, s.URL()+"/f", r.ranges); resp.StatusCode != r.status {
			t.Errorf("%q: %d, want %d", r.ranges, resp.StatusCode, r.status)
		}
	}
	if n := len(s.Violations()); n != 3 {
		t.Errorf("%d violations", n)
	}
	s.AllowAll()
	if resp, _, _ := get(t, c, s.URL()+"/f", ""); resp.StatusCode != 200 {
		t.Error("still forbidden")
	}
}

func TestFaults(t *testing.T) {
	const size = 10_000
	s, content := start(t, size)
	type outcome struct {
		resp *http.Response
		body []byte
		err  error
	}
	tests := []struct {
		fault Fault
		check func(o outcome) bool
	}{
		{Fault{Kind: Truncate, After: 40}, func(o outcome) bool { return errors.Is(o.err, io.ErrUnexpectedEOF) && len(o.body) == 40 }},
		{Fault{Kind: Reset, After: 40}, func(o outcome) bool { return errors.Is(o.err, syscall.ECONNRESET) }},
		{Fault{Kind: Stall, After: 40}, func(o outcome) bool { return errors.Is(o.err, context.DeadlineExceeded) && len(o.body) == 40 }},
		{Fault{Kind: Hang}, func(o outcome) bool { return errors.Is(o.err, context.DeadlineExceeded) && o.resp == nil }},
		{Fault{Kind: Drop}, func(o outcome) bool { return o.err != nil && o.resp == nil }},
		{Fault{Kind: DripFeed, After: 10, Delay: 40 * time.Millisecond}, func(o outcome) bool {
			return errors.Is(o.err, context.DeadlineExceeded) && len(o.body) > 11 && len(o.body) < 30
		}},
		{Fault{Kind: IgnoreRange}, func(o outcome) bool { return o.resp.StatusCode == 200 && bytes.Equal(o.body, content) }},
		{Fault{Kind: RangeOn200}, func(o outcome) bool {
			return o.resp.StatusCode == 200 && o.resp.Header.Get("Content-Range") == "bytes 1000-1099/10000" && len(o.body) == 100
		}},
		{Fault{Kind: WrongRange}, func(o outcome) bool {
			return o.resp.Header.Get("Content-Range") == "bytes 1100-1199/10000" && bytes.Equal(o.body, content[1100:1200])
		}},
		{Fault{Kind: MislabelRange}, func(o outcome) bool {
			return o.resp.Header.Get("Content-Range") == "bytes 1000-1099/10000" && bytes.Equal(o.body, content[1100:1200])
		}},
		{Fault{Kind: ShortRange}, func(o outcome) bool { return o.resp.Header.Get("Content-Range") == "bytes 1000-1049/10000" }},
		{Fault{Kind: LongRange}, func(o outcome) bool { return o.resp.Header.Get("Content-Range") == "bytes 1000-2099/10000" }},
		{Fault{Kind: WrongTotal}, func(o outcome) bool { return o.resp.Header.Get("Content-Range") == "bytes 1000-1099/10001" }},
		{Fault{Kind: StarTotal}, func(o outcome) bool { return o.resp.Header.Get("Content-Range") == "bytes 1000-1099/*" }},
		{Fault{Kind: NoRangeHeader}, func(o outcome) bool {
			return o.resp.StatusCode == 206 && o.resp.Header.Get("Content-Range") == ""
		}},
		{Fault{Kind: Multipart}, func(o outcome) bool { return bytes.Contains(o.body, content[1000:1100]) && o.body[0] == '-' }},
		{Fault{Kind: GzipEncoding}, func(o outcome) bool {
			return o.resp.Header.Get("Content-Encoding") == "gzip" && o.body[0] == 0x1f
		}},
		{Fault{Kind: ChangeETag, Value: `"x"`}, func(o outcome) bool { return o.resp.Header.Get("ETag") == `"x"` }},
		{Fault{Kind: NoValidators}, func(o outcome) bool {
			return o.resp.Header.Get("ETag")+o.resp.Header.Get("Last-Modified") == ""
		}},
		{Fault{Kind: Flip, At: 1050}, func(o outcome) bool {
			return o.body[50] != content[1050] && bytes.Equal(o.body[51:], content[1051:1100])
		}},
		{Fault{Kind: Status, Status: 503, RetryAfter: "7"}, func(o outcome) bool {
			return o.resp.StatusCode == 503 && o.resp.Header.Get("Retry-After") == "7"
		}},
		{Fault{Kind: Redirect, Value: "/g"}, func(o outcome) bool {
			return o.resp.StatusCode == 302 && o.resp.Header.Get("Location") == "/g"
		}},
		{Fault{Kind: HeaderBomb}, func(o outcome) bool { return o.err == nil && len(o.resp.Header.Get("X-Bomb")) == 1<<20 }},
		{Fault{Kind: Endless}, func(o outcome) bool { return o.err != nil && len(o.body) > size }},
	}
	for _, tt := range tests {
		t.Run(string(tt.fault.Kind), func(t *testing.T) {
			c := client(t)
			tt.fault.Times = 1
			limit := time.Minute
			switch tt.fault.Kind {
			case Stall, Hang, DripFeed, Endless: // no answer is the answer, which comes in time unless the machine is busy
				limit = 200 * time.Millisecond
			}
			testkit.Eventually(t, string(tt.fault.Kind), time.Minute, func() bool {
				defer s.Inject(tt.fault)()
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/f", nil)
				req.Header.Set("Range", "bytes=1000-1099")
				req.Header.Set("Accept-Encoding", "identity")
				var o outcome
				if o.resp, o.err = c.Do(req); o.err == nil {
					o.body, o.err = io.ReadAll(o.resp.Body)
					o.resp.Body.Close()
				}
				if tt.check(o) {
					return true
				}
				if limit == time.Minute {
					t.Fatalf("%v, %d bytes, %v", o.resp, len(o.body), o.err)
				}
				return false
			})
			if _, body, err := get(t, c, s.URL()+"/f", "bytes=0-9"); err != nil || !bytes.Equal(body, content[:10]) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestFaultSelection(t *testing.T) {
	s, content := start(t, 100)
	s.PutBytes("/dir/g", content)
	c := client(t)
	statuses := func(path string, n int) (list []int) {
		for range n {
			resp, _, _ := get(t, c, s.URL()+path, "")
			list = append(list, resp.StatusCode)
		}
		return list
	}
	remove := s.Inject(Fault{Path: "/dir/*", Kind: Status, Status: 500, Skip: 1, Times: 2})
	if got := fmt.Sprint(statuses("/f", 2), statuses("/dir/g", 5)); got != "[200 200] [200 500 500 200 200]" {
		t.Error(got)
	}
	remove()
	defer s.Inject(Fault{Kind: Status, Status: 500, Rate: 0.3})()
	run := func() string { s.Seed(5); return fmt.Sprint(statuses("/f", 40)) }
	first := run()
	if first != run() || !bytes.Contains([]byte(first), []byte("500")) || !bytes.Contains([]byte(first), []byte("200")) {
		t.Errorf("the same seed gave %s", first)
	}
}

func TestRestart(t *testing.T) {
	s, content := start(t, 100)
	url := s.URL()
	remove := s.Inject(Fault{Kind: Hang})
	failed := make(chan error)
	c := client(t)
	go func() { _, _, err := get(t, c, url+"/f", ""); failed <- err }()
	for len(s.Log()) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Down()
	if err := <-failed; err == nil {
		t.Error("Close left a hanging request alone")
	}
	remove()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if _, body, err := get(t, c, url+"/f", ""); err != nil || !bytes.Equal(body, content) {
		t.Errorf("after the restart: %v", err)
	}
}

func TestTLSSpeaksHTTP2(t *testing.T) {
	s := New()
	s.PutBytes("/f", []byte("hello"))
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CertPEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, body, err := get(t, &http.Client{Transport: transport}, s.URL()+"/f", "bytes=1-3")
	if err != nil || resp.Proto != "HTTP/2.0" || string(body) != "ell" {
		t.Fatalf("%v %q %v", resp, body, err)
	}
}

// The network model, at the two settings that benchmarks use. Upper bounds are loose,
// because the machine may be busy; nothing may ever be too fast.
func TestNetworkModel(t *testing.T) {
	for _, tt := range []struct {
		name    string
		latency time.Duration
		rate    int64
		bytes   int64
	}{
		{"wan", 30 * time.Millisecond, 12_500_000, 2 << 20},
		{"lan", time.Millisecond, 125_000_000, 16 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			s.Put("/f", zeros{}, 1<<30, time.Time{}, "", "")
			s.SetLatency(tt.latency)
			s.SetBandwidth(tt.rate)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c := client(t)
			fetch := func(off, n int64) {
				resp, body, err := get(t, c, s.URL()+"/f", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
				if err != nil || resp.StatusCode != 206 || int64(len(body)) != n {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			}
			fetch(0, 1)
			timed := func(name string, want time.Duration, f func()) {
				begin := time.Now()
				f()
				took := time.Since(begin)
				t.Logf("%s: %v, the model says %v (%+.1f %%)", name, took, want, 100*float64(took-want)/float64(want))
				if took < want-time.Millisecond/2 || took > want+time.Minute { // how near it comes is for a benchmark to say
					t.Errorf("%s took %v, the model says %v", name, took, want)
				}
			}
			wire := time.Duration(tt.bytes * int64(time.Second) / tt.rate)
			timed("one byte", tt.latency, func() { fetch(5, 1) })
			timed("20 small in a row", 20*(tt.latency+time.Duration(65536*int64(time.Second)/tt.rate)), func() {
				for i := range int64(20) {
					fetch(i*65536, 65536)
				}
			})
			timed("one stream", tt.latency+wire, func() { fetch(0, tt.bytes) })
			timed("eight at once", tt.latency+wire, func() {
				var wg sync.WaitGroup
				for i := range int64(8) {
					wg.Go(func() { fetch(i*tt.bytes, tt.bytes/8) })
				}
				wg.Wait()
			})
		})
	}
}

// A short answer must not wait for a long one that came before it.
func TestLinkIsFair(t *testing.T) {
	s := New()
	s.Put("/f", zeros{}, 1<<30, time.Time{}, "", "")
	s.SetBandwidth(10_000_000)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := client(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	var long atomic.Bool
	wg.Go(func() { get(t, c, s.URL()+"/f", "bytes=0-9999999"); long.Store(true) })
	for s.Stats("").BytesSent == 0 {
		time.Sleep(time.Millisecond)
	}
	get(t, c, s.URL()+"/f", "bytes=0-99999")
	if long.Load() {
		t.Error("100 kB, which take 20 ms of half a link, waited for 10 MB")
	}
}

func TestConnectionLatency(t *testing.T) {
	s, _ := start(t, 10)
	const latency = time.Second
	s.SetConnLatency(latency)
	c := client(t)
	timed := func() time.Duration {
		begin := time.Now()
		get(t, c, s.URL()+"/f", "")
		return time.Since(begin)
	}
	if took := timed(); took < latency {
		t.Errorf("the first request took %v", took)
	}
	testkit.Eventually(t, "a connection is used again", time.Minute, func() bool { return timed() < latency })
}

// zeros is as many zeros as one likes.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// TestKeepPort: nobody listens on a port that is kept, and who knows it can, twice as well.
func TestKeepPort(t *testing.T) {
	address, kept, err := KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	for range 2 {
		if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("somebody answers: %v", err)
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
	}
}
