package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"

	"vmcastfs/cmd/internal/appliance"
)

// relayedWorld is a bareWorld whose network can freeze.
func relayedWorld(t *testing.T) *world {
	w := bareWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.through(l)
	return w
}

// through has the world ask its origin by way of l.
func (w *world) through(l net.Listener) {
	w.relay = newRelay(w.t, l, strings.TrimPrefix(w.origin.URL(), "http://"))
	w.feed = "http://" + l.Addr().String() + appliance.FeedPath
}

// relay passes TCP connections on. While it is frozen nothing comes through;
// connections it has lost stay open and silent for ever.
type relay struct {
	listener net.Listener

	mu     sync.Mutex
	frozen bool
	lost   chan struct{} // closed when the connections there are are lost
	conns  []net.Conn
}

func newRelay(t *testing.T, l net.Listener, to string) *relay {
	r := &relay{listener: l, lost: make(chan struct{})}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, in)
			frozen, lost := r.frozen, r.lost
			r.mu.Unlock()
			if frozen {
				continue
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, out)
			r.mu.Unlock()
			go pass(in, out, lost)
			go pass(out, in, lost)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.conns {
			c.Close()
		}
	})
	return r
}

// pass copies from one connection to the other until they are lost.
func pass(from, to net.Conn, lost chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-lost:
			return
		default:
		}
		if n > 0 {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

// freeze loses all connections, without a word to either end, and those that
// are made until thaw.
func (r *relay) freeze() (thaw func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = true
	close(r.lost)
	r.lost = make(chan struct{})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.frozen = false
	}
}
