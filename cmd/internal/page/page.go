package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmcastfs/fs/catalog"
)

//go:embed static
var static embed.FS

//go:embed page.html picture.svg picture.html
var texts embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago":     func(now, t time.Time) string { return Ago(now.Sub(t)) + " ago" },
	"percent": percent,
}).ParseFS(texts, "*.html", "*.svg"))

const (
	maxViewers = 16
	// share is how much of the time goes into making parts of the page at most: one part
	// in so many. Sending them, and the garbage, cost about as much again.
	share = 100
	tick  = time.Second // between looks while somebody watches
	// writeTime is how long somebody may take for one answer.
	writeTime = 20 * time.Second
	maxQuery  = 2048 // bytes of one value
)

// parts are the parts of the page that change, by their identifiers in it, which are
// the names of their templates.
var parts = []string{"top", "hero", "images", "releases", "cache", "servers", "machines", "events"}

// pages answers for one mount.
//
// mu guards what follows it, and is held while a part is made: one at a time.
type pages struct {
	source  Source
	viewers chan struct{}

	mu    sync.Mutex
	last  *catalog.Status
	until time.Time // when last is too old
}

// Handler serves the page of a mount.
func Handler(s Source) http.Handler {
	p := &pages{source: s, viewers: make(chan struct{}, maxViewers)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	mux.HandleFunc("GET /live", p.live)
	mux.Handle("GET /static/{file}", http.FileServerFS(static))
	return mux
}

// Guard lets next answer what this machine asks, and says to browsers what the page
// may do. address is the one that is listened at; "": a socket, which has no names.
// A name in Host that is not this machine's own is that of a stranger's page, which
// has had its name lead here.
func Guard(next http.Handler, address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if address != "" && !ownHost(r.Host) {
			http.Error(w, "this is for this machine alone, by the address http://"+address+"/", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
		next.ServeHTTP(w, r)
	})
}

// ownHost tells whether a Host is a name of the loopback address. Whatever its port:
// it may be that of a tunnel.
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func queryOf(v url.Values) query {
	clip := func(s string) string { return s[:min(len(s), maxQuery)] }
	q := query{image: clip(v.Get("image")), find: clip(v.Get("find"))}
	q.page, _ = strconv.Atoi(v.Get("page"))
	return q
}

// make looks at the mount and has fn make something of it. It returns how long that
// took.
func (p *pages) make(q query, fn func(v *view) error) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begun := time.Now()
	if p.last == nil || begun.After(p.until) {
		st := p.source.Status()
		took := time.Since(begun)
		p.last, p.until = &st, begun.Add(min(tick-tick/10, share*took))
	}
	err := fn(newView(&p.source, p.last, q, time.Now()))
	return time.Since(begun), err
}

func (p *pages) page(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if _, err := p.make(queryOf(r.URL.Query()), func(v *view) error { return templates.ExecuteTemplate(&b, "page.html", v) }); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
}

// live sends the parts of the page that have changed, as server-sent events, until
// the browser is gone.
func (p *pages) live(w http.ResponseWriter, r *http.Request) {
	select {
	case p.viewers <- struct{}{}:
		defer func() { <-p.viewers }()
	default:
		http.Error(w, "too many are watching", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	q := queryOf(r.URL.Query())
	sent := map[string]string{}
	for {
		var b bytes.Buffer
		took, err := p.make(q, func(v *view) error { return changes(&b, v, p.last, sent) })
		_ = out.SetWriteDeadline(time.Now().Add(writeTime))
		if err == nil {
			_, err = w.Write(b.Bytes())
		}
		if err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(max(tick, share*took*time.Duration(len(p.viewers)))):
		}
	}
}

// changes writes the parts that are not as they were sent, and what has been fetched
// so far.
func changes(b *bytes.Buffer, v *view, st *catalog.Status, sent map[string]string) error {
	event := func(name string, value any) error {
		raw, err := json.Marshal(value)
		fmt.Fprintf(b, "event: %s\ndata: %s\n\n", name, raw)
		return err
	}
	for _, id := range parts {
		var part bytes.Buffer
		if err := templates.ExecuteTemplate(&part, id, v); err != nil {
			return err
		}
		if html := part.String(); sent[id] != html {
			sent[id] = html
			if err := event("part", map[string]string{"id": id, "html": html}); err != nil {
				return err
			}
		}
	}
	rates := map[string]int64{"ms": v.Now.UnixMilli()}
	for _, o := range st.Origins {
		rates["demand"] += o.Bytes.Demand
		rates["ahead"] += o.Bytes.ReadAhead
		rates["rest"] += o.Bytes.Background
	}
	rates["served"] = st.Reads.ServedBytes
	return event("rates", rates)
}
