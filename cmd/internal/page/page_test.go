package page

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"vmcastfs/cache"
	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// boot is a boot of which each number can be told: 4 s long, 0.9 s of waiting, of
// an image of a GiB.
func boot() catalog.Boot {
	const bs = 64 << 10
	t := &trace.Trace{
		Begun: began, Size: 1 << 30, Block: bs, Verify: "block", From: []string{"debian-12.4/root.img"},
		Reads: []trace.Read{
			{At: 0, Took: 500_000, Off: 0, Len: 4096, How: trace.Miss},
			{At: 100_000, Took: 500_000, Off: 1 << 20, Len: 4096, How: trace.Miss}, // at the same time
			{At: 1_000_000, Took: 300_000, Off: 2 << 20, Len: 4096, How: trace.Ahead},
			{At: 2_000_000, Took: 20, Off: 3 << 20, Len: 4096, How: trace.Ahead},
			{At: 4_000_000, Took: 100, Off: 512 << 20, Len: 4096},
			{At: 90_000_000, Took: 100, Off: 512 << 20, Len: 4096}, // the machine is up for long
		},
		Arrivals: []trace.Arrival{
			{At: 100, Until: 500_000, Block: 0, N: 9, Why: trace.Asked},
			{At: 100, Until: 900_000, Block: 16, N: 61, Why: trace.Profile},
			{At: 100, Until: 900_000, Block: 800, N: 30, Why: trace.Along, From: 1},
			{At: 80_000_000, Until: 90_000_000, Block: 1000, N: 5000, Why: trace.Rest},
		},
		Elsewhere: []trace.Arrival{{Block: 800, N: 30, From: 1}},
	}
	b := catalog.Boot{Release: "debian-12.5", File: "root.img", Picture: image.Picture{Checked: true, Boot: t}}
	b.Status = image.Status{Name: "root.img", Size: 1 << 30, State: "partial", Verify: "block", CachedBytes: 100 * bs, Percent: 0.6, Image: true}
	for i := range 16 {
		p := cache.Piece{Column: store.Column{Blocks: 1024}}
		switch i {
		case 0:
			p.Here = 100
		case 1:
			p.Here, p.Coming = 1024, 1
		case 2:
			p.Here, p.Zero = 1024, 1024
		}
		b.Pieces = append(b.Pieces, p)
	}
	return b
}

