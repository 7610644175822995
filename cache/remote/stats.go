package remote

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache"
)

// maxOrigins is how many origins are remembered; the one idle for longest goes first.
const maxOrigins = 1024

// LatencyBounds are the upper bounds of the buckets of a [Histogram], in seconds.
func LatencyBounds() []float64 { return slices.Clone(latencyBounds[:]) }

var latencyBounds = [...]float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}

// A Histogram counts the times from sending a request to the header of its answer.
type Histogram struct {
	Counts [len(latencyBounds) + 1]int64 `json:"counts"` // the last: above all bounds
	Sum    float64                       `json:"sum"`    // seconds
}

func (h *Histogram) add(d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(latencyBounds) && s > latencyBounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += s
}

// OriginStats is what has passed between the client and one origin.
type OriginStats struct {
	Origin   string    `json:"origin"`   // scheme://host:port
	Requests int64     `json:"requests"` // sent, redirects and repetitions included
	Errors   int64     `json:"errors"`   // requests and bodies that failed
	Latency  Histogram `json:"latency"`
	// Bytes of bodies received, by urgency. Documents count as demand.
	Bytes struct {
		Demand     int64 `json:"demand"`
		ReadAhead  int64 `json:"readahead"`
		Background int64 `json:"background"`
	} `json:"bytes"`
	InFlight  int       `json:"inFlight"` // requests under way
	Waiting   int       `json:"waiting"`  // requests waiting for a connection
	LastError string    `json:"lastError,omitempty"`
	LastTime  time.Time `json:"lastErrorTime,omitzero"`
	Failing   bool      `json:"failing"` // nothing has succeeded since LastTime
}

// An origin is the state kept per origin.
type origin struct {
	log *slog.Logger

	mu    sync.Mutex // guards all below; no other lock is taken under it
	queue queue
	stats OriginStats
	used  time.Time
}

func (o *origin) snapshot() OriginStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.stats
	s.InFlight = o.queue.total()
	for _, w := range o.queue.waiting {
		s.Waiting += len(w)
	}
	return s
}

func (o *origin) answered(latency time.Duration) {
	o.mu.Lock()
	o.stats.Requests++
	o.stats.Latency.add(latency)
	o.mu.Unlock()
}

func (o *origin) received(n int, u cache.Urgency) {
	o.mu.Lock()
	switch u {
	case cache.Demand:
		o.stats.Bytes.Demand += int64(n)
	case cache.ReadAhead:
		o.stats.Bytes.ReadAhead += int64(n)
	default:
		o.stats.Bytes.Background += int64(n)
	}
	o.mu.Unlock()
}

// failed notes an error, and logs the first in a row.
func (o *origin) failed(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	o.mu.Lock()
	first := !o.stats.Failing
	o.stats.Errors++
	o.stats.LastError, o.stats.LastTime, o.stats.Failing = err.Error(), time.Now(), true
	o.mu.Unlock()
	if first {
		o.log.Warn("origin fails", "origin", o.stats.Origin, "err", err)
	}
}

// succeeded notes a good answer.
func (o *origin) succeeded() {
	o.mu.Lock()
	again, since := o.stats.Failing, o.stats.LastTime
	o.stats.Failing = false
	o.mu.Unlock()
	if again {
		o.log.Info("origin answers again", "origin", o.stats.Origin, "last_error", since)
	}
}

// origin returns the state of the origin named key.
func (c *Client) origin(key string) *origin {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.origins[key]
	if o == nil {
		if len(c.origins) >= maxOrigins {
			c.forgetOrigin()
		}
		o = &origin{log: c.options.Logger}
		o.queue.limit = c.options.MaxConns
		o.stats.Origin = key
		c.origins[key] = o
	}
	o.mu.Lock()
	o.used = time.Now()
	o.mu.Unlock()
	return o
}

// forgetOrigin drops the idle origin that was used least recently; the caller holds c.mu.
func (c *Client) forgetOrigin() {
	var oldest string
	var when time.Time
	for key, o := range c.origins {
		o.mu.Lock()
		idle, used := o.queue.total() == 0, o.used
		o.mu.Unlock()
		if idle && (oldest == "" || used.Before(when)) {
			oldest, when = key, used
		}
	}
	delete(c.origins, oldest)
}

// Stats returns what is known of each origin, by name.
func (c *Client) Stats() []OriginStats {
	c.mu.Lock()
	origins := make([]*origin, 0, len(c.origins))
	for _, o := range c.origins {
		origins = append(origins, o)
	}
	c.mu.Unlock()
	list := make([]OriginStats, len(origins))
	for i, o := range origins {
		list[i] = o.snapshot()
	}
	slices.SortFunc(list, func(a, b OriginStats) int { return strings.Compare(a.Origin, b.Origin) })
	return list
}
