package store

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

const (
	dataSuffix    = ".data"
	journalSuffix = ".journal"
	lockSuffix    = ".lock"
)

// File is one cached file. All methods may be called concurrently. Blocks are numbered from 0.
// All but the last have the length BlockSize. A block out of range is absent.
//
// Its parts have one lock each; the package comment gives their order.
type File struct {
	s       *Store
	key     Key
	lock    *os.File // lock bytes, see lock.go
	data    dataFile
	j       *journal
	present *presence
	claims  *claims
	holds   *holds
	touched atomic.Bool  // used since the last tick
	lastUse atomic.Int64 // ns, to the tick

	// loose says why the disk has no place for the file; nil: it has one, from then on. See looseFile.
	loose atomic.Pointer[error]
}

// newFile joins the parts of a file whose descriptors are still to be opened.
func newFile(s *Store, k Key, blockSize int) *File {
	f := &File{s: s, key: k, data: dataFile{blockSize: blockSize, readOnly: s.readOnly}, claims: &claims{held: map[int64]*claim{}}, holds: &holds{}}
	f.present = &presence{journalled: f.claims.journalled, mapping: newMapping(blockSize), dirty: map[int64]uint64{}}
	f.j = &journal{files: s.files.Dir, key: k, warn: s.warn, others: &s.others, present: f.present, readOnly: s.readOnly, mode: s.mode}
	f.lastUse.Store(time.Now().UnixNano())
	return f
}

// setLock gives the lock file to all parts that lock bytes of it.
func setLock(f *File, lock *os.File) {
	f.lock, f.j.lock, f.claims.lock, f.holds.lock = lock, lock, lock, lock
}

// Close gives the file back. The last Close in this process journals what is left. Call it once for
// each File that was returned.
func (f *File) Close() error { return f.s.release(f) }

// shut closes the descriptors, which ends all locks and claims.
func (f *File) shut() error {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	f.claims.endAll()
	var errs []error
	for _, x := range []*os.File{f.holds.give(nil), f.data.f, f.j.f, f.lock} {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}

// BlockSize is the length of the file's blocks in bytes.
func (f *File) BlockSize() int { return f.data.blockSize }

// Size is the length of the file in bytes, or [Unknown].
func (f *File) Size() int64 {
	if n := f.present.knownSize(); n != Unknown {
		return n
	}
	f.j.poll()
	return f.present.knownSize()
}

// Blocks is the number of blocks of the file, or [Unknown].
func (f *File) Blocks() int64 {
	if n := f.Size(); n != Unknown {
		return blocksOf(n, f.data.blockSize)
	}
	return Unknown
}

// SetSize makes the size known, for this process and all others. It may be repeated with the same
// size; another one is refused with [ErrGeometry]. Blocks behind the end are forgotten.
func (f *File) SetSize(n int64) error {
	if err := checkSize(n, f.data.blockSize); err != nil {
		return err
	}
	if f.present.knownSize() == n {
		return nil
	}
	done, err := f.j.begin()
	if err != nil {
		return err
	}
	defer done()
	have := f.present.knownSize()
	if err := f.present.setSize(n); err != nil {
		return fmt.Errorf("set size %d of cached file %.12s: it has %d: %w", n, string(f.key), have, err)
	}
	if have == n {
		return nil
	}
	if err := f.data.fit(n); err != nil {
		return fmt.Errorf("set size of cached file: %w", err)
	}
	if err := f.j.append(appendRecord(nil, f.j.h.salt, record{kind: kindSize, pos: n})); err != nil {
		// The next flush tries again: a full disk is no reason to refuse the file.
		f.s.warn("cannot journal the size of a cached file", "file", f.key, "err", err)
		return nil
	}
	f.present.sizeSaved()
	return dataSync(f.j.f)
}

// State says what is known of the whole file.
func (f *File) State() FileState {
	f.j.poll()
	st, _ := f.present.state()
	return st
}

// Note is the text given with the state, at most 1024 bytes: a reason, or what the sums were.
func (f *File) Note() string {
	_, note := f.present.state()
	return note
}

// SetState records what was found out about the whole file. It is on the disk when SetState returns.
// Verified is refused with [ErrAbsent] unless every block is present. Corrupt gives up all blocks.
func (f *File) SetState(st FileState, note string) error {
	if st > Corrupt {
		return fmt.Errorf("set state of cached file: %v is none", st)
	}
	if err := f.flush(); err != nil {
		return err
	}
	done, err := f.j.begin()
	if err != nil {
		return err
	}
	defer done()
	if st == Verified && !f.present.complete() {
		return fmt.Errorf("set state of cached file %.12s to verified: %w", string(f.key), ErrAbsent)
	}
	r := stateRecord(st, note)
	buf := appendRecord(nil, f.j.h.salt, r)
	if end := f.present.blocks(); st == Corrupt && end > 0 && f.holds.tryPunch() {
		defer f.holds.endPunch()
		if err := f.data.empty(f.present.knownSize()); err != nil {
			return fmt.Errorf("give up corrupt file: %w", err)
		}
		d := record{kind: kindDrop, value: uint32(end)}
		buf = append(appendRecord(nil, f.j.h.salt, d), buf...)
		f.present.applyAll([]record{d})
	}
	f.present.applyAll([]record{r})
	if err := f.j.append(buf); err != nil {
		return fmt.Errorf("set state of cached file: %w", full(err))
	}
	return dataSync(f.j.f)
}
