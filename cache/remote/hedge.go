package remote

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"vmcastfs/feed/show"
)

const (
	// hedgeTime is how long a request waits for the first byte of its answer before it is
	// made again, and then twice as long each time.
	hedgeTime = 3 * time.Second
	// maxAsked is how often it is made in all: after 3, 9 and 21 s.
	maxAsked = 4
	// hedgeFactor is how many usual latencies of the origin it waits at least, so that a
	// server which is slow is not asked for everything twice.
	hedgeFactor = 4
)

// A reply is how a request ended.
type reply struct {
	resp  *http.Response
	final *url.URL
	seen  class // see do
	err   error
	n     int           // which of the requests
	took  time.Duration // until its first byte
}

// ask is do, but makes the request again, on a fresh connection, if the one before is not
// answered soon. The first answer wins. A network that has forgotten an idle connection says
// nothing at all; waiting for it would cost StallTimeout. So would a server that sends a
// header and then nothing: an answer counts once its first byte is here.
func (c *Client) ask(ctx context.Context, p *peer, q request) reply {
	replies := make(chan reply, maxAsked)
	var cancel [maxAsked]context.CancelFunc
	sent, ended := 0, 0
	send := func(fresh bool) {
		one, stop := context.WithCancel(ctx) // ends with ctx, which outlives the body
		n := sent
		cancel[n] = stop
		sent++
		begun := time.Now()
		go func() {
			resp, final, seen, err := c.do(one, fresh, q.method, q.route, q.to, q.header)
			if err == nil && resp.StatusCode/100 == 2 && q.route.mirror == nil {
				awaitBody(resp)
			}
			replies <- reply{resp, final, seen, err, n, time.Since(begun)}
		}()
	}
	abandon := func(but int) {
		for n := range sent {
			if n != but {
				cancel[n]()
			}
		}
		rest := sent - ended
		go func() {
			for range rest {
				if r := <-replies; r.err == nil {
					r.resp.Body.Close()
				}
			}
		}()
	}
	send(false)
	pause := p.hedgeAfter(c.hedge)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			c.options.Logger.Debug("no answer yet, asking again", "url", show.ParsedURL(q.to))
			send(true)
			if pause *= 2; sent < maxAsked {
				timer.Reset(pause)
			}
		case r := <-replies:
			ended++
			if r.err != nil && ended < sent {
				continue
			}
			abandon(r.n)
			if r.err == nil {
				p.mu.Lock()
				p.latency += (r.took - p.latency) / 8
				p.mu.Unlock()
			}
			return r
		case <-ctx.Done():
			abandon(-1)
			return reply{final: q.to, err: context.Cause(ctx)}
		}
	}
}

// awaitBody returns when the first byte of the body is here, or there is none.
func awaitBody(resp *http.Response) {
	first := make([]byte, 1)
	n, _ := resp.Body.Read(first) // a body says an error again
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(first[:n]), resp.Body), resp.Body}
}

// hedgeAfter is how long a request to the origin waits before it is made again, at least
// least.
func (p *peer) hedgeAfter(least time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(least, hedgeFactor*p.latency)
}
