package cache

import (
	"context"
	"fmt"

	"vmcastfs/cache/store"
)

// conclude gives the verdict on a walk. again: it has to be repeated.
func (f *content) conclude(ctx context.Context, p *pass, d *digests, learned *SumTable) (again bool, err error) {
	kept := false
	defer func() {
		if !kept {
			f.forgetTable(learned)
		}
	}()
	ok, matched, mismatch := d.check(f.spec.Sums)
	state, note := store.Verified, ""
	switch {
	case f.spec.Judge != nil:
		if state, note = f.spec.Judge(ctx, ok); state == store.Corrupt {
			mismatch = note
		}
	case mismatch != "":
		state = store.Corrupt
	case len(matched) == 0 && !f.allBlocksKnown():
		state = store.Unverified
	case len(matched) == 0:
		note = "every block matches its own sum"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if bad := f.corrupt.Load(); bad != nil {
		return false, bad
	}
	if state == store.Corrupt {
		return false, f.poison(mismatch)
	}
	if state == store.Partial {
		return false, fmt.Errorf("%q cannot be checked now: %s", f.spec.Label, note)
	}
	if f.pass != p {
		return false, context.Canceled // nobody wants it any more
	}
	if state == store.Verified && !p.tainted && (learned != nil || f.allBlocksKnown()) {
		// Also where the disk did not take all of it: what is fetched again has to be the same.
		if learned != nil {
			f.forgetTable(f.learned.Swap(learned))
			kept = true
			f.spec.Learned(learned)
		}
		f.vouched.Store(true)
	}
	if b := f.sf.NextMissing(0); b < f.blocks() {
		return false, fmt.Errorf("%q was fetched and matches, but its block %d could not be kept: %w", f.spec.Label, b, store.ErrFull)
	}
	if p.tainted {
		return true, fmt.Errorf("check %q: blocks keep being lost from the cache", f.spec.Label)
	}
	f.checked = f.size.Load()
	if err := f.sf.SetState(state, note); err != nil {
		return false, fmt.Errorf("note that %q is %s: %w", f.spec.Label, state, err)
	}
	f.sums = matched
	f.whole.Store(true)
	f.changed(state)
	return false, nil
}

// changed tells the owner of the file; f.mu may be held.
func (f *content) changed(s store.FileState) {
	if f.spec.Changed != nil {
		f.spec.Changed(s)
	}
}

// allBlocksKnown reports whether every block has a sum of its own.
func (f *content) allBlocksKnown() bool {
	if f.blockSums() == nil {
		return false
	}
	for b := range f.blocks() {
		if !f.known(b) {
			return false
		}
	}
	return true
}
