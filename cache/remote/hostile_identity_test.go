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
)

func TestH11Validators(t *testing.T) {
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	young := time.Now().Add(time.Hour).Truncate(time.Second) // in the future: no strong validator
	type version struct {
		etag  string
		time  time.Time
		extra int64 // bytes added
	}
	for _, tt := range []struct {
		name        string
		first, then version
		want        error
	}{
		{"same", version{`"a"`, old, 0}, version{`"a"`, old, 0}, nil},
		{"strong ETag differs", version{`"a"`, old, 0}, version{`"b"`, old, 0}, ErrChanged},
		{"strong ETag same, date moves", version{`"a"`, old, 0}, version{`"a"`, old.Add(time.Minute), 0}, nil},
		{"weak ETag differs, date same", version{`W/"a"`, old, 0}, version{`W/"b"`, old, 0}, nil},
		{"weak ETag same, date moves", version{`W/"a"`, old, 0}, version{`W/"a"`, old.Add(time.Minute), 0}, ErrChanged},
		{"malformed ETag differs", version{`a`, old, 0}, version{`b`, old, 0}, nil},
		{"date only, same", version{``, old, 0}, version{``, old, 0}, nil},
		{"date only, moves", version{``, old, 0}, version{``, old.Add(time.Second), 0}, ErrChanged},
		{"date goes back", version{``, old, 0}, version{``, old.Add(-time.Hour), 0}, ErrChanged},
		{"strong becomes weak", version{`"a"`, old, 0}, version{`W/"a"`, old, 0}, nil}, // If-Range fails, but with the date
		{"strong goes, date same", version{`"a"`, old, 0}, version{``, old, 0}, nil},
		{"strong becomes weak, date moves", version{`"a"`, old, 0}, version{`W/"a"`, old.Add(time.Minute), 0}, ErrChanged},
		{"strong goes, grown", version{`"a"`, old, 0}, version{``, old, 1}, ErrChanged},
		{"strong goes, date too young", version{`"a"`, young, 0}, version{``, young, 0}, ErrProtocol},
		{"strong goes, date moves", version{`"a"`, old, 0}, version{``, old.Add(time.Minute), 0}, ErrChanged},
		{"all go", version{`"a"`, old, 0}, version{``, time.Time{}, 0}, ErrProtocol},
		{"strong comes", version{``, old, 0}, version{`"a"`, old, 0}, nil},
		{"no validator, same size", version{``, time.Time{}, 0}, version{``, time.Time{}, 0}, nil},
		{"no validator, grown", version{``, time.Time{}, 0}, version{``, time.Time{}, 1}, ErrChanged},
		{"date same, grown", version{``, old, 0}, version{``, old, 1}, ErrChanged},
		{"date same, shrunk", version{``, old, 0}, version{``, old, -1}, ErrChanged},
		{"ETag same, grown", version{`"a"`, old, 0}, version{`"a"`, old, 1}, ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := serve(t)
			want := content(testSize + 1)
			put := func(v version) {
				s.Put("/f", bytes.NewReader(want), testSize+v.extra, v.time, v.etag, "")
			}
			c := client(t)
			put(tt.first)
			o := open(t, c, s.URL()+"/f")
			put(tt.then)
			got, err := fetch(t, o, 100, 100)
			if !errors.Is(err, tt.want) || tt.want == nil && !bytes.Equal(got, want[100:200]) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			put(tt.first)
			s.ResetStats()
			_, err = fetch(t, o, 100, 100)
			if sticky := tt.want == ErrChanged; sticky != (err != nil) || sticky && s.Stats("").Requests != 0 {
				t.Errorf("once it is back: %v after %d requests", err, s.Stats("").Requests)
			}
		})
	}
}

func TestH11Flapping(t *testing.T) {
	s, _ := serve(t)
	o := open(t, client(t, func(o *Options) { o.Hard = true }), s.URL()+"/f")
	s.Inject(origin.Fault{Kind: origin.ChangeETag, Skip: 1, Times: 1})
	for i := range 3 {
		_, err := fetch(t, o, 0, 10)
		if want := i > 0; want != errors.Is(err, ErrChanged) {
			t.Errorf("fetch %d: %v", i, err)
		}
	}
}

// If-Range carries only what may stand in it.
func TestH11IfRange(t *testing.T) {
	s, want := serve(t)
	c := client(t)
	old := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	for _, tt := range []struct {
		etag string
		time time.Time
		want string
	}{
		{`"a"`, old, `"a"`},
		{`W/"a"`, old, old.Format(http.TimeFormat)},
		{``, time.Now().Add(time.Minute), ``}, // as young as the answer: not strong
		{`W/"a"`, time.Time{}, ``},
	} {
		s.Put("/f", bytes.NewReader(want), testSize, tt.time, tt.etag, "")
		o := open(t, c, s.URL()+"/f")
		s.ResetStats()
		mustFetch(t, o, want, 0, 10)
		if got := s.Log()[0].Header.Get("If-Range"); got != tt.want {
			t.Errorf("%q %v: If-Range %q, want %q", tt.etag, tt.time, got, tt.want)
		}
	}
}

// An object replaced while a body is being read: what came before stands, nothing of the
// new one follows.
func TestH12ReplacedMidRead(t *testing.T) {
	for _, size := range []int{testSize, testSize - 50_000, testSize + 50_000, 10} {
		s, want := serve(t)
		c := client(t)
		o := open(t, c, s.URL()+"/f")
		s.Inject(origin.Fault{Kind: origin.Truncate, After: 5000, Times: 1})
		r, err := o.Fetch(t.Context(), 100_000, 100_000, source.Demand)
		if err != nil {
			t.Fatal(err)
		}
		s.PutBytes("/f", make([]byte, size))
		got, err := io.ReadAll(r)
		r.Close()
		if !errors.Is(err, ErrChanged) || !bytes.Equal(got, want[100_000:105_000]) {
			t.Errorf("size %d: %d bytes, %v", size, len(got), err)
		}
	}
}

func TestH14SignedURLExpires(t *testing.T) {
	want := content(testSize)
	for _, status := range []int{401, 403, 404, 410, 503} {
		var signature, signed atomic.Int64
		var s http.Server
		address := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/f" {
				signed.Add(1)
				http.Redirect(w, r, fmt.Sprintf("/signed?sig=%d", signature.Load()), http.StatusFound)
				return
			}
			if r.URL.Query().Get("sig") != fmt.Sprint(signature.Load()) {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("ETag", `"x"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
		})
		o := open(t, client(t), address+"/f")
		mustFetch(t, o, want, 0, 10)
		mustFetch(t, o, want, 10, 10)
		if n := signed.Load(); n != 1 {
			t.Errorf("%d redirects followed, want one that is remembered", n)
		}
		signature.Add(1)
		mustFetch(t, o, want, 20, 10)
		if n := signed.Load(); n != 2 {
			t.Errorf("status %d: %d redirects followed after expiry", status, n)
		}
	}
	// Where the renewed URL is no better, the status is the answer.
	var requests atomic.Int64
	var s http.Server
	address := listen(t, &s, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 2 && r.URL.Path == "/signed" {
			w.Header().Set("ETag", `"x"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
		} else if r.URL.Path == "/f" {
			http.Redirect(w, r, "/signed", http.StatusFound)
		} else {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	o := open(t, client(t), address+"/f")
	_, err := fetch(t, o, 0, 10)
	if status, ok := errors.AsType[*StatusError](err); !ok || status.Code != 403 || requests.Load() != 5 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
}
