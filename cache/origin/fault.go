package origin

import (
	"math/rand/v2"
	"path"
	"time"
)

// A Kind is one way of going wrong.
type Kind string

// What goes wrong. "After" and the other fields are those of [Fault].
const (
	Truncate      Kind = "truncate"        // the connection ends cleanly after After bytes of the body
	Reset         Kind = "reset"           // the connection is reset after After bytes of the body
	Stall         Kind = "stall"           // nothing more comes after After bytes of the body
	Hang          Kind = "hang"            // no answer at all; the connection stays open
	Drop          Kind = "drop"            // the connection is reset before any answer
	DripFeed      Kind = "drip-feed"       // one byte every Delay once After bytes have come
	Delay         Kind = "delay"           // the answer is right, Delay later
	IgnoreRange   Kind = "ignore-range"    // 200 and the whole file
	RangeOn200    Kind = "range-on-200"    // the range asked for and its Content-Range, with status 200
	WrongRange    Kind = "wrong-range"     // another range of the same length, honestly labelled
	ShortRange    Kind = "short-range"     // the first half of the range, honestly labelled
	LongRange     Kind = "long-range"      // more bytes than asked for, honestly labelled
	MislabelRange Kind = "mislabel-range"  // the right Content-Range, the bytes of its neighbourhood
	WrongTotal    Kind = "wrong-total"     // the total of Content-Range is one more
	StarTotal     Kind = "star-total"      // the total of Content-Range is "*"
	NoRangeHeader Kind = "no-range-header" // 206 without Content-Range
	Multipart     Kind = "multipart"       // 206 multipart/byteranges
	GzipEncoding  Kind = "gzip-encoding"   // the body is gzip compressed, with Content-Encoding
	ChangeETag    Kind = "change-etag"     // ETag is Value; "" for another one each time
	ChangeModTime Kind = "change-modtime"  // Last-Modified is one day later
	NoValidators  Kind = "no-validators"   // neither ETag nor Last-Modified
	Flip          Kind = "flip"            // one bit of the byte at file offset At is wrong, if it is sent
	Status        Kind = "status"          // status Status, with Retry-After: RetryAfter if that is set
	Redirect      Kind = "redirect"        // Status (302 if 0) to Value
	HeaderBomb    Kind = "header-bomb"     // one MiB of header
	Endless       Kind = "endless"         // a chunked body that repeats for ever
)

// A Fault is what goes wrong with some requests.
type Fault struct {
	Path string // a pattern of [path.Match]; "" is every path
	Kind Kind

	Status     int           // for Status and Redirect
	RetryAfter string        // for Status
	Value      string        // for ChangeETag and Redirect
	At         int64         // for Flip: offset in the file
	After      int64         // for Truncate, Reset, Stall, DripFeed: bytes of the body sent before
	Delay      time.Duration // for Delay and DripFeed

	Skip  int     // leaves the first Skip matching requests alone
	Times int     // how often it happens, 0 for no limit
	Rate  float64 // probability, 0 for always
}

// injected is a fault and what has become of it.
type injected struct {
	Fault
	seen, done int
}

// Inject makes f happen until it has happened f.Times times or remove is called.
func (s *Server) Inject(f Fault) (remove func()) {
	in := &injected{Fault: f}
	s.mu.Lock()
	s.faults = append(s.faults, in)
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, other := range s.faults {
			if other == in {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
				return
			}
		}
	}
}

// Seed restarts the random numbers behind [Fault.Rate].
func (s *Server) Seed(seed uint64) {
	s.mu.Lock()
	s.rand = rand.New(rand.NewPCG(seed, seed))
	s.mu.Unlock()
}

// fault returns what goes wrong with a request for name; the caller holds mu.
func (s *Server) fault(name string) Fault {
	for _, in := range s.faults {
		if in.Path != "" && in.Path != name {
			if ok, err := path.Match(in.Path, name); err != nil || !ok {
				continue
			}
		}
		if in.Times > 0 && in.done >= in.Times {
			continue
		}
		if in.seen++; in.seen <= in.Skip {
			continue
		}
		if in.Rate > 0 && s.rand.Float64() >= in.Rate {
			continue
		}
		in.done++
		return in.Fault
	}
	return Fault{}
}
