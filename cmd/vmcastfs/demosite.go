package main

import (
	"bytes"
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"vmcastfs/cmd/internal/appliance"
)

// demoSite is the web server of the demonstration. It counts what it sends.
type demoSite struct {
	requests, sent atomic.Int64
	files          map[string][]byte // by path; nothing changes it
}

// newDemoSite serves an appliance.
func newDemoSite(app *appliance.Appliance) *demoSite {
	s := &demoSite{files: map[string][]byte{appliance.FeedPath: app.Feed}}
	maps.Copy(s.files, app.Packages)
	return s
}

// ServeHTTP may be called by many goroutines at once.
func (s *demoSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	content, ok := s.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", strconv.Quote(strconv.Itoa(len(content))))
	http.ServeContent(countingWriter{w, &s.sent}, r, r.URL.Path, time.Time{}, bytes.NewReader(content))
}

// countingWriter adds up the bytes of the bodies that it writes.
type countingWriter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent.Add(int64(n))
	return n, err
}
