package cache

import (
	"sync/atomic"
	"time"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// Stats are counters of a cache since it was made. Every field only grows.
type Stats struct {
	Reads        int64 `json:"reads"`         // ReadAt calls
	Hits         int64 `json:"hits"`          // ... that found every block here
	PrefetchHits int64 `json:"prefetch_hits"` // ... or fetched ahead: here, and not read before, or on its way
	Misses       int64 `json:"misses"`        // ... that waited for a fetch on demand
	// Latency of each of the three.
	Latency struct {
		Hit         meter.Histogram `json:"hit"`
		PrefetchHit meter.Histogram `json:"prefetch_hit"`
		Miss        meter.Histogram `json:"miss"`
	} `json:"latency"`
	AheadHits   int64 `json:"ahead_hits"`   // blocks a reader found already under way
	MemoryHits  int64 `json:"memory_hits"`  // blocks served from memory
	DiskHits    int64 `json:"disk_hits"`    // blocks served from disk
	ServedBytes int64 `json:"served_bytes"` // bytes handed to readers
	// Bytes fetched from sources, by urgency.
	DemandBytes     int64 `json:"demand_bytes"`
	ReadAheadBytes  int64 `json:"readahead_bytes"`
	BackgroundBytes int64 `json:"background_bytes"`
	CopiedBytes     int64 `json:"copied_bytes"` // found in other files of the store instead of being fetched
	Uncached        int64 `json:"uncached"`     // blocks served that the disk had no room for
	WrongBlocks     int64 `json:"wrong_blocks"` // blocks that did not match their sum
	Abandoned       int64 `json:"abandoned"`    // fetches ended because nobody waited
}

// counters are Stats as they are counted.
type counters struct {
	latency                                    [outcomes]meter.Counter
	aheadHits                                  atomic.Int64
	memoryHits, diskHits, served               atomic.Int64
	fetched                                    [source.Background + 1]atomic.Int64
	copied, uncached, wrong, abandoned, panics atomic.Int64
}

func (c *counters) stats() Stats {
	s := Stats{
		AheadHits:  c.aheadHits.Load(),
		MemoryHits: c.memoryHits.Load(), DiskHits: c.diskHits.Load(), ServedBytes: c.served.Load(),
		DemandBytes: c.fetched[source.Demand].Load(), ReadAheadBytes: c.fetched[source.ReadAhead].Load(),
		BackgroundBytes: c.fetched[source.Background].Load(),
		CopiedBytes:     c.copied.Load(),
		Uncached:        c.uncached.Load(), WrongBlocks: c.wrong.Load(), Abandoned: c.abandoned.Load(),
	}
	l := &s.Latency
	l.Hit, l.PrefetchHit, l.Miss = c.latency[hit].Histogram(), c.latency[prefetchHit].Histogram(), c.latency[miss].Histogram()
	s.Hits, s.PrefetchHits, s.Misses = l.Hit.Total(), l.PrefetchHit.Total(), l.Miss.Total()
	s.Reads = s.Hits + s.PrefetchHits + s.Misses
	return s
}

// Status describes one file at one moment.
type Status struct {
	Label       string     `json:"label,omitempty"`
	State       string     `json:"state"` // partial, verified, unverified, corrupt
	Note        string     `json:"note,omitempty"`
	Size        int64      `json:"size"` // -1: not known yet
	CachedBytes int64      `json:"cached_bytes"`
	ZeroBytes   int64      `json:"zero_bytes,omitempty"` // known to be zero without asking
	InFlight    int        `json:"in_flight"`            // blocks on their way
	Checked     int64      `json:"checked_bytes"`        // how far the check of the whole has come
	Percent     float64    `json:"percent"`              // local share of what can be
	Sums        []string   `json:"sums,omitempty"`       // "sha256:…" that matched
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Status describes the file at this moment.
func (h *File) Status() Status {
	h.use.RLock()
	defer h.use.RUnlock()
	l, st, fl := h.e.local, h.e.standing, h.e.flights
	s := Status{Label: l.label, State: store.Partial.String(), Size: l.size.Load()}
	st.report(&s)
	fl.mu.Lock()
	s.InFlight = len(fl.table)
	fl.mu.Unlock()
	if h.closed {
		return s
	}
	state := l.sf.State()
	if bad := st.corrupt.Load(); bad != nil {
		state, s.Note = store.Corrupt, bad.Reason
	} else {
		s.Note = l.sf.Note()
	}
	s.State = state.String()
	_, s.CachedBytes = l.sf.Present()
	if s.Size < 0 {
		return s
	}
	if l.data != nil {
		s.ZeroBytes = s.Size
		for _, e := range l.data {
			s.ZeroBytes -= e.Len
		}
	}
	if wanted := s.Size - s.ZeroBytes; wanted > 0 {
		s.Percent = min(100, 100*float64(s.CachedBytes)/float64(wanted))
	} else {
		s.Percent = 100
	}
	return s
}

// report fills in what is known of checks and errors.
func (st *standing) report(s *Status) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s.Checked, s.Sums = st.checked, st.matched
	if st.lastErr != nil {
		at := st.lastErrAt
		s.LastError, s.LastErrorAt = st.lastErr.Error(), &at
	}
}
