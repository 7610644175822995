package catalog

import (
	"container/list"
	"sync"
)

// shelfRoom is how many bytes the packages of releases take that nobody uses just now.
// It is that of some hundred ordinary ones.
const shelfRoom = 2 << 20

// A shelf knows which releases were used last. The package of another is given back: it
// is on the disk. Whoever uses a package holds it, so that there never are two of one
// release.
//
// mu guards what follows it; it is a leaf.
type shelf struct {
	mu    sync.Mutex
	order list.List // of *shelved, the last used first
	at    map[*Release]*list.Element
	bytes int64
}

type shelved struct {
	release *Release
	bytes   int64
}

// use puts a release in front, whose package takes so many bytes.
func (s *shelf) use(r *Release, bytes int64) {
	for _, idle := range s.put(r, bytes) {
		giveBack(idle)
	}
}

// put returns the releases that are not on the shelf any more.
func (s *shelf) put(r *Release, bytes int64) (idle []*Release) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.at[r]; e != nil {
		s.order.MoveToFront(e)
		return nil
	}
	if s.at == nil {
		s.at = make(map[*Release]*list.Element)
	}
	s.at[r] = s.order.PushFront(&shelved{r, bytes})
	s.bytes += bytes
	for s.bytes > shelfRoom && s.order.Len() > 1 {
		last := s.order.Remove(s.order.Back()).(*shelved)
		delete(s.at, last.release)
		s.bytes -= last.bytes
		idle = append(idle, last.release)
	}
	return idle
}
