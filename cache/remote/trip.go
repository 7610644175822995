package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// tripBuffers is how many pieces of a body are read ahead of its reader.
	tripBuffers = 2
	// tripBuffer is the size of such a piece, in bytes.
	tripBuffer = 64 << 10
	// stuckTime is how long a transport may take to return after its request has ended.
	stuckTime = 5 * time.Second
	// maxStuck is how many requests of a client may be held by transports that never return.
	maxStuck = 64
)

var errStuck = errors.New("too many requests are stuck in the transport")

// A trip is one request and the body of its answer, on a goroutine of its own. Its caller
// returns when the context of the request ends, whatever the transport does: a transport
// that waits for a lock of its own for ever holds that goroutine, and nobody else.
//
// It is the body of the answer that it returns, and is for one goroutine at a time.
type trip struct {
	ctx    context.Context
	cancel context.CancelFunc
	pool   *sync.Pool // of *[tripBuffer]byte
	stuck  func(ended <-chan struct{})
	free   chan *[tripBuffer]byte // for the transport to fill
	full   chan piece
	ended  chan struct{} // closed when the transport has returned for the last time

	piece piece // at hand
	off   int   // up to where it has been read
	begun bool
	left  bool
}

// A piece is part of a body, and the error that ended it, if one did.
type piece struct {
	buf *[tripBuffer]byte
	n   int
	err error
}

// roundTrip is rt.RoundTrip, but returns when the context of the request ends, as do Read
// and Close of the body. Buffers come from pool. If rt does not return within stuckTime of
// the end, stuck is called with a channel that is closed once it does.
func roundTrip(rt http.RoundTripper, req *http.Request, pool *sync.Pool, stuck func(<-chan struct{})) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	t := &trip{
		ctx: ctx, cancel: cancel, pool: pool, stuck: stuck, ended: make(chan struct{}),
		free: make(chan *[tripBuffer]byte, tripBuffers), full: make(chan piece, tripBuffers),
	}
	type answer struct {
		resp *http.Response
		err  error
	}
	answers := make(chan answer, 1) // so that the goroutine never waits for a caller who has left
	go func() {
		defer close(t.ended)
		resp, err := rt.RoundTrip(req.WithContext(ctx))
		if err != nil {
			answers <- answer{nil, err}
			return
		}
		body := resp.Body
		defer body.Close()
		resp.Body = t
		answers <- answer{resp, nil}
		t.fill(body)
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			t.Close()
		}
		return a.resp, a.err
	case <-ctx.Done():
		t.Close()
		return nil, context.Cause(ctx)
	}
}

// fill reads the body, at most tripBuffers pieces ahead, once its reader has begun.
func (t *trip) fill(body io.Reader) {
	for {
		select {
		case buf := <-t.free:
			n, err := body.Read(buf[:])
			t.full <- piece{buf, n, err}
			if err != nil {
				return
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// Read implements io.Reader.
func (t *trip) Read(p []byte) (int, error) {
	if !t.begun {
		t.begun = true
		for range tripBuffers {
			t.free <- t.pool.Get().(*[tripBuffer]byte)
		}
	}
	for t.off == t.piece.n {
		if t.piece.err != nil {
			return 0, t.piece.err
		}
		select {
		case t.piece = <-t.full:
			t.off = 0
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
	n := copy(p, t.piece.buf[t.off:t.piece.n])
	if t.off += n; t.off < t.piece.n {
		return n, nil
	}
	if t.piece.err == nil {
		t.free <- t.piece.buf
		t.piece, t.off = piece{}, 0
	}
	return n, t.piece.err
}

// Close ends the trip. It does not wait for the transport.
func (t *trip) Close() error {
	if t.left {
		return nil
	}
	t.begun, t.left = true, true
	t.cancel()
	select {
	case <-t.ended:
		t.recycle()
	default:
		time.AfterFunc(stuckTime, func() {
			select {
			case <-t.ended:
			default:
				t.stuck(t.ended)
			}
		})
	}
	t.piece = piece{err: errors.New("read of a closed body")}
	t.off = 0
	return nil
}

// recycle gives the buffers back; nobody else has them.
func (t *trip) recycle() {
	if t.piece.buf != nil {
		t.pool.Put(t.piece.buf)
	}
	for {
		select {
		case buf := <-t.free:
			t.pool.Put(buf)
		case p := <-t.full:
			t.pool.Put(p.buf)
		default:
			return
		}
	}
}
