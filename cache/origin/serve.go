package origin

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An answer is what will be said to one request.
type answer struct {
	status   int
	header   http.Header
	content  io.ReaderAt
	off, len int64 // of content
	endless  bool
}

// ServeHTTP answers as the started server would, but for connection numbers and latency.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	entry := s.arrive(r, arrived)
	s.mu.Lock()
	f, fault := s.files[r.URL.Path], s.fault(r.URL.Path)
	entry.Fault = fault.Kind
	ready := arrived.Add(s.latency)
	s.changes++
	change := s.changes
	s.mu.Unlock()

	if fault.Kind == Delay {
		ready = ready.Add(fault.Delay)
	}
	if s.alarms.sleepUntil(r.Context(), ready) != nil {
		return
	}
	switch fault.Kind {
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Drop:
		reset(w)
	}
	a := respond(r, f, fault, change)
	if !s.promise(entry, a.status, a.off, a.len) {
		http.Error(w, "forbidden by the test", http.StatusGone)
		return
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	if r.Method == http.MethodHead {
		return
	}
	s.send(w, r, entry, a, fault, ready)
}

// respond decides on the answer to r for f, which is nil if there is no such file.
func respond(r *http.Request, f *file, fault Fault, change int64) *answer {
	switch {
	case fault.Kind == Status:
		a := text(fault.Status)
		if fault.RetryAfter != "" {
			a.header.Set("Retry-After", fault.RetryAfter)
		}
		return a
	case fault.Kind == Redirect:
		a := text(fault.Status)
		if fault.Status == 0 {
			a = text(http.StatusFound)
		}
		a.header.Set("Location", fault.Value)
		return a
	case f == nil:
		return text(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return text(http.StatusMethodNotAllowed)
	}

	header := f.header.Clone()
	validators(header, f, fault, change)
	header.Set("Accept-Ranges", "bytes")
	if notModified(r, header) {
		return &answer{status: http.StatusNotModified, header: header}
	}
	a := &answer{status: http.StatusOK, header: header, content: f.content, len: f.size}
	asked := r.Header.Get("Range")
	if ir := r.Header.Get("If-Range"); ir != "" && !rangeStands(ir, header) {
		asked = ""
	}
	if fault.Kind == IgnoreRange {
		asked = ""
		header.Del("Accept-Ranges")
	}
	if asked != "" {
		off, n, err := parseRange(asked, f.size)
		switch {
		case errors.Is(err, errUnsatisfiable):
			a := text(http.StatusRequestedRangeNotSatisfiable)
			a.header.Set("Content-Range", fmt.Sprintf("bytes */%d", f.size))
			return a
		case err == nil:
			a.status, a.off, a.len = http.StatusPartialContent, off, n
			partial(a, f.size, fault)
		}
	}
	switch fault.Kind {
	case HeaderBomb:
		header.Set("X-Bomb", strings.Repeat("x", 1<<20))
	case GzipEncoding:
		compress(a)
	case Flip:
		a.content = flipped{a.content, fault.At}
	case Endless:
		a.endless = true
		return a
	}
	a.header.Set("Content-Length", strconv.FormatInt(a.len, 10))
	return a
}

// partial labels a partial answer, rightly or as the fault has it.
func partial(a *answer, size int64, fault Fault) {
	label, total := a.off, strconv.FormatInt(size, 10)
	switch fault.Kind {
	case WrongRange, MislabelRange:
		if moved := a.off + a.len; moved+a.len <= size {
			a.off = moved
		} else {
			a.off = max(0, a.off-a.len)
		}
		if fault.Kind == WrongRange {
			label = a.off
		}
	case ShortRange:
		a.len = max(1, a.len/2)
	case LongRange:
		a.len = min(a.len+1000, size-a.off)
	case WrongTotal:
		total = strconv.FormatInt(size+1, 10)
	case StarTotal:
		total = "*"
	case RangeOn200:
		a.status = http.StatusOK
	}
	value := fmt.Sprintf("bytes %d-%d/%s", label, label+a.len-1, total)
	switch fault.Kind {
	case NoRangeHeader:
	case Multipart:
		const boundary = "vmcastfs-boundary"
		var body bytes.Buffer
		fmt.Fprintf(&body, "--%s\r\nContent-Range: %s\r\n\r\n", boundary, value)
		io.Copy(&body, io.NewSectionReader(a.content, a.off, a.len))
		fmt.Fprintf(&body, "\r\n--%s--\r\n", boundary)
		a.header.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
		a.content, a.off, a.len = bytes.NewReader(body.Bytes()), 0, int64(body.Len())
	default:
		a.header.Set("Content-Range", value)
	}
}

var errUnsatisfiable = errors.New("range not satisfiable")

// compress replaces the body by its gzip form.
func compress(a *answer) {
	var body bytes.Buffer
	zw := gzip.NewWriter(&body)
	io.Copy(zw, io.NewSectionReader(a.content, a.off, a.len))
	zw.Close()
	a.header.Set("Content-Encoding", "gzip")
	a.content, a.off, a.len = bytes.NewReader(body.Bytes()), 0, int64(body.Len())
}

func text(status int) *answer {
	body := http.StatusText(status) + "\n"
	return &answer{
		status:  status,
		header:  http.Header{"Content-Type": {"text/plain"}, "Content-Length": {strconv.Itoa(len(body))}},
		content: strings.NewReader(body),
		len:     int64(len(body)),
	}
}

// flipped is content with one bit wrong at offset at.
type flipped struct {
	io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0x10
	}
	return n, err
}

// send puts the body on the link, from ready on.
func (s *Server) send(w http.ResponseWriter, r *http.Request, entry *Request, a *answer, fault Fault, ready time.Time) {
	const unlimited = 256 << 10
	flow := &flow{&s.link, &s.alarms, ready}
	buf := make([]byte, min(unlimited, max(a.len, 1)))
	flush := http.NewResponseController(w).Flush
	for done := int64(0); done < a.len || a.endless && a.len > 0; {
		quantum := s.link.quantum()
		n := int64(len(buf))
		if quantum > 0 {
			n = min(n, quantum)
		}
		n = min(n, a.len-done%a.len)
		switch fault.Kind {
		case Truncate, Reset, Stall, DripFeed:
			if done >= fault.After {
				n = spoil(&s.alarms, w, r, fault)
			} else {
				n = min(n, fault.After-done)
			}
		}
		got, err := a.content.ReadAt(buf[:n], a.off+done%a.len)
		if int64(got) < n {
			panic(fmt.Errorf("origin: content of %s ends early: %w", entry.Path, err))
		}
		if flow.carry(r.Context(), got) != nil {
			panic(http.ErrAbortHandler)
		}
		s.sent(entry, got) // first: whoever has read it all finds it counted
		if wrote, err := w.Write(buf[:n]); err != nil {
			s.sent(entry, wrote-got)
			return
		}
		if quantum > 0 || fault.Kind != "" {
			if flush() != nil {
				return
			}
		}
		done += n
	}
}

// spoil does what the fault does to a body and returns how many bytes go on.
func spoil(alarms *alarms, w http.ResponseWriter, r *http.Request, fault Fault) int64 {
	switch fault.Kind {
	case DripFeed:
		if alarms.sleepUntil(r.Context(), time.Now().Add(fault.Delay)) == nil {
			return 1
		}
	case Stall:
		<-r.Context().Done()
	case Reset:
		reset(w)
	}
	panic(http.ErrAbortHandler)
}

// reset breaks the connection so that the peer gets ECONNRESET, or RST_STREAM in HTTP/2.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if slow, ok := conn.(*slowConn); ok {
			conn = slow.Conn
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}
