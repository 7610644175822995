package cache

import (
	"errors"
	"fmt"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// maxDoubts is how often a forward source may find that it began at a false
// place, while a file is open. Each time it trusts fewer of them.
const maxDoubts = 8

// withdraw gives up what a forward source gave, when err says that it may be
// wrong. Blocks that have sums of their own are proven by those, and stay. nil:
// the source is to be asked again.
func (r *runner) withdraw(err error) error {
	if err == nil {
		return nil
	}
	fl, l := r.fl, r.fl.local
	corrupt := errors.Is(err, source.ErrCorrupt)
	if !corrupt && !errors.Is(err, source.ErrDoubt) || l.allKnown() {
		return err
	}
	if corrupt {
		return fl.standing.poison(err.Error())
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if r.doubts++; r.doubts > maxDoubts {
		return err
	}
	fl.s.log.Warn("what was decoded from a false place is given up and decoded again", "file", l.label, "err", err)
	end, failed := fl.standing.giveUp(err)
	if failed != nil {
		return failed
	}
	for b := range max(end, r.end) {
		fl.s.mem.drop(blockKey(l.id, b))
	}
	for _, f := range fl.table {
		f.arrives = false
	}
	return nil
}

// giveUp drops all blocks, because of err, and returns where the last of them
// ended. If that fails the file is corrupt.
func (s *standing) giveUp(err error) (end int64, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failedLocked(err)
	if s.review != nil {
		s.review.tainted = true
	}
	s.whole.Store(false)
	s.withheld.Store(0)
	if end, err = s.local.sf.DropAll(); err != nil {
		return 0, s.poisonLocked(fmt.Sprintf("it may hold wrong blocks that cannot be given up: %v", err))
	}
	s.tell(store.Partial)
	return end, nil
}
