package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"

	"golang.org/x/sys/unix"
)

// TestHalfOpenConnections has the network forget the connections of a client:
// nothing comes on them any more, not even a reset.
func TestHalfOpenConnections(t *testing.T) {
	s, b := serve(t)
	relay := newRelay(t, s)
	c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, 300*time.Millisecond })
	o := open(t, c, relay.url("/f"))
	// Eight connections that will be idle.
	var wg sync.WaitGroup
	s.SetLatency(20 * time.Millisecond)
	for i := range 8 {
		wg.Go(func() { mustFetch(t, o, b, int64(i*1000), 1000) })
	}
	wg.Wait()
	relay.forget()
	mustFetch(t, o, b, 200_000, 1000)
	if n := relay.unheard.Load(); n > 2 {
		t.Errorf("%d dead connections were tried one by one", n)
	}
}

// TestSilentDrop has a path die without a word, and be well for new connections. A read
// must not wait for StallTimeout, which is an hour here.
func TestSilentDrop(t *testing.T) {
	for name, cut := range map[string]func(*relay, *testing.T){
		"forgotten":      func(r *relay, _ *testing.T) { r.forget() },
		"unacknowledged": (*relay).silence,
	} {
		for _, u := range []source.Urgency{source.Demand, source.ReadAhead, source.Background} {
			t.Run(name+" when idle", func(t *testing.T) {
				t.Parallel()
				s, want := serve(t)
				relay := newRelay(t, s)
				c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, time.Hour })
				c.hedge = hedgeTime / 10
				o := open(t, c, relay.url("/f"))
				mustFetch(t, o, want, 0, 1000)
				cut(relay, t)
				begun := time.Now()
				r, err := o.Fetch(t.Context(), 1000, 1000, u)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[1000:2000]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				t.Logf("read after %v", time.Since(begun).Round(time.Millisecond))
			})
		}
	}
	t.Run("unacknowledged in the body", func(t *testing.T) {
		t.Parallel()
		s, want := serve(t)
		relay := newRelay(t, s)
		c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, time.Hour })
		c.hedge = hedgeTime
		o := open(t, c, relay.url("/f"))
		s.Inject(origin.Fault{Kind: origin.Stall, After: 10_000, Times: 1})
		r, err := o.Fetch(t.Context(), 0, 100_000, source.Demand)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make([]byte, 10_000)
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // until all is acknowledged: else it is sent again, and heard
		relay.silence(t)
		begun := time.Now()
		rest, err := io.ReadAll(r)
		if got = append(got, rest...); err != nil || !bytes.Equal(got, want[:100_000]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		t.Logf("read on after %v", time.Since(begun).Round(time.Millisecond))
	})
}

// TestPauseInBody has a server send part of an answer and then nothing, or next to nothing, as
// one does over HTTP/2 whose flow control stalls. The rest is asked for elsewhere; it must not
// wait for StallTimeout, which is two minutes here.
func TestPauseInBody(t *testing.T) {
	for name, fault := range map[string]origin.Fault{
		"after the header":             {Kind: origin.Stall, Times: 1},
		"after the header, many times": {Kind: origin.Stall, Times: maxAsked - 1},
		"no header, many times":        {Kind: origin.Hang, Times: maxAsked - 1},
		"in the body":                  {Kind: origin.Stall, After: 10_000, Times: 1},
		"in the body, many times":      {Kind: origin.Stall, After: 10_000, Times: 4},
		"before the last byte":         {Kind: origin.Stall, After: 99_999, Times: 1},
		"a byte now and then":          {Kind: origin.DripFeed, After: 10_000, Delay: 100 * time.Millisecond, Times: 1},
	} {
		for _, u := range []source.Urgency{source.Demand, source.ReadAhead, source.Background} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s, want := serve(t)
				c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, 2*time.Minute })
				c.hedge = hedgeTime / 10
				o := open(t, c, s.URL()+"/f")
				s.Inject(fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r, err := o.Fetch(ctx, 1000, 100_000, u)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[1000:101_000]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// TestSlowBody has a server that is merely slow: it pauses for longer than the first patience
// in every body. It is asked a few times more, and its bytes come.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s, want := serve(t)
	c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, time.Hour })
	c.hedge = 30 * time.Millisecond
	o := open(t, c, s.URL()+"/f")
	s.Inject(origin.Fault{Kind: origin.DripFeed, Delay: 200 * time.Millisecond})
	for range 10 {
		mustFetch(t, o, want, 1000, 2)
	}
	s.ResetStats()
	mustFetch(t, o, want, 1000, 4)
	if n := len(s.Log()); n > 2 {
		t.Errorf("a slow server was asked %d times", n)
	}
}

