package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"vmcastfs/cache/source"
)

const (
	// maxGulp is how much of a body is read at once under a bandwidth limit.
	maxGulp = 32 << 10
	// maxRest is how much of an unwanted body is read to keep its connection, in bytes.
	maxRest = 4 << 10
	// maxRefused is how many refusals of one operation in a row count for the pace of its
	// origin. Further ones are about that operation alone.
	maxRefused = 5
	// restTime is how long that may take.
	restTime = time.Second
)

// An attempt is one request and its answer. It holds a place in the queue of the origin
// until it is closed.
type attempt struct {
	client  *Client
	slot    *peer // where it queues
	peer    *peer // where the answer came from
	urgency source.Urgency
	quiet   bool // others tell the log of failures

	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *watch
	silent *watch // for a stream that would rather ask again, see stream.patience; nil: for none
	resp   *http.Response
	seen   class // see do
	eof    bool
}

// A request says what an attempt asks for.
type request struct {
	method  string // GET or HEAD
	route   *route
	to      *url.URL // that of the route, or one to which it led before
	header  http.Header
	urgency source.Urgency
	refused int         // how often the same was refused for the number of requests
	still   func() bool // asked when its turn has come; nil: it is wanted
}

// errNotNow: a request was not made, as it is not wanted any more.
var errNotNow = errors.New("not wanted any more")

// attempt sends a request, and says where that ended.
func (c *Client) attempt(ctx context.Context, q request) (*attempt, *url.URL, error) {
	a := &attempt{client: c, slot: c.peer(originOf(q.to)), urgency: q.urgency}
	if err := a.slot.enter(ctx, q.urgency); err != nil {
		return nil, q.to, err
	}
	if q.still != nil && !q.still() {
		a.slot.leave(q.urgency)
		return nil, q.to, errNotNow
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.watch = newWatch(a.cancel, c.options.StallTimeout, errStalled)
	if q.route.mirror != nil {
		a.watch = newWatch(a.cancel, c.mirrorStall, errStalled)
		a.watch.least, a.quiet = mirrorProgress, true
	}
	a.watch.start()
	begun, atOnce := time.Now(), a.slot.snapshot().InFlight
	reply := c.ask(a.ctx, a.slot, q)
	resp, final, err := reply.resp, reply.final, reply.err
	a.seen = reply.seen
	a.watch.stop(mirrorProgress)
	a.peer = c.peer(originOf(final))
	if err != nil {
		err = sortError(err)
		a.fail(err)
		a.cancel(nil)
		a.slot.leave(q.urgency)
		return nil, final, err
	}
	if !refuses(resp.StatusCode) || q.refused < maxRefused {
		a.slot.paced(resp.StatusCode, begun, atOnce)
	}
	a.resp = resp
	return a, final, nil
}

// fail counts an error against the origin, unless the caller gave up.
func (a *attempt) fail(err error) {
	cause := context.Cause(a.ctx)
	if cause == nil || cause == errStalled {
		a.peer.failed(err, a.quiet)
	}
	if cause == errStalled || cause == errSilent || errors.Is(err, syscall.ETIMEDOUT) {
		a.peer.renew() // what broke this connection may have broken them all
	}
}

// Read reads the body, watched, counted and within the bandwidth limit.
func (a *attempt) Read(p []byte) (int, error) {
	if a.client.limiter != nil {
		p = p[:min(len(p), maxGulp)]
	}
	a.watch.start()
	a.silent.start()
	n, err := a.resp.Body.Read(p)
	a.silent.stop(n)
	a.watch.stop(n)
	if n > 0 {
		a.peer.received(n, a.urgency)
		a.throttle(n)
	}
	switch {
	case err == io.EOF:
		a.eof = true
	case err != nil && a.ctx.Err() != nil:
		err = context.Cause(a.ctx)
	}
	return n, err
}

// throttle waits until n bytes are within the bandwidth limit, or the attempt ends.
func (a *attempt) throttle(n int) {
	if a.client.limiter == nil {
		return
	}
	pause := a.client.limiter.ReserveN(time.Now(), n).Delay()
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.ctx.Done():
	}
}

// close ends the attempt. done says that the end of the body is near: then it is read, so
// that the connection can be used again.
func (a *attempt) close(done bool) {
	if !a.eof && a.ctx.Err() == nil && (done || a.resp.ContentLength >= 0 && a.resp.ContentLength <= maxRest) {
		a.watch.left = min(restTime, a.client.options.StallTimeout)
		io.CopyN(io.Discard, a, maxRest)
	}
	a.resp.Body.Close()
	a.cancel(nil)
	a.slot.leave(a.urgency)
}

// reject closes the attempt because of err.
func (a *attempt) reject(err error) error {
	if status, ok := errors.AsType[*StatusError](err); ok && !status.Temporary() || errors.Is(err, ErrNoRanges) {
		a.peer.succeeded()
	} else {
		a.fail(err)
	}
	a.close(false)
	return err
}
