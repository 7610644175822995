package fs

import (
	"sync/atomic"
	"time"

	"vmcastfs/cache/meter"
)

// Stats counts what came to this process; reads that the kernel answered from
// its page cache or by passthrough did not.
type Stats struct {
	Reads       uint64        `json:"reads"`
	Bytes       uint64        `json:"bytes"`
	Errors      uint64        `json:"errors"`
	Interrupted uint64        `json:"interrupted"`
	Panics      uint64        `json:"panics"`
	Stalled     int           `json:"stalled"` // requests that have waited for more than 10 s, now
	OpenFiles   int           `json:"open_files"`
	Opens       uint64        `json:"opens"`
	Passthrough uint64        `json:"passthrough_opens"`
	ReadTime    time.Duration `json:"read_time_ns"`
	// Latency[i] is the number of reads that took less than 1<<i µs, and at
	// least half of that; the last one takes whatever was slower.
	Latency [meter.Buckets]int64 `json:"latency_log2_us"`
	// Ops are the other requests, by what the kernel asked for.
	Ops map[string]OpStats `json:"ops"`
}

// OpStats counts the requests of one kind.
type OpStats struct {
	Requests uint64 `json:"requests"`
	Absent   uint64 `json:"absent"` // no such name, no such attribute
	Errors   uint64 `json:"errors"`
}

type stats struct {
	reads, bytes, errors, interrupted atomic.Uint64
	panics, opens, passthrough        atomic.Uint64
	latency                           meter.Counter
	ops                               [opCount]struct{ requests, absent, errors atomic.Uint64 }
}

func (s *stats) read(n int, took time.Duration) {
	s.reads.Add(1)
	s.bytes.Add(uint64(n))
	s.latency.Add(took)
}

func (s *stats) snapshot() Stats {
	took := s.latency.Histogram()
	out := Stats{
		Reads:       s.reads.Load(),
		Bytes:       s.bytes.Load(),
		Errors:      s.errors.Load(),
		Interrupted: s.interrupted.Load(),
		Panics:      s.panics.Load(),
		Opens:       s.opens.Load(),
		Passthrough: s.passthrough.Load(),
		ReadTime:    time.Duration(took.Nanos),
		Latency:     took.Counts,
	}
	out.Ops = make(map[string]OpStats, opCount)
	for i := range s.ops {
		c := &s.ops[i]
		out.Ops[opNames[i]] = OpStats{c.requests.Load(), c.absent.Load(), c.errors.Load()}
	}
	return out
}
