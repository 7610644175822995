package cache

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Ranges that no reader waits for (read-ahead, rest of a region, completion)
// need a slot while they are under way. Demanded ranges are bounded by the readers.
const (
	originSlots = 8  // of the files of one origin
	allSlots    = 64 // of all
	// A range that has brought less than slotPace bytes a second after slotTrial
	// is ended if an origin with fewer slots finds none.
	slotPace  = 64 << 10
	slotTrial = 2 * time.Second
)

// origin is what the files of one server share.
type origin struct {
	name   string
	demand atomic.Int64 // demanded fetches under way
	trips  trips
	used   int // guarded by slots.mu
}

// slots are shared out to origins: one may hold as many as are free, at most
// originSlots. So others find some unless there are very many, and then the
// slowest range of one that holds more makes room. Nobody ever waits for a slot.
type slots struct {
	mu   sync.Mutex         // a leaf; guards what follows, and used of each origin
	jobs map[*job]time.Time // that hold a slot, and since when
}

// take takes a slot for a job, and tells whether there was one.
func (s *slots) take(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	slow, ok := s.room(j.fl.origin)
	if !ok {
		return false
	}
	if slow != nil {
		s.free(slow)
		slow.cancel(errAbandoned)
	}
	j.fl.origin.used++
	s.jobs[j] = time.Now()
	return true
}

// room tells whether there is a slot for o, and whose if none is free; mu is held.
func (s *slots) room(o *origin) (slow *job, ok bool) {
	if o.used >= originSlots {
		return nil, false
	}
	if o.used < allSlots-len(s.jobs) {
		return nil, true
	}
	least := float64(slotPace)
	for j, since := range s.jobs {
		took := time.Since(since)
		if pace := float64(j.brought.Load()) / took.Seconds(); took >= slotTrial && pace < least && j.fl.origin.used > o.used {
			slow, least = j, pace
		}
	}
	return slow, slow != nil
}

// give gives back the slot of a job, if it holds one.
func (s *slots) give(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(j)
}

// free is give; mu is held.
func (s *slots) free(j *job) {
	if _, ok := s.jobs[j]; ok {
		delete(s.jobs, j)
		j.fl.origin.used--
	}
}

// state is how many slots o holds, and whether there is one more for it.
func (s *slots) state(o *origin) (used int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, more = s.room(o)
	return o.used, more
}

// metered counts what is read of a body.
type metered struct {
	io.ReadCloser
	n     *atomic.Int64
	first func() // called once, when the first byte is here; nil: not
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 && m.first != nil {
		m.first()
		m.first = nil
	}
	m.n.Add(int64(n))
	return n, err
}
