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
func (f *content) withdraw(err error) error {
	if err == nil {
		return nil
	}
	corrupt := errors.Is(err, source.ErrCorrupt)
	if !corrupt && !errors.Is(err, source.ErrDoubt) || f.allBlocksKnown() {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if corrupt {
		return f.poison(err.Error())
	}
	if f.forward.doubts++; f.forward.doubts > maxDoubts {
		return err
	}
	f.failed(err)
	f.c.log.Warn("what was decoded from a false place is given up and decoded again", "file", f.spec.Label, "err", err)
	if f.pass != nil {
		f.pass.tainted = true
	}
	f.whole.Store(false)
	end, err := f.sf.DropAll()
	if err != nil {
		return f.poison(fmt.Sprintf("it may hold wrong blocks that cannot be given up: %v", err))
	}
	for b := range max(end, f.forward.end) {
		f.c.mem.drop(blockKey(f.id, b))
	}
	for _, e := range f.flight {
		e.arrives = false
	}
	f.changed(store.Partial)
	return nil
}
