package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"vmcastfs/feed/show"

	"golang.org/x/net/http/httpguts"
)

// allocated runs what is fuzzed and returns how many bytes of memory it asked for.
func allocated(run func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	run()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// FuzzAnswer gives answers with any header to all that decides about one.
func FuzzAnswer(f *testing.F) {
	for _, header := range []string{
		"Content-Range: bytes 0-131071/1000000\r\nETag: \"a\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n",
		"Content-Range: bytes */0\r\n",
		"Content-Range: bytes 0-9/10\r\nContent-Range: bytes 0-9/10\r\n",
		"Content-Type: multipart/byteranges; boundary=x\r\n",
		"Content-Encoding: gzip\r\nRetry-After: 86400\r\nETag: W/\"a\"\r\n",
		"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nCache-Control: public, max-age=\"31536000\", max-age=-1\r\n",
		"ETag: \"" + strings.Repeat("x", maxValidator) + "\"\r\n",
		"Content-Range: bytes 9223372036854775806-9223372036854775806/9223372036854775807\r\n",
	} {
		f.Add(206, int64(-1), []byte(header), int64(0), int64(10), int64(1000000))
		f.Add(200, int64(1000000), []byte(header), int64(5), int64(1), int64(-1))
		f.Add(416, int64(0), []byte(header), int64(1)<<62, int64(1)<<62, int64(0))
	}
	f.Fuzz(func(t *testing.T, status int, length int64, header []byte, off, n, size int64) {
		if len(header) > maxHeader || off < 0 || n <= 0 || off > 1<<62 || n > 1<<62 {
			return
		}
		mime, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(header), strings.NewReader("\r\n\r\n")))).ReadMIMEHeader()
		if err != nil {
			return
		}
		resp := &http.Response{StatusCode: status, ContentLength: max(length, -1), Header: http.Header(mime)}
		used := allocated(func() {
			id, want, err := identify(resp, "http://h/")
			if err == nil {
				checkIdentity(t, id, want)
			}
			o := &Object{id: Identity{Size: max(size, unknown), ETag: `"a"`, LastModified: "Sun, 06 Nov 1994 08:49:37 GMT", Ranged: true}}
			if until, err := o.checkRange(resp, off, off+n, pinned); err == nil {
				r, err := parseContentRange(resp.Header.Get("Content-Range"))
				if r.total == unknown {
					r.total = o.id.Size
				}
				if status != http.StatusPartialContent || err != nil || r != (contentRange{off, until - 1, o.id.Size}) || until <= off || until > off+n {
					t.Errorf("taken for bytes %d-%d of %d: %d %v", off, off+n-1, o.id.Size, status, resp.Header)
				}
			} else if _, isStatus := errors.AsType[*StatusError](err); !isStatus && !errors.Is(err, ErrChanged) && !errors.Is(err, ErrProtocol) {
				t.Errorf("error of no kind: %v", err)
			}
			if err := o.checkWhole(resp, pinned); err == nil && (status != http.StatusOK || resp.Header.Get("Content-Range") != "") {
				t.Errorf("taken for the whole object: %d %v", status, resp.Header)
			}
			if d := retryAfter(resp.Header); d < 0 {
				t.Errorf("Retry-After %v", d)
			}
			if d := maxAge(resp.Header); d < 0 || d > maxMaxAge {
				t.Errorf("max-age %v", d)
			}
		})
		if limit := uint64(1<<20 + 64*len(header)); used > limit {
			t.Errorf("a header of %d bytes took %d bytes of memory", len(header), used)
		}
	})
}

// checkIdentity holds an identity to what may be kept, sent back and shown.
func checkIdentity(t *testing.T, id Identity, want int64) {
	t.Helper()
	if id.Size < unknown || want < 0 || want > headSize || id.Size != unknown && want > id.Size {
		t.Errorf("%d bytes wanted of %+v", want, id)
	}
	for _, value := range []string{id.ETag, id.LastModified, id.ifRange()} {
		if len(value) > maxValidator || !httpguts.ValidHeaderFieldValue(value) {
			t.Errorf("validator %.100q cannot be sent back", value)
		}
	}
	raw, err := json.Marshal(id)
	var again Identity
	if err != nil || json.Unmarshal(raw, &again) != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if again.ETag == id.ETag && again != id { // an ETag need not be UTF-8, and JSON is
		t.Errorf("%+v became %+v", id, again)
	}
}

// FuzzURL holds that what is fetched is http or https, that a redirect leads
// nowhere else, and that nothing secret is shown.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://h/a", "HTTPS://user:secret@h:443/a?token=secret#f", "//other/x", "../x", "file:///etc/passwd", "http:a", "http://[::1%25lo]/", "http://a b/", "\x00", "http://h/\x1b[2J\u202e"} {
		f.Add(s, "http://feed.example/vmcast.xml")
		f.Add("https://h/a", s)
	}
	f.Fuzz(func(t *testing.T, raw, location string) {
		if shown := show.URL(raw); strings.ContainsAny(shown, "\x00\x1b\n\r\u202e") || len(shown) > 2048 {
			t.Errorf("%q is shown as %q", raw, shown)
		}
		u, _, err := parseURL(raw)
		if err != nil {
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
			t.Errorf("%q is fetched as %q", raw, u)
		}
		if strings.Contains(show.ParsedURL(u), "@") && !strings.Contains(u.Host+u.EscapedPath(), "@") {
			t.Errorf("%q is shown as %q", raw, show.ParsedURL(u))
		}
		to, err := u.Parse(location)
		if err != nil {
			return
		}
		if checkURL(to) == nil && to.Scheme != "http" && to.Scheme != "https" {
			t.Errorf("redirect from %q to %q", u, to)
		}
		_ = originOf(&url.URL{Scheme: u.Scheme, Host: u.Host})
	})
}

// FuzzDocument decodes any body under any coding.
func FuzzDocument(f *testing.F) {
	f.Add("gzip", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00"))
	f.Add("", []byte("<rss/>"))
	f.Add("br", []byte{0})
	f.Fuzz(func(t *testing.T, coding string, body []byte) {
		const limit = 4 << 10
		c, err := NewClient(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a := &attempt{client: c, peer: c.peer("http://h:80"), ctx: t.Context(), cancel: func(error) {}, watch: newWatch(func(error) {}, c.options.StallTimeout, errStalled)}
		a.resp = &http.Response{Header: http.Header{"Content-Encoding": {coding}}, Body: io.NopCloser(bytes.NewReader(body))}
		used := allocated(func() {
			got, err := readDocument(a, limit)
			if err == nil && len(got) > limit {
				t.Errorf("%d bytes of at most %d", len(got), limit)
			}
		})
		if used > 1<<20 {
			t.Errorf("%d bytes took %d of memory", len(body), used)
		}
	})
}

// FuzzHeaders holds that a header file yields only what may be sent, and nothing that this
// package says itself.
func FuzzHeaders(f *testing.F) {
	for _, text := range []string{"PRIVATE-TOKEN: x\n# y\n\nA: b", "Host: x", "a:b:c", ":", "\xff: x", "Range : x", "A:\tb \r\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHeaders(text)
		if err != nil {
			return
		}
		for name, values := range h {
			if slices.Contains(ownHeaders, http.CanonicalHeaderKey(name)) || !httpguts.ValidHeaderFieldName(name) {
				t.Errorf("header %q is let through", name)
			}
			for _, value := range values {
				if !httpguts.ValidHeaderFieldValue(value) {
					t.Errorf("value %q is let through", value)
				}
			}
		}
	})
}
