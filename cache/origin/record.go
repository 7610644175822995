package origin

import (
	"net/http"
	"time"
)

// maxLog is how many requests the log holds; older ones are forgotten.
const maxLog = 100_000

// Stats counts what was asked and answered since the start or ResetStats.
type Stats struct {
	Requests      int64
	RangeRequests int64 // those with a Range header
	BytesSent     int64 // of bodies
	Connections   int64 // accepted; only in the total over all paths
}

// A Request is one line of the log.
type Request struct {
	Time   time.Time // when it arrived
	Conn   int64     // the number of its connection, from 1
	Proto  string    // "HTTP/1.1", "HTTP/2.0"
	Method string
	Host   string
	Path   string
	Header http.Header // must not be modified
	Off    int64       // first byte of the file in the answer
	Len    int64       // bytes promised in the answer
	Status int         // 0 if none was sent
	Sent   int64       // bytes of the body sent so far
	Fault  Kind        // what went wrong, "" if nothing
}

// Stats returns the counters of one path, or of all together for "".
func (s *Server) Stats(path string) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats[path]
}

// ResetStats sets all counters to zero and empties the log.
func (s *Server) ResetStats() {
	s.mu.Lock()
	s.stats = map[string]Stats{}
	s.log = nil
	s.mu.Unlock()
}

// Log returns the requests since the start or ResetStats in the order in which they
// arrived.
func (s *Server) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := make([]Request, len(s.log))
	for i, r := range s.log {
		log[i] = *r
	}
	return log
}

type forbidden struct {
	path     string
	off, len int64
}

// Forbid declares that len bytes of path from off on must not be asked for any more.
// A request that touches them is answered with status 410 and a [Violation].
func (s *Server) Forbid(path string, off, len int64) {
	s.mu.Lock()
	s.forbids = append(s.forbids, forbidden{path, off, len})
	s.mu.Unlock()
}

// Violations returns the requests that touched what [Server.Forbid] forbids.
func (s *Server) Violations() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.violations...)
}

// AllowAll forgets all that was forbidden, and the violations.
func (s *Server) AllowAll() {
	s.mu.Lock()
	s.forbids, s.violations = nil, nil
	s.mu.Unlock()
}

// arrive counts and logs a new request.
func (s *Server) arrive(r *http.Request, at time.Time) *Request {
	conn, _ := r.Context().Value(connKey{}).(int64)
	entry := &Request{Time: at, Conn: conn, Proto: r.Proto, Method: r.Method, Host: r.Host, Path: r.URL.Path, Header: r.Header.Clone()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(r.URL.Path, func(st *Stats) {
		st.Requests++
		if r.Header.Get("Range") != "" {
			st.RangeRequests++
		}
	})
	if len(s.log) >= maxLog {
		s.log = append([]*Request(nil), s.log[maxLog/2:]...)
	}
	s.log = append(s.log, entry)
	return entry
}

// promise records the status and extent of an answer, unless that is forbidden.
func (s *Server) promise(entry *Request, status int, off, n int64) (allowed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.forbids {
		if f.path == entry.Path && status < 300 && n > 0 && off < f.off+f.len && f.off < off+n {
			entry.Status, entry.Off, entry.Len = http.StatusGone, off, n
			s.violations = append(s.violations, *entry)
			return false
		}
	}
	entry.Status, entry.Off, entry.Len = status, off, n
	return true
}

func (s *Server) sent(entry *Request, n int) {
	s.mu.Lock()
	entry.Sent += int64(n)
	s.count(entry.Path, func(st *Stats) { st.BytesSent += int64(n) })
	s.mu.Unlock()
}

// count applies f to the counters of path and to the total; the caller holds mu.
func (s *Server) count(path string, f func(*Stats)) {
	for _, key := range []string{path, ""} {
		st := s.stats[key]
		f(&st)
		s.stats[key] = st
	}
}
