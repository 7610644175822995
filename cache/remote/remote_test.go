package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

const testSize = 300_000

// content returns size reproducible bytes.
func content(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// serve returns an origin with testSize bytes at /f.
func serve(t *testing.T) (*origin.Server, []byte) {
	t.Helper()
	s, b := origin.New(), content(testSize)
	s.Put("/f", bytes.NewReader(b), testSize, time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, b
}

// client returns a client that waits for a busy machine and asks again soon; change adjusts it.
func client(t *testing.T, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{Timeo: time.Minute, StallTimeout: time.Minute, ConnectTimeout: time.Minute,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, DocumentTimeout: time.Minute, Proxy: "none"}
	for _, f := range change {
		f(&o)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	c.hedge, c.mirrorStall, c.mirrorConnect = time.Minute, time.Minute, time.Minute // on a busy machine they would be a matter of luck
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t *testing.T, c *Client, url string) *Object {
	t.Helper()
	o, err := c.Open(t.Context(), url, "")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func fetch(t *testing.T, o source.Source, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := o.Fetch(t.Context(), off, n, source.Demand)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func mustFetch(t *testing.T, o *Object, want []byte, off, n int64) {
	t.Helper()
	got, err := fetch(t, o, off, n)
	if err != nil {
		t.Fatalf("fetch %d bytes at %d: %v", n, off, err)
	}
	if n < 0 {
		n = int64(len(want)) - off
	}
	if !bytes.Equal(got, want[off:off+n]) {
		t.Fatalf("fetch %d bytes at %d: %d wrong bytes", n, off, len(got))
	}
}

func TestOpenAndFetch(t *testing.T) {
	s, want := serve(t)
	c := client(t)
	o := open(t, c, s.URL()+"/f")
	id := o.Identity()
	if id.ETag != `"one"` || id.Size != testSize || !id.Ranged || !id.DateStrong || id.LastModified == "" || !id.Pinned() {
		t.Errorf("identity %+v", id)
	}
	if !bytes.Equal(o.Head(), want[:headSize]) {
		t.Error("wrong head")
	}
	for _, e := range [][2]int64{{0, 0}, {0, 1}, {0, testSize}, {testSize, 0}, {testSize - 1, 1}, {1, 65536}, {100_000, -1}, {testSize, -1}} {
		mustFetch(t, o, want, e[0], e[1])
	}
	for _, e := range [][2]int64{{-1, 1}, {0, testSize + 1}, {testSize + 1, 0}, {testSize, 1}, {0, -2}, {1 << 62, 1 << 62}} {
		if _, err := fetch(t, o, e[0], e[1]); err == nil {
			t.Errorf("fetched %v", e)
		}
	}
	mustFetch(t, c.Resume(s.URL()+"/f", "", id), want, 1000, 1000)
	if n := s.Stats("").Connections; n != 1 {
		t.Errorf("%d connections, want one kept alive", n)
	}
	for _, r := range s.Log()[1:] {
		if r.Header.Get("If-Range") != `"one"` || r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Accept") != "*/*" {
			t.Errorf("headers %v", r.Header)
		}
	}
}

func TestSmallAndEmptyObjects(t *testing.T) {
	s, _ := serve(t)
	c := client(t)
	for _, size := range []int{0, 1, headSize - 1, headSize, headSize + 1} {
		b := content(size)
		s.PutBytes("/s", b)
		o := open(t, c, s.URL()+"/s")
		if o.Identity().Size != int64(size) || !bytes.Equal(o.Head(), b[:min(size, headSize)]) {
			t.Errorf("size %d: %+v, head of %d", size, o.Identity(), len(o.Head()))
		}
		mustFetch(t, o, b, 0, int64(size))
	}
}

func TestTLS(t *testing.T) {
	s := origin.New()
	want := content(testSize)
	s.PutBytes("/f", want)
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := client(t, func(o *Options) { o.CACert = writeFile(t, "ca.pem", string(s.CertPEM())) })
	o := open(t, c, s.URL()+"/f")
	var wg sync.WaitGroup
	for i := range int64(10) {
		wg.Go(func() { mustFetch(t, o, want, i*1000, 65536) })
	}
	wg.Wait()
	for _, r := range s.Log() {
		if r.Proto != "HTTP/1.1" {
			t.Fatalf("spoke %s", r.Proto)
		}
	}
	if n := s.Stats("").Connections; n < 1 || n > 21 { // one for each request; a request may find another one idle while its own is made
		t.Errorf("%d connections", n)
	}
	if _, err := client(t).Open(t.Context(), s.URL()+"/f", ""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// Broken bodies are resumed where they broke.
func TestResumesBrokenBodies(t *testing.T) {
	for _, kind := range []origin.Kind{origin.Truncate, origin.Reset, origin.Stall, origin.DripFeed} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, want := serve(t)
			c := client(t, func(o *Options) { o.StallTimeout = time.Second })
			o := open(t, c, s.URL()+"/f")
			s.ResetStats()
			s.Inject(origin.Fault{Kind: kind, After: 50_000, Delay: 50 * time.Millisecond, Times: 2})
			mustFetch(t, o, want, 1000, 200_000)
			log := s.Log()
			// A busy machine may break it more often than that, and sooner.
			from := func(a, b origin.Request) int { return cmp.Compare(a.Off, b.Off) }
			if n := len(log); n < 3 || log[n-1].Off < 90_000 || !slices.IsSortedFunc(log, from) {
				t.Errorf("asked %+v", log)
			}
		})
	}
}

func TestRetriesBeforeAnAnswer(t *testing.T) {
	for _, f := range []origin.Fault{{Kind: origin.Hang}, {Kind: origin.Drop}, {Kind: origin.Status, Status: 503},
		{Kind: origin.Status, Status: 500}, {Kind: origin.Status, Status: 429, RetryAfter: "0"}, {Kind: origin.Status, Status: 408}} {
		s, want := serve(t)
		c := client(t, func(o *Options) {
			if f.Kind == origin.Hang {
				o.StallTimeout = 100 * time.Millisecond
			}
		})
		f.Times = 2
		s.Inject(f)
		o := open(t, c, s.URL()+"/f")
		s.Inject(f)
		mustFetch(t, o, want, 5, 50)
		stats := c.Stats()
		if len(stats) != 1 || stats[0].Errors < 3 || stats[0].Failing || stats[0].Bytes.Demand < headSize+50 {
			t.Errorf("%s %d: stats %+v", f.Kind, f.Status, stats)
		}
	}
}

func TestSoftGivesUp(t *testing.T) {
	for _, f := range []origin.Fault{{Kind: origin.Hang}, {Kind: origin.Status, Status: 503}, {Kind: origin.Stall},
		{Kind: origin.Status, Status: 503, RetryAfter: "86400"}} {
		s, _ := serve(t)
		c := client(t, func(o *Options) { o.Timeo = 300 * time.Millisecond })
		o := c.Resume(s.URL()+"/f", "", open(t, client(t), s.URL()+"/f").Identity())
		s.Inject(f)
		begun, clock := time.Now(), testkit.StartClock(t)
		_, err := fetch(t, o, 0, 100)
		if _, ok := errors.AsType[*TemporaryError](err); !ok || time.Since(begun) < 250*time.Millisecond || clock.Elapsed() > time.Minute {
			t.Errorf("%s: %v after %v", f.Kind, err, time.Since(begun))
		}
		if f.Kind == origin.Status && !strings.Contains(err.Error(), "503") {
			t.Errorf("%v does not say why", err)
		}
	}
}

// A hard fetch outlives an outage of the server, and ends with its context.
func TestHardWaits(t *testing.T) {
	s, want := serve(t)
	c := client(t, func(o *Options) { o.Hard, o.Timeo = true, 50*time.Millisecond })
	o := open(t, c, s.URL()+"/f")
	s.Down()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := o.Fetch(ctx, 0, 100, source.Demand); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hard fetch ended with %v", err)
	}
	done := make(chan error)
	go func() {
		got, err := fetch(t, o, 0, 100)
		if err == nil && !bytes.Equal(got, want[:100]) {
			err = errors.New("wrong bytes")
		}
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCancelledWhileReading(t *testing.T) {
	s, _ := serve(t)
	c := client(t, func(o *Options) { o.StallTimeout = time.Minute; o.Hard = true })
	o := open(t, c, s.URL()+"/f")
	s.Inject(origin.Fault{Kind: origin.Stall, After: 10})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := o.Fetch(ctx, 0, 1000, source.Demand)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if b, err := io.ReadAll(r); !errors.Is(err, context.Canceled) || len(b) != 10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	r2, err := o.Fetch(t.Context(), 0, 1000, source.Demand)
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	closed := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, func() { c.Close(); close(closed) })
	if _, err := io.ReadAll(r2); !errors.Is(err, errClosed) {
		t.Errorf("closed client: %v", err)
	}
	<-closed
	if _, err := o.Fetch(t.Context(), 0, 10, source.Demand); !errors.Is(err, errClosed) {
		t.Errorf("fetch from a closed client: %v", err)
	}
}

// A reader that takes its time is no stalled server.
func TestSlowReaderIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &failUntil{content: content(testSize)}
		c := client(t, func(o *Options) { o.Transport, o.Timeo, o.StallTimeout = server, 10*time.Second, 10*time.Second })
		o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true})
		r, err := o.Fetch(t.Context(), 0, testSize, source.Demand)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		first := make([]byte, 1000)
		io.ReadFull(r, first)
		time.Sleep(time.Hour)
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(append(first, rest...), server.content) {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
		if n := len(server.tries); n != 1 {
			t.Errorf("%d requests", n)
		}
		c.Close()
	})
}

func TestNoRanges(t *testing.T) {
	s, want := serve(t)
	s.Inject(origin.Fault{Kind: origin.IgnoreRange})
	c := client(t)
	o := open(t, c, s.URL()+"/f")
	if id := o.Identity(); id.Ranged || id.Size != testSize || id.ETag != `"one"` {
		t.Errorf("identity %+v", id)
	}
	if sent := s.Stats("/f").BytesSent; sent > testSize {
		t.Errorf("open took %d bytes", sent)
	}
	forward := o.OneStream()
	if forward.Start(1<<40) != 0 {
		t.Error("a stream begins at its start")
	}
	s.ResetStats()
	mustFetch(t, o, want, 0, unknown)
	mustFetch(t, o, want, 70_000, 100)
	for _, r := range s.Log() {
		if r.Header.Get("Range") != "" {
			t.Error("asked for a range again")
		}
	}
	s.Put("/f", bytes.NewReader(want), testSize, time.Now(), `"two"`, "")
	if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrChanged) {
		t.Errorf("replaced: %v", err)
	}
}

func TestStreamOfUnknownSize(t *testing.T) {
	want := content(testSize)
	breaks := 1
	s := http.Server{}
	url := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		w.Write(want[:200_000])
		http.NewResponseController(w).Flush()
		if r.Header.Get("Range") == "" && breaks > 0 {
			breaks--
			panic(http.ErrAbortHandler)
		}
		w.Write(want[200_000:])
	})
	o := open(t, client(t), url)
	if id := o.Identity(); id.Size != unknown || id.Ranged {
		t.Errorf("identity %+v", id)
	}
	r, err := o.OneStream().Fetch(t.Context(), 0, unknown, source.Background)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// listen serves handler on a loopback port until the test ends and returns its URL.
func listen(t *testing.T, s *http.Server, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Handler = handler
	s.ErrorLog = log.New(io.Discard, "", 0)
	done := make(chan struct{})
	go func() { s.Serve(l); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
	return "http://" + l.Addr().String()
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
