package remote

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"vmcastfs/feed/show"
)

const (
	// hedgeTime is how long a request waits for the header of its answer before it is made
	// a second time.
	hedgeTime = 3 * time.Second
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
	n     int // which of the requests
}

// ask is do, but makes the request a second time, on a fresh connection, if the first one
// is not answered soon. The first answer wins. A network that has forgotten an idle
// connection says nothing at all; waiting for it would cost StallTimeout.
func (c *Client) ask(ctx context.Context, p *peer, q request) reply {
	replies := make(chan reply, 2)
	var cancel [2]context.CancelFunc
	sent, ended := 0, 0
	send := func(fresh bool) {
		one, stop := context.WithCancel(ctx) // ends with ctx, which outlives the body
		n := sent
		cancel[n] = stop
		sent++
		go func() {
			resp, final, seen, err := c.do(one, fresh, q.method, q.route, q.to, q.header)
			replies <- reply{resp, final, seen, err, n}
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
	timer := time.NewTimer(p.hedgeAfter(c.hedge))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			c.options.Logger.Debug("no answer yet, asking again", "url", show.ParsedURL(q.to))
			send(true)
		case r := <-replies:
			ended++
			if r.err != nil && ended < sent {
				continue
			}
			abandon(r.n)
			return r
		case <-ctx.Done():
			abandon(-1)
			return reply{final: q.to, err: context.Cause(ctx)}
		}
	}
}

// hedgeAfter is how long a request to the origin waits before it is made again, at least
// least.
func (p *peer) hedgeAfter(least time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(least, hedgeFactor*p.latency)
}
