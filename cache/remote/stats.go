package remote

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/source"
)

const (
	// maxOrigins is how many origins are remembered; the one idle for longest goes first.
	maxOrigins = 1024
	// logPause is how long the log does not repeat that an origin fails.
	logPause = time.Minute
)

// OriginStats is what has passed between the client and one origin.
type OriginStats struct {
	Origin   string          `json:"origin"`   // scheme://host:port
	Requests int64           `json:"requests"` // sent, redirects and repetitions included
	Errors   int64           `json:"errors"`   // requests and bodies that failed
	Latency  meter.Histogram `json:"latency"`  // from sending a request to the header of its answer
	// Bytes of bodies received, by urgency. Documents count as demand.
	Bytes struct {
		Demand     int64 `json:"demand"`
		ReadAhead  int64 `json:"readahead"`
		Background int64 `json:"background"`
	} `json:"bytes"`
	Answers   map[int]int64 `json:"answers"`   // by HTTP status
	InFlight  int           `json:"in_flight"` // requests under way
	Waiting   int           `json:"waiting"`   // requests that wait for their turn
	LastError string        `json:"last_error,omitempty"`
	LastTime  time.Time     `json:"last_error_at,omitzero"`
	Failing   bool          `json:"failing"` // nothing has succeeded since LastTime
}

// A peer is the state kept per origin.
type peer struct {
	log   *slog.Logger
	rally rally

	mu         sync.Mutex // guards all below; no other lock is taken under it
	transports map[path]http.RoundTripper
	queue      queue
	stats      OriginStats
	used       time.Time
	latency    time.Duration // the usual one, of the last answers
	since      time.Time     // the first failure in a row; of no meaning unless stats.Failing
	told       bool          // the log says that the origin fails
	spoke      time.Time     // when the log last said something
}

func (p *peer) snapshot() OriginStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Answers = maps.Clone(s.Answers)
	s.InFlight = p.queue.total()
	for _, w := range p.queue.waiting {
		s.Waiting += len(w)
	}
	return s
}

func (p *peer) answered(status int, latency time.Duration) {
	p.mu.Lock()
	p.stats.Requests++
	if p.stats.Answers == nil {
		p.stats.Answers = make(map[int]int64)
	}
	if status >= 100 && status < 600 { // what else a server says is its own invention
		p.stats.Answers[status]++
	}
	p.stats.Latency.Add(latency)
	p.mu.Unlock()
}

// paced has the pace of the origin learn from the answer to a request.
func (p *peer) paced(status int, started time.Time, atOnce int) {
	p.mu.Lock()
	p.queue.pace.answered(status, started, atOnce, time.Now())
	p.admit()
	p.mu.Unlock()
}

func (p *peer) received(n int, u source.Urgency) {
	p.mu.Lock()
	switch u {
	case source.Demand:
		p.stats.Bytes.Demand += int64(n)
	case source.ReadAhead:
		p.stats.Bytes.ReadAhead += int64(n)
	default:
		p.stats.Bytes.Background += int64(n)
	}
	p.mu.Unlock()
}

// failed records an error. The log hears of an origin that begins to fail, but at most once
// in logPause: one that fails and answers in turns would fill it. With quiet the log is told by others.
func (p *peer) failed(err error, quiet bool) {
	if errors.Is(err, context.Canceled) {
		return
	}
	p.mu.Lock()
	now := time.Now()
	if !p.stats.Failing {
		p.since = now
	}
	p.stats.Errors++
	p.stats.LastError, p.stats.LastTime, p.stats.Failing = err.Error(), now, true
	tell := !quiet && !p.told && (p.spoke.IsZero() || now.Sub(p.spoke) >= logPause)
	if tell {
		p.told, p.spoke = true, now
	}
	p.mu.Unlock()
	if tell {
		p.log.Warn("origin fails", "origin", p.stats.Origin, "err", err)
	}
}

// succeeded records a good answer, and not only its header.
func (p *peer) succeeded() {
	p.mu.Lock()
	tell, since := p.told, p.stats.LastTime
	p.stats.Failing = false
	if tell {
		p.told, p.spoke = false, time.Now()
	}
	p.mu.Unlock()
	p.rally.over()
	if tell {
		p.log.Info("origin answers again", "origin", p.stats.Origin, "last_error", since)
	}
}

// FailingSince returns since when the origin of a URL has done nothing but fail, or since
// when fetches of the object at the URL have waited for another answer. It is the zero time
// if both answered well last, or were not asked yet.
func (c *Client) FailingSince(rawURL string) time.Time {
	u, _, err := parseURL(rawURL)
	if err != nil {
		return time.Time{}
	}
	c.mu.Lock()
	p, waiting := c.peers[originOf(u)], c.waiting[rawURL]
	c.mu.Unlock()
	if p == nil {
		return waiting
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stats.Failing {
		return waiting
	}
	return p.since
}

// peer returns the state of the origin named key.
func (c *Client) peer(key string) *peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[key]
	if p == nil {
		if len(c.peers) >= maxOrigins {
			c.forgetOrigin()
		}
		p = &peer{log: c.options.Logger, transports: map[path]http.RoundTripper{}}
		p.queue.pace = pace{most: c.options.MaxConns, window: float64(c.options.MaxConns)}
		p.stats.Origin = key
		c.peers[key] = p
	}
	p.mu.Lock()
	p.used = time.Now()
	p.mu.Unlock()
	return p
}

// forgetOrigin drops the idle origin that was used least recently; the caller holds c.mu.
func (c *Client) forgetOrigin() {
	var oldest string
	var when time.Time
	for key, p := range c.peers {
		p.mu.Lock()
		idle, used := p.queue.total() == 0, p.used
		p.mu.Unlock()
		if idle && (oldest == "" || used.Before(when)) {
			oldest, when = key, used
		}
	}
	if p := c.peers[oldest]; p != nil {
		p.renew()
		delete(c.peers, oldest)
	}
}

// Stats returns what is known of each origin, by name.
func (c *Client) Stats() []OriginStats {
	c.mu.Lock()
	peers := make([]*peer, 0, len(c.peers))
	for _, p := range c.peers {
		peers = append(peers, p)
	}
	c.mu.Unlock()
	list := make([]OriginStats, len(peers))
	for i, p := range peers {
		list[i] = p.snapshot()
	}
	slices.SortFunc(list, func(a, b OriginStats) int { return strings.Compare(a.Origin, b.Origin) })
	return list
}
