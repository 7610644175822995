package cache

import (
	"sync"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/tasks"
	"vmcastfs/cache/trace"
)

// entry is what all handles of one key share. It joins three parts: flights
// brings the blocks, completion walks over all of them, and standing alone
// decides whether a block may be served.
type entry struct {
	s          *shared
	key        store.Key
	local      *local
	standing   *standing
	flights    *flights
	completion *completion
	tasks      *tasks.Tasks // all fetches are on their context
	sf         *store.File
	recorder   *trace.Recorder // or nil

	handles  int           // guarded by Cache.mu; 0: closing
	gone     chan struct{} // closed once it is closed
	watching sync.Once     // of watchPassthrough
}

// newEntry opens the local side of spec. The first Open of a key decides.
func newEntry(s *shared, spec Spec, sf *store.File, id uint32) *entry {
	l := &local{s: s, label: spec.Label, sf: sf, id: id, bs: int64(spec.BlockSize), given: spec.Blocks}
	l.data = mergeExtents(spec.Data, spec.Size)
	l.size.Store(sf.Size())
	st := newStanding(l, &spec)
	t := tasks.New()
	fl := &flights{
		s: s, local: l, standing: st, tasks: t, copies: spec.Copies, mirrored: spec.Shared, recorder: spec.Recorder,
		source: s.guard(spec.Source),
		table:  make(map[int64]*flight),
	}
	if spec.Shared != nil {
		fl.cut = cut(spec.Expected, spec.Size, l.bs)
	}
	if fwd, ok := fl.source.(source.Forward); ok {
		fl.runner = &runner{fl: fl, source: fwd, maxSize: spec.MaxSize, toTheEnd: spec.Whole}
	}
	cp := &completion{local: l, standing: st, flights: fl, tasks: t, sums: spec.Sums, learned: spec.Learned}
	fl.allHere = cp.now
	sf.Pin()
	return &entry{s: s, key: spec.Key, local: l, standing: st, flights: fl, completion: cp, tasks: t, sf: sf, recorder: spec.Recorder, gone: make(chan struct{})}
}

// close ends all work. No handle is left.
func (e *entry) close() error {
	e.tasks.Close(ErrClosed)
	e.standing.settle()
	e.local.forget(e.local.learned.Load())
	e.sf.Unpin()
	return e.sf.Close()
}
