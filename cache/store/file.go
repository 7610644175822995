package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dataSuffix    = ".data"
	journalSuffix = ".journal"
	lockSuffix    = ".lock"

	// pollEvery is how often, at most, a miss looks at what other processes have journalled.
	pollEvery = 10 * time.Millisecond
)

// File is one cached file. All methods may be called concurrently. Blocks are numbered from 0; all but the last have
// the length BlockSize. Out of range, a block is absent.
type File struct {
	s         *Store
	key       Key
	blockSize int
	lock      *os.File
	data      *os.File
	loose     atomic.Pointer[error] // why the disk has no place for it; nil: it has, from then on. Set to nil under mu. See looseFile
	j         journal

	polled   atomic.Int64 // when other processes' records were last looked for, ns
	touched  atomic.Bool  // used since the last tick
	lastUse  atomic.Int64 // ns, to the tick
	sizeOnce atomic.Int64 // the size once it is known, plus one: it never changes, so it needs no lock

	// mu guards what follows. It is held for memory and the odd fcntl, never over file IO, and is the last in the
	// lock order.
	mu      sync.RWMutex
	im      *image
	dirty   map[int64]uint64 // blocks that are present here and not journalled yet: the batch they wait for
	batch   uint64
	unsaved bool // the size could not be journalled yet
	claims  map[int64]*claim
	pins    int
	held    *os.File // what Data gave out
}

// Close gives the file back; the last Close in this process journals what is left. Call it once for each File.
func (f *File) Close() error { return f.s.release(f) }

// shut closes the descriptors, which ends all locks and claims.
func (f *File) shut() error {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.claims {
		c.end()
	}
	f.claims = map[int64]*claim{}
	var errs []error
	for _, x := range []*os.File{f.held, f.data, f.j.f, f.lock} {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}

// Key is the name the file was opened by.
func (f *File) Key() Key { return f.key }

// BlockSize is that of the file's blocks, in bytes.
func (f *File) BlockSize() int { return f.blockSize }

// Size is the length of the file in bytes, or [Unknown].
func (f *File) Size() int64 {
	if n := f.sizeOnce.Load(); n > 0 {
		return n - 1
	}
	f.poll()
	return f.sizeOnce.Load() - 1
}

// Blocks is the number of blocks the file has, or [Unknown].
func (f *File) Blocks() int64 {
	if n := f.Size(); n != Unknown {
		return blocksOf(n, f.blockSize)
	}
	return Unknown
}

// SetSize makes the size known, for this process and all others. It may be repeated with the same size; another one
// is refused with [ErrGeometry]. Blocks behind the end are forgotten.
func (f *File) SetSize(n int64) error {
	if err := checkSize(n, f.blockSize); err != nil {
		return err
	}
	if f.sizeOnce.Load() == n+1 {
		return nil
	}
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	have := f.im.size
	if have == Unknown {
		f.im.setSize(n)
		f.unsaved = true
		for b := range f.dirty {
			if b >= f.im.end() {
				f.clean(b)
			}
		}
	}
	f.mu.Unlock()
	if have != Unknown && have != n {
		return fmt.Errorf("set size %d of cached file %.12s: it has %d: %w", n, string(f.key), have, ErrGeometry)
	}
	if have == n {
		return nil
	}
	f.sizeOnce.Store(n + 1)
	if err := f.fitData(); err != nil {
		return fmt.Errorf("set size of cached file: %w", err)
	}
	if err := f.append(appendRecord(nil, f.j.h.salt, record{kind: kindSize, pos: n})); err != nil {
		// The next flush tries again: a full disk is no reason to refuse the file.
		f.s.warn("cannot journal the size of a cached file", "file", f.key, "err", err)
		return nil
	}
	f.mu.Lock()
	f.unsaved = false
	f.mu.Unlock()
	return sync1(f.j.f)
}
