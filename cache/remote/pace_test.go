package remote

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/source"
)

// limited is a transport whose server allows so many requests a second.
type limited struct {
	failUntil
	allow   func(now time.Time) bool
	status  int
	header  http.Header
	latency time.Duration

	mu            sync.Mutex
	good, refused int
}

func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(l.latency / 2)
	l.mu.Lock()
	ok := l.allow(time.Now())
	if ok {
		l.good++
	} else {
		l.refused++
	}
	l.mu.Unlock()
	time.Sleep(l.latency / 2)
	if !ok {
		return &http.Response{StatusCode: l.status, Header: l.header, Body: http.NoBody, Request: r}, nil
	}
	return l.failUntil.RoundTrip(r)
}

// The ways in which servers limit, to ten requests a second.
func limits() map[string]func() func(time.Time) bool {
	const rate = 10
	bucket := func(burst float64) func() func(time.Time) bool {
		return func() func(time.Time) bool {
			tokens, last := burst, time.Now()
			return func(now time.Time) bool {
				tokens, last = min(tokens+now.Sub(last).Seconds()*rate, burst), now
				if tokens < 1-1e-6 {
					return false
				}
				tokens--
				return true
			}
		}
	}
	return map[string]func() func(time.Time) bool{
		"no burst":    bucket(1),
		"burst of 3":  bucket(3),
		"burst of 10": bucket(10),
		"each second": func() func(time.Time) bool {
			n, second := 0, time.Now().Unix()
			return func(now time.Time) bool {
				if now.Unix() != second {
					n, second = 0, now.Unix()
				}
				n++
				return n <= rate
			}
		},
		"the last second": func() func(time.Time) bool {
			var last []time.Time
			return func(now time.Time) bool {
				for len(last) > 0 && now.Sub(last[0]) >= time.Second {
					last = last[1:]
				}
				if len(last) >= rate {
					return false
				}
				last = append(last, now)
				return true
			}
		},
	}
}

// TestPace has 65 requests made to a server that allows ten a second: at best that takes
// 6.5 s.
func TestPace(t *testing.T) {
	for name, limit := range limits() {
		for _, status := range []int{429, 503} {
			for _, after := range []string{"", "1"} {
				for _, readers := range []int{8, 65} {
					t.Run(fmt.Sprintf("%s, %d, Retry-After %q, %d readers", name, status, after, readers), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							s := &limited{failUntil: failUntil{content: content(70_000)}, allow: limit(), status: status, header: http.Header{}, latency: 4 * time.Millisecond}
							if after != "" {
								s.header.Set("Retry-After", after)
							}
							c := client(t, func(o *Options) {
								o.Hard, o.Transport, o.RetryMin, o.RetryMax, o.StallTimeout = true, s, 0, 0, 0
							})
							o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: 70_000, Ranged: true})
							begun := time.Now()
							work := make(chan int64, 65)
							for i := range int64(65) {
								work <- i
							}
							close(work)
							var wg sync.WaitGroup
							for range readers {
								wg.Go(func() {
									for i := range work {
										mustFetch(t, o, s.content, i*1000, 1000)
									}
								})
							}
							wg.Wait()
							took := time.Since(begun)
							t.Logf("%d refused, %v", s.refused, took)
							if s.refused > 20 || took > 9*time.Second {
								t.Errorf("%d requests were refused for %d good ones, in %v", s.refused, s.good, took)
							}
						})
					})
				}
			}
		}
	}
}

// TestPaceOfACrowd has 300 requests made to a server that answers two at a time in 40 ms: at
// best that takes 6 s. The gap between requests must not be what is blamed.
func TestPaceOfACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &failUntil{content: content(10_000)}
		var mu sync.Mutex
		busy, refused := 0, 0
		crowd := roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			busy++
			full := busy > 2
			if full {
				refused++
			}
			mu.Unlock()
			if !full {
				time.Sleep(40 * time.Millisecond)
			}
			mu.Lock()
			busy--
			mu.Unlock()
			if full {
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}
			return s.RoundTrip(r)
		})
		c := client(t, func(o *Options) {
			o.Hard, o.Transport, o.RetryMin, o.RetryMax, o.StallTimeout = true, crowd, 0, 0, 0
		})
		o := c.Resume("http://h.example/f", "", Identity{ETag: `"one"`, Size: 10_000, Ranged: true})
		begun := time.Now()
		work := make(chan int, 300)
		for range 300 {
			work <- 0
		}
		close(work)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range work {
					mustFetch(t, o, s.content, 0, 1000)
				}
			})
		}
		wg.Wait()
		took := time.Since(begun)
		t.Logf("%d refused, %v", refused, took)
		if refused > 30 || took > 15*time.Second {
			t.Errorf("%d requests were refused, and it took %v", refused, took)
		}
	})
}

// TestPaceOfABrokenObject has one object answered with 503 for ever, and others well: they
// must not be slowed down for long.
func TestPaceOfABrokenObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &failUntil{content: content(10_000)}
		broken := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/broken" {
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}
			return s.RoundTrip(r)
		})
		c := client(t, func(o *Options) {
			o.Hard, o.Transport, o.RetryMin, o.RetryMax, o.StallTimeout = true, broken, 0, 0, 0
		})
		id := Identity{ETag: `"one"`, Size: 10_000, Ranged: true}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer c.Close()
		for range 4 {
			wg.Go(func() {
				if _, err := c.Resume("http://h.example/broken", "", id).Fetch(t.Context(), 0, 10, source.Demand); !errors.Is(err, errClosed) {
					t.Error(err)
				}
			})
		}
		o := c.Resume("http://h.example/f", "", id)
		time.Sleep(time.Minute)
		begun := time.Now()
		for range 1000 {
			mustFetch(t, o, s.content, 0, 1000)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("1000 requests for another object took %v", took)
		}
	})
}

type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
