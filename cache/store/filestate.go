package store

import (
	"fmt"
)

// State says what is known of the whole.
func (f *File) State() FileState {
	f.poll()
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.state
}

// Note is the text given with the state, at most 1024 bytes: a reason, or what the sums were.
func (f *File) Note() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.note
}

// SetState records what was found out about the whole; it is on the disk when SetState returns. Verified is refused
// with [ErrAbsent] unless every block is present. Corrupt gives up all blocks.
func (f *File) SetState(st FileState, note string) error {
	if st > Corrupt {
		return fmt.Errorf("set state of cached file: %v is none", st)
	}
	if err := f.flush(); err != nil {
		return err
	}
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	f.mu.RLock()
	complete, end := f.im.complete(), f.im.end()
	f.mu.RUnlock()
	if st == Verified && !complete {
		return fmt.Errorf("set state of cached file %.12s to verified: %w", string(f.key), ErrAbsent)
	}
	r := stateRecord(st, note)
	buf := appendRecord(nil, f.j.h.salt, r)
	if st == Corrupt && end > 0 && f.tryHold() {
		defer f.endHold()
		if err := f.data.Truncate(0); err != nil {
			return fmt.Errorf("give up corrupt file: %w", err)
		}
		if f.sizeOnce.Load() > 0 {
			if err := f.fitData(); err != nil {
				return fmt.Errorf("give up corrupt file: %w", err)
			}
		}
		d := record{kind: kindDrop, value: uint32(end)}
		buf = append(appendRecord(nil, f.j.h.salt, d), buf...)
		f.applyAll([]record{d})
	}
	f.applyAll([]record{r})
	if err := f.append(buf); err != nil {
		return fmt.Errorf("set state of cached file: %w", full(err))
	}
	return sync1(f.j.f)
}