func TestSentence(t *testing.T) {
	t.Parallel()
	b := boot()
	want := "This boot waited 0.9 s of 4.0 s. 6.3 MiB of 1.0 GiB were fetched: 61 % by the profile, 30 % came from debian-12.4, 9 % were asked for. Every block was checked before it was served."
	if got := Sentence(b.Picture, began.Add(time.Hour)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b.Status.Open = true
	if got := Sentence(b.Picture, began.Add(5*time.Second)); !strings.HasPrefix(got, "This boot has waited so far 0.9 s of 4.0 s.") {
		t.Errorf("while it boots: %s", got)
	}
	for _, c := range []struct{ state, verify, want string }{
		{"corrupt", "block", "does not match its sums"}, {"verified", "whole", "has matched its sums since"}, {"unverified", "whole", "nothing to check"},
		{"partial", "whole", "is checked once all of it is here"}, {"partial", "strict", "before the first block"}, {"partial", "kept", "Every block was checked"},
	} {
		b.Status.State, b.Boot.Verify = c.state, c.verify
		if got := Sentence(b.Picture, began); !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: %s", c.state, c.verify, got)
		}
	}
	b.Boot = nil
	if got := Sentence(b.Picture, began); !strings.Contains(got, "No boot") {
		t.Error(got)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	b := boot()
	class := func() (list []string) {
		for _, p := range newBar(b.Picture).Paths {
			list = append(list, p.Class+" "+p.D)
		}
		return list
	}
	want := []string{"verified1 M0 26h1v4h-1z", "verified3 M1 10h1v20h-1z", "coming M1 10h1v20h-1z"}
	if got := class(); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	b.Pieces[0].Elsewhere = 80
	want[0] = "elsewhere1 M0 26h1v4h-1z"
	if got := class(); !slices.Contains(got, want[0]) {
		t.Errorf("mostly from elsewhere: %q", got)
	}
	b.Checked = false
	if got := class(); !slices.Contains(got, "fetched3 M1 10h1v20h-1z") {
		t.Errorf("not checked: %q", got)
	}
	b.Status.State = "corrupt"
	if got := class(); !slices.Contains(got, "corrupt3 M0 10h16v20h-16z") {
		t.Errorf("corrupt: %q", got)
	}
	if bar := newBar(image.Picture{}); bar.N != 1 || len(bar.Paths) != 0 {
		t.Errorf("nothing here: %+v", bar)
	}
}

// site is a mount that there is not.
func site(st catalog.Status, b catalog.Boot) Source {
	return Source{
		Dir: "/srv/vmcast", Version: "test", Status: func() catalog.Status { return st },
		Picture: func(_, _ string, n int, _ bool) (catalog.Boot, bool) {
			x := b
			if n < len(x.Pieces) {
				x.Pieces = x.Pieces[:n]
			}
			return x, true
		},
		Pinned: func() map[store.Key]int64 { return map[store.Key]int64{"a": 1 << 30} },
		Machines: func() []Machine {
			return []Machine{{Feed: st.Feed.URL, Name: "web1", Release: "debian-12.5"}, {Feed: "another", Name: "hidden"}}
		},
		Events: func() []Event { return []Event{{At: began, Kind: "bad", Text: "something is corrupt"}} },
	}
}

func get(t testing.TB, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// TestL10Page: whatever strangers write into a feed, a package or an answer stays text,
// in the page, in its events and in pictures.
func TestL10Page(t *testing.T) {
	t.Parallel()
	evil := "<script>alert(1)</script>\"'`&{{.}}]]>--><img src=x onerror=alert(2)>\x1b[31m\u202e\x00javascript:alert(3)"
	b := boot()
	b.Release, b.File, b.Status.Name = evil, evil, evil
	b.Boot.From[0] = evil + "/x"
	b.Status.Note, b.Status.LastError, b.Status.Refused = evil, evil, ""
	st := catalog.Status{
		Feed: catalog.FeedStatus{URL: evil, Title: evil, LastError: evil, Stale: true},
		Releases: []catalog.ReleaseStatus{{
			Name: evil, Title: evil, State: "refused", Error: evil, Warnings: []string{evil}, Files: []image.Status{b.Status},
			Trust: &xvm.Verdict{Manifest: xvm.Signature{State: "good", Signer: evil}},
		}, {Name: evil + "2", State: evil, Alarm: evil, Trust: &xvm.Verdict{By: "sidecar"}, Sidecar: &xvm.Signature{Signer: evil}}},
		Origins: []remote.OriginStats{{Origin: evil, LastError: evil, Failing: true}, {Origin: "http://mirror.example:80"}},
		Mirrors: []mirror.Status{{URL: "http://mirror.example", State: evil, Lies: 1, LastLie: evil}, {URL: evil, State: "banned"}},
		Cache:   store.Stats{Dir: evil, Bytes: 1 << 40, Limit: 1, Refusing: true, FullWhy: evil},
	}
	s := site(st, b)
	s.Dir, s.Version = evil, evil
	s.Machines = func() []Machine { return []Machine{{Feed: evil, Name: evil, Release: evil, Engine: evil, Disk: evil}} }
	s.Events = func() []Event { return []Event{{Kind: "bad", Text: evil}} }
	page := get(t, Handler(s), "/?image="+"%3Cscript%3E&find=%22%3E%3Cscript%3E").Body.String()
	page2 := get(t, Handler(s), "/").Body.String()
	var svg, file, events bytes.Buffer
	v := newView(&s, &st, query{}, began)
	if err := changes(&events, v, &st, map[string]string{}); err != nil {
		t.Fatal(err)
	}
	if err := WriteSVG(&svg, b, began); err != nil {
		t.Fatal(err)
	}
	if err := WriteHTML(&file, b, began); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the page": page, "the page again": page2, "the picture": svg.String(), "the picture as a page": file.String()} {
		if !strings.Contains(text, "alert") {
			t.Errorf("%s does not show the names", name)
		}
		safe(t, name, text)
	}
	for line := range strings.Lines(events.String()) {
		if strings.HasPrefix(line, "data: ") && strings.Contains(line, "<") {
			t.Errorf("an event is not JSON that a browser takes for text: %.80s", line)
		}
	}
	d := xml.NewDecoder(&svg)
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
}

// safe looks at what a browser makes of a text.
func safe(t *testing.T, name, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\x00\u202e") {
		t.Errorf("%s has control characters", name)
	}
	z := html.NewTokenizer(strings.NewReader(text))
	for z.Next() != html.ErrorToken {
		tag := z.Token()
		if tag.Type != html.StartTagToken && tag.Type != html.SelfClosingTagToken {
			continue
		}
		for _, a := range tag.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || tag.Data == "img" || (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("%s has <%s %s=%q>", name, tag.Data, a.Key, a.Val)
			}
		}
		if tag.Data == "script" && !slices.ContainsFunc(tag.Attr, func(a html.Attribute) bool { return a.Key == "src" && strings.HasPrefix(a.Val, "/static/") }) {
			t.Errorf("%s has a script of its own", name)
		}
	}
}

