package cache

import "sync"

// tracker recognizes sequential readers behind one handle. A hypervisor reads
// several streams at once through one handle, and the kernel's own read-ahead
// reorders neighbours a little.
//
// It also learns whether fetching the whole region around a miss pays: where
// reads are random, regions are not looked at again, and misses become narrow.
type tracker struct {
	// mu guards what follows. Nothing else is locked under it.
	mu      sync.Mutex
	streams [8]stream
	clock   uint64

	guesses [32]guess // the last regions fetched
	next    int       // the oldest of them
	waste   int       // 0: regions pay ... maxWaste: they do not
	misses  int
}

// guess is a region that was fetched for the sake of one place in it.
type guess struct {
	from, to int64 // bytes from..to-1; to 0: none
	place    int64
	used     bool // another place in it has been read since
}

func (g *guess) has(off int64) bool { return g.from <= off && off < g.to }

const (
	maxWaste = 16 // more useless regions than useful ones (times four): misses become narrow
	probe    = 16 // then one miss in so many is wide, to see whether that has changed
	placeLen = DefaultBlockSize
)

// window is what a sequential reader will want next; empty if to is 0.
type window struct {
	from, to int64
	stream   *stream
}

type stream struct {
	start, next int64 // it has read about all of start..next-1
	read        int64 // of that, without gaps
	ahead       int64 // asked for up to here
	used        uint64
}

// slack is how far from its expected place a read may be and still continue
// a stream.
const slack = 256 << 10

// note records a read of n bytes at off and returns what to fetch ahead of it.
// A reader that has read more than a region gets as much ahead as r says, up to
// limit. Gaps do not count, else scattered reads look like a stream.
func (t *tracker) note(off, n int64, r reach, limit int64) window {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock++
	for i := range t.guesses {
		if g := &t.guesses[i]; g.has(off) && g.place != off/placeLen {
			g.used = true
		}
	}
	var s *stream
	oldest := &t.streams[0]
	for i := range t.streams {
		c := &t.streams[i]
		if c.used != 0 && off >= c.next-slack && off <= c.next+slack && off >= c.start {
			s = c
			break
		}
		if c.used < oldest.used {
			oldest = c
		}
	}
	if s == nil {
		*oldest = stream{start: off, next: off + n, read: n, used: t.clock}
		return window{}
	}
	s.used = t.clock
	s.read += max(0, min(n, off+n-s.next))
	s.next = max(s.next, off+n)
	if s.read < r.region || limit <= 0 {
		return window{}
	}
	from := max(s.ahead, s.next)
	// Up to whole ranges only, else each read would ask for its own little one. All hosts
	// that ask a mirror have these borders in common.
	to := (s.next + min(r.ahead(s.read), limit)) / rangeLen * rangeLen
	if to <= from {
		return window{}
	}
	s.ahead = to
	return window{from, to, s}
}

// wide decides whether a miss at off gets its whole region.
func (t *tracker) wide(off, region int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.guesses {
		if t.guesses[i].has(off) {
			return true // on its way
		}
	}
	t.misses++
	if t.waste == maxWaste && t.misses%probe != 0 {
		return false
	}
	g := &t.guesses[t.next]
	if g.to != 0 {
		if g.used {
			t.waste = max(0, t.waste-4)
		} else {
			t.waste = min(maxWaste, t.waste+1)
		}
	}
	from := off / region * region
	*g = guess{from: from, to: from + region, place: off / placeLen}
	t.next = (t.next + 1) % len(t.guesses)
	return true
}

// settle corrects how far ahead of its stream a window got.
func (t *tracker) settle(w window, reached int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.stream.ahead == w.to {
		w.stream.ahead = reached
	}
}
