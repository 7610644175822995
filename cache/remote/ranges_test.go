package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

// TestH8ShortAnswers has a server send at most so much at once. What begins where asked is
// taken, once, and the rest asked for.
func TestH8ShortAnswers(t *testing.T) {
	want := content(testSize)
	for _, most := range []int64{1, 1000, 64 << 10, headSize - 1} {
		var requests, sent atomic.Int64
		var s http.Server
		url := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
			var first, last int64
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
			last = min(last, first+most-1, testSize-1)
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, testSize))
			w.WriteHeader(http.StatusPartialContent)
			n, _ := w.Write(want[first : last+1])
			requests.Add(1)
			sent.Add(int64(n))
		})
		o := open(t, client(t, func(o *Options) { o.StallTimeout = time.Minute }), url) // requests are counted
		if n := int64(len(o.Head())); n != most || !bytes.Equal(o.Head(), want[:n]) {
			t.Errorf("at most %d: a head of %d bytes", most, n)
		}
		n := min(500*most, testSize-10)
		requests.Store(0)
		sent.Store(0)
		mustFetch(t, o, want, 10, n)
		if got := requests.Load(); got != (n+most-1)/most {
			t.Errorf("at most %d: %d requests for %d bytes", most, got, n)
		}
		if got := sent.Load(); got != n {
			t.Errorf("at most %d: %d bytes were sent for %d", most, got, n)
		}
	}
}

// TestH8SizeNotTold has a server answer ranges without the size of the object. It is known
// from before, or asked for, or the answer is of no use.
func TestH8SizeNotTold(t *testing.T) {
	want := content(testSize)
	for name, c := range map[string]struct{ suffix, head, empty, fails bool }{
		"by the last byte":     {suffix: true},
		"by HEAD":              {head: true},
		"HEAD says 0":          {head: true, empty: true, fails: true},
		"both":                 {suffix: true, head: true},
		"in no way":            {fails: true},
		"last byte, HEAD lies": {suffix: true, head: true, empty: true},
	} {
		t.Run(name, func(t *testing.T) {
			var s http.Server
			url := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"one"`)
				if r.Method == http.MethodHead {
					switch {
					case !c.head:
						w.WriteHeader(http.StatusMethodNotAllowed)
					case c.empty:
						w.Header().Set("Content-Length", "0")
					default:
						w.Header().Set("Content-Length", fmt.Sprint(testSize))
					}
					return
				}
				first, last := int64(0), int64(0)
				if r.Header.Get("Range") == "bytes=-1" {
					if !c.suffix {
						http.Error(w, "no suffix here", http.StatusRequestedRangeNotSatisfiable)
						return
					}
					first, last = testSize-1, testSize-1
				} else {
					fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
				}
				last = min(last, testSize-1)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", first, last))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(want[first : last+1])
			})
			o, err := client(t).Open(t.Context(), url, "")
			if c.fails {
				if !errors.Is(err, ErrProtocol) {
					t.Error(err)
				}
			} else if err != nil {
				t.Error(err)
			} else {
				if o.Identity().Size != testSize {
					t.Errorf("size %d", o.Identity().Size)
				}
				mustFetch(t, o, want, testSize-1000, 1000)
			}
			mustFetch(t, client(t).Resume(url, "", Identity{ETag: `"one"`, Size: testSize, Ranged: true}), want, 100, 1000)
		})
	}
}

// TestH7RangesLost has a server lose its ranges while a hard fetch goes on. That waits if it
// is for a moment, and else ends with ErrNoRanges. The object can still be had as one stream.
func TestH7RangesLost(t *testing.T) {
	want := content(testSize)
	for _, status := range []int{200, 400, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var lost, ranges atomic.Bool
			var s http.Server
			url := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"one"`)
				if r.Header.Get("Range") != "" && lost.Load() {
					ranges.Store(true)
					if status != 200 {
						http.Error(w, "no ranges here", status)
						return
					}
					r.Header.Del("Range")
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
			})
			o := open(t, client(t, func(o *Options) { o.Hard = true }), url)
			lost.Store(true)
			got := make(chan error, 1)
			go func() { got <- compare(t, o, want, 1000, 1000) }()
			testkit.Eventually(t, "a range is asked for", time.Minute, ranges.Load)
			lost.Store(false)
			if err := <-got; err != nil {
				t.Errorf("a moment without ranges: %v", err)
			}
			lost.Store(true)
			if err := compare(t, o, want, 1000, 1000); !errors.Is(err, ErrNoRanges) {
				t.Error(err)
			}
			body, err := Rangeless(o).Fetch(t.Context(), 0, unknown, source.Demand)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if all, err := io.ReadAll(body); err != nil || !bytes.Equal(all, want) {
				t.Errorf("%d bytes, %v", len(all), err)
			}
		})
	}
}

// compare fetches n bytes from off.
func compare(t *testing.T, o *Object, want []byte, off, n int64) error {
	got, err := fetch(t, o, off, n)
	if err == nil && !bytes.Equal(got, want[off:off+n]) {
		err = errors.New("wrong bytes")
	}
	return err
}

// TestH7RangeIsRefused has a server refuse requests with a Range header that it answers without.
func TestH7RangeIsRefused(t *testing.T) {
	s, want := serve(t)
	for _, status := range []int{400, 403, 405, 406, 416, 501} {
		var bad http.Server
		url := listen(t, &bad, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				http.Error(w, "no ranges here", status)
				return
			}
			w.Header().Set("ETag", `"one"`)
			w.Write(want)
		})
		o := open(t, client(t), url)
		if o.Identity().Ranged || !bytes.Equal(o.Head(), want[:headSize]) {
			t.Errorf("status %d: %+v", status, o.Identity())
		}
		mustFetch(t, o, want, 1000, 1000)
		if err := o.Check(t.Context()); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
		// One that refuses both is answered with its own words.
		well := s.Inject(origin.Fault{Kind: origin.Status, Status: status})
		_, err := client(t).Open(t.Context(), s.URL()+"/f", "")
		well()
		if refused, ok := errors.AsType[*StatusError](err); !ok || refused.Code != status {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// TestH17EveryBodyBreaks has no body come to its end, that of the first look included. What
// came is taken.
func TestH17EveryBodyBreaks(t *testing.T) {
	t.Parallel()
	for _, kind := range []origin.Kind{origin.Truncate, origin.Reset, origin.Stall} {
		for _, after := range []int64{1000, 70_000} {
			t.Run(fmt.Sprint(kind, after), func(t *testing.T) {
				t.Parallel()
				s, want := serve(t)
				s.Inject(origin.Fault{Kind: kind, After: after})
				o := open(t, client(t, func(o *Options) { o.Timeo, o.StallTimeout = time.Minute, 300*time.Millisecond }), s.URL()+"/f")
				if head := o.Head(); len(head) == 0 || !bytes.HasPrefix(want, head) {
					t.Errorf("a head of %d bytes", len(head))
				}
				mustFetch(t, o, want, 10, 3*after)
			})
		}
	}
}