// slowTransport answers after a while, or never.
type slowTransport struct {
	failUntil
	after    atomic.Int64 // time.Duration
	requests atomic.Int64
}

func (s *slowTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests.Add(1)
	select {
	case <-time.After(time.Duration(s.after.Load())):
		return s.failUntil.RoundTrip(r)
	case <-r.Context().Done():
		return nil, errors.New("canceled")
	}
}

// TestHedge counts the second requests, and holds that the first answer wins.
func TestHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := content(1000)
		slow := &slowTransport{failUntil: failUntil{content: want}}
		fast := &slowTransport{failUntil: failUntil{content: want}}
		c := client(t, func(o *Options) { o.Hard, o.StallTimeout = true, time.Minute })
		c.hedge = hedgeTime
		first := true
		c.newTransport = func(path) http.RoundTripper {
			if first {
				first = false
				return slow
			}
			return fast
		}
		o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: 1000, Ranged: true})
		for _, step := range []struct {
			slow, fast time.Duration // latencies
			took       time.Duration
			hedged     int64
		}{
			{0, time.Hour, 0, 0},
			{2 * time.Second, time.Hour, 2 * time.Second, 0}, // that is slow, but no reason to ask again
			{4 * time.Second, time.Hour, 4 * time.Second, 1}, // the second request is made and not needed
			{time.Hour, 100 * time.Millisecond, 0, 1},        // it is needed
		} {
			first = true
			p := c.peer(o.route.origin)
			p.renew()
			slow.after.Store(int64(step.slow))
			fast.after.Store(int64(step.fast))
			fast.requests.Store(0)
			begun := time.Now()
			mustFetch(t, o, want, 0, 1000)
			if took := time.Since(begun); step.took > 0 && took != step.took || took > 10*time.Second {
				t.Errorf("%+v: took %v", step, took)
			}
			if n := fast.requests.Load(); n != step.hedged {
				t.Errorf("%+v: asked %d times more", step, n)
			}
		}
		// A server that always takes 5 s is asked twice at first, and once when that is known.
		for range 20 {
			first = true
			c.peer(o.route.origin).renew()
			slow.after.Store(int64(5 * time.Second))
			fast.after.Store(int64(5 * time.Second))
			fast.requests.Store(0)
			mustFetch(t, o, want, 0, 1000)
		}
		if n := fast.requests.Load(); n != 0 {
			t.Error("a slow server is asked for everything twice")
		}
		c.Close()
		synctest.Wait()
	})
}

// relay is a TCP relay that can lose its connections without telling: it reads from them no
// more, or does not even acknowledge.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
	lost     chan struct{}
	unheard  atomic.Int32 // connections on which something came after they were lost
}

func newRelay(t *testing.T, s *origin.Server) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, lost: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.URL()[len("http://"):])
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			lost := r.lost
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					buf := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(buf)
						select {
						case <-lost:
							if n > 0 {
								r.unheard.Add(1)
							}
							return // and leave both open
						default:
						}
						if n > 0 {
							_, err = pair[1].Write(buf[:n])
						}
						if err != nil {
							in.Close()
							out.Close()
							return
						}
					}
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

func (r *relay) url(path string) string { return "http://" + r.listener.Addr().String() + path }

// forget loses all connections there are.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.lost)
	r.lost = make(chan struct{})
}

// silence has no packet of a client arrive any more at the connections there are, so that
// nothing is acknowledged, as when a cable was cut. New ones are as before.
func (r *relay) silence(t *testing.T) {
	t.Helper()
	r.forget()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 0; i < len(r.conns); i += 2 {
		raw, err := r.conns[i].(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		control := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
		})
		if errors.Is(control, net.ErrClosed) {
			continue // of a request that was made twice: its other connection
		}
		if control != nil || err != nil {
			t.Fatal(control, err)
		}
	}
}
