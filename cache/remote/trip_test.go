package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/source"
)

// A stuckTransport waits for ever, for itself and not for its context: before the answer, or
// in the body, or at the end of the body.
type stuckTransport struct {
	answer, read, close bool
	free                chan struct{} // closed: it goes on after all
}

func (s *stuckTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.answer {
		<-s.free
		return nil, errors.New("freed")
	}
	header := http.Header{"Etag": {`"one"`}, "Content-Range": {"bytes 0-999/1000"}}
	return &http.Response{StatusCode: http.StatusPartialContent, Header: header, ContentLength: 1000, Body: stuckBody{s}, Request: r}, nil
}

type stuckBody struct{ *stuckTransport }

func (s stuckBody) Read(p []byte) (int, error) {
	if s.read {
		<-s.free
	}
	return 0, io.ErrUnexpectedEOF
}

func (s stuckBody) Close() error {
	if s.close {
		<-s.free
	}
	return nil
}

// TestStuckTransport has a transport that never returns hold neither a fetch beyond its
// deadline, nor the requests after it, which get another transport.
func TestStuckTransport(t *testing.T) {
	want := content(1000)
	for name, stuck := range map[string]*stuckTransport{
		"before the answer": {answer: true},
		"in the body":       {read: true},
		"in Close":          {close: true},
	} {
		for _, hard := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stuck := *stuck
					stuck.free = make(chan struct{})
					var made atomic.Int32
					c := client(t, func(o *Options) {
						o.Hard, o.Timeo, o.StallTimeout, o.RetryMin, o.RetryMax = hard, 20*time.Second, 10*time.Second, 0, 0
					})
					c.newTransport = func(path) http.RoundTripper {
						if made.Add(1) == 1 {
							return &stuck
						}
						return &failUntil{content: want}
					}
					o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: 1000, Ranged: true})
					// A reader whose own deadline is earlier.
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					begun := time.Now()
					r, err := o.Fetch(ctx, 0, 1000, source.Demand)
					if err == nil {
						_, err = io.ReadAll(r)
						r.Close()
					}
					cancel()
					if took := time.Since(begun); stuck.read && (!errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second) {
						t.Errorf("ended after %v: %v", took, err)
					}
					// One that waits: it is served once the transport is known to be stuck.
					begun = time.Now()
					r, err = o.Fetch(t.Context(), 0, 1000, source.Demand)
					var got []byte
					if err == nil {
						got, err = io.ReadAll(r)
						r.Close()
					}
					if took := time.Since(begun); err != nil || !bytes.Equal(got, want) || took > 20*time.Second {
						t.Errorf("%d bytes after %v: %v", len(got), took, err)
					}
					c.Close()
					time.Sleep(2 * stuckTime)
					if !stuck.close && c.stuck.Load() == 0 {
						t.Error("no request counts as stuck")
					}
					close(stuck.free)
					synctest.Wait()
					if n := c.stuck.Load(); n != 0 {
						t.Errorf("%d requests count as stuck after the transport has returned", n)
					}
				})
			})
		}
	}
}

// TestStuckTransportsAreBounded counts what transports that never return may hold.
func TestStuckTransportsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := &stuckTransport{answer: true, free: make(chan struct{})}
		c := client(t, func(o *Options) { o.Hard, o.StallTimeout, o.MaxConns = true, 10*time.Second, 100 })
		c.newTransport = func(path) http.RoundTripper { return stuck }
		o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: 1000, Ranged: true})
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
		defer cancel()
		if _, err := o.Fetch(ctx, 0, 1000, source.Demand); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := c.stuck.Load(); n < maxStuck || n > maxStuck+2 { // two may be between their end and being counted
			t.Errorf("%d requests are stuck", n)
		}
		close(stuck.free)
		synctest.Wait()
	})
}