// large is a mount of 10 000 releases, with an image of a TiB of which every other
// piece is here.
func large() (catalog.Status, catalog.Boot) {
	b := boot()
	b.Status.Size, b.Boot.Size = 1<<40, 1<<40
	b.Pieces = nil
	for i := range wideBar {
		b.Pieces = append(b.Pieces, cache.Piece{Column: store.Column{Blocks: 34952, Here: int64(i%3) * 17000}, Coming: int64(i % 2)})
	}
	b.Boot.Reads, b.Boot.Arrivals = nil, nil
	for i := range int64(trace.MaxReads) {
		b.Boot.Reads = append(b.Boot.Reads, trace.Read{At: uint32(i * 1000), Took: uint32(i % 3 * 50_000), Off: i * 7919 % (1 << 24) << 16, Len: 65536, How: trace.How(i % 3)})
	}
	for i := range uint32(trace.MaxArrivals) {
		b.Boot.Arrivals = append(b.Boot.Arrivals, trace.Arrival{At: i * 3000, Until: i*3000 + 2000, Block: i * 2003 % (1 << 24), N: 8, Why: trace.Along})
	}
	st := catalog.Status{Feed: catalog.FeedStatus{URL: "https://example.org/vmcast.xml", Title: "many"}}
	for i := range 10_000 {
		f := b.Status
		f.Open = i == 0
		st.Releases = append(st.Releases, catalog.ReleaseStatus{
			Name: fmt.Sprintf("debian-%d", 10_000-i), Title: "Debian, a release with a title of the usual length", State: "indexed", Published: &began,
			Files: []image.Status{f, {Name: "data.img", Size: 1 << 30, State: "verified", CachedBytes: 1 << 20, Image: true}},
		})
	}
	return st, b
}

// TestLarge: the page of a large mount is small, with all that it loads.
func TestLarge(t *testing.T) {
	t.Parallel()
	st, b := large()
	h := Handler(site(st, b))
	sum := 0
	for _, path := range []string{"/", "/static/picture.css", "/static/page.css", "/static/page.js", "/static/uPlot.iife.min.js", "/static/uPlot.min.css", "/static/icon.svg"} {
		w := get(t, h, path)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d", path, w.Code)
		}
		t.Logf("%s: %d bytes", path, w.Body.Len())
		sum += w.Body.Len()
	}
	if sum > 150_000 {
		t.Errorf("the page is %d bytes", sum)
	}
	if page := get(t, h, "/?page=3&find=debian-1").Body.String(); !strings.Contains(page, "page 3 of ") || !strings.Contains(page, `rel="next"`) || !strings.Contains(page, `rel="prev"`) {
		t.Error("releases cannot be paged through")
	}
	for _, path := range []string{"/?page=99999999999999999999", "/?page=-1", "/?find=nothing+has+this"} {
		if w := get(t, h, path); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func BenchmarkLarge(b *testing.B) {
	st, boot := large()
	h := Handler(site(st, boot))
	for b.Loop() {
		get(b, h, "/")
	}
}

// TestL11Guard: only the names of this machine are answered, and the page may load
// nothing from elsewhere.
func TestL11Guard(t *testing.T) {
	t.Parallel()
	st, b := large()
	inner := Handler(site(st, b))
	h := Guard(inner, "127.0.0.1:9100")
	for host, code := range map[string]int{
		"127.0.0.1:9100": 200, "localhost:9100": 200, "[::1]:9100": 200, "127.0.0.2:9100": 200,
		"evil.example:9100": 421, "127.0.0.1:80": 200, "localhost": 200, "[::1]": 200, "": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:9100": 421, "10.0.0.1:9100": 421,
	} {
		r := httptest.NewRequest("GET", "/static/icon.svg", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != code {
			t.Errorf("Host %q: %d", host, w.Code)
		}
		if csp := w.Header().Get("Content-Security-Policy"); code == 200 && (!strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe")) {
			t.Errorf("the policy is %q", csp)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		w := httptest.NewRecorder()
		Guard(inner, "").ServeHTTP(w, httptest.NewRequest(method, "http://any/", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	for _, path := range []string{"/nothing", "/static/", "/static/no", "/static/..%2fpage.html", "/static/%2e%2e%2fpage.go", "/static/page.css%00", `/static/..\page.html`} {
		if w := get(t, inner, path); w.Code != http.StatusNotFound {
			t.Errorf("%s, which there is not: %d", path, w.Code)
		}
	}
}

// TestL12Check: what a mount tells may be anybody's.
func TestL12Check(t *testing.T) {
	t.Parallel()
	b := boot()
	if err := Check(&b); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*catalog.Boot){
		"more is here than there is": func(b *catalog.Boot) { b.Pieces[0].Here = 2000 },
		"an empty piece":             func(b *catalog.Boot) { b.Pieces[0].Blocks = 0 },
		"too many pieces":            func(b *catalog.Boot) { b.Pieces = make([]cache.Piece, 5000) },
		"a hostile trace":            func(b *catalog.Boot) { b.Boot.Reads[0].Off = -1 },
	} {
		b := boot()
		spoil(&b)
		if Check(&b) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
