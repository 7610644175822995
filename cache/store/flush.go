package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// wake tells the flusher that a block was written.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// flusher makes written blocks durable: the first after a quiet time at once, so that it is soon seen elsewhere, and
// then one batch every SyncEvery. Once a minute it looks after use times.
func (s *Store) flusher() {
	tick := time.NewTicker(min(time.Minute, s.opt.age))
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	aged := time.Now()
	kicked, paused := false, true
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
			kicked = true
		case <-pause.C:
			paused = false
		case now := <-tick.C:
			old := now.Sub(aged) >= s.opt.age
			if old {
				aged = now
			}
			s.tick(now, old)
		}
		if kicked && !paused {
			paused = true
			began := time.Now()
			kicked = !s.flushAll()
			pause.Reset(max(s.opt.SyncEvery-time.Since(began), s.opt.SyncEvery/4))
		}
	}
}

// flushAll reports whether nothing is left to be tried again.
func (s *Store) flushAll() bool {
	ok := true
	for _, f := range s.openFiles() {
		if err := f.flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			ok = false
			s.warn("cannot journal blocks", "file", f.key, "err", err)
		}
	}
	return ok
}

// tick notes which files were used, and lets what was not used grow cold.
func (s *Store) tick(now time.Time, age bool) {
	for _, f := range s.openFiles() {
		if f.touched.Swap(false) {
			f.lastUse.Store(now.UnixNano())
			s.files.touch(string(f.key) + lockSuffix)
		}
		if age {
			f.mu.Lock()
			f.im.age()
			f.mu.Unlock()
		}
	}
}

// flush makes everything written so far durable: data, fdatasync, journal, fdatasync. Blocks written meanwhile wait
// for the next time. After a failure the blocks stay present in this process, and the next flush tries again.
func (f *File) flush() error {
	f.mu.Lock()
	if len(f.dirty) == 0 && !f.unsaved {
		f.mu.Unlock()
		return nil
	}
	batch := f.batch
	f.batch++
	f.mu.Unlock()

	if err := sync1(f.data); err != nil {
		f.lose(batch)
		return fmt.Errorf("sync cached file %.12s: %w", string(f.key), full(err))
	}
	done, err := f.lockJournal()
	if err != nil {
		f.endClaims()
		return err
	}
	written := f.encodeDirty(batch)
	if err := f.append(written.buf); err != nil {
		done()
		f.endClaims()
		return full(err)
	}
	f.mu.Lock()
	f.unsaved = f.unsaved && !written.size
	for _, b := range written.blocks {
		// A block may have been dropped and written again in the meantime.
		if at, ok := f.dirty[b]; ok && at <= batch {
			f.clean(b)
		}
	}
	f.mu.Unlock()
	f.tidy()
	jf := f.j.f
	done()
	if err := sync1(jf); err != nil && !errors.Is(err, os.ErrClosed) { // closed: rewritten since, and synced then
		return fmt.Errorf("sync journal: %w", full(err))
	}
	return nil
}

type dirtyRecords struct {
	buf    []byte
	blocks []int64
	size   bool
}

// encodeDirty writes the records of all blocks that were written by the time of batch. The caller holds the journal
// lock, so that none of them is dropped before the records are appended.
func (f *File) encodeDirty(batch uint64) dirtyRecords {
	f.mu.RLock()
	defer f.mu.RUnlock()
	d := dirtyRecords{size: f.unsaved}
	for b, at := range f.dirty {
		if at <= batch {
			d.blocks = append(d.blocks, b)
		}
	}
	slices.Sort(d.blocks)
	w := runWriter{salt: f.j.h.salt}
	if d.size {
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindSize, pos: f.im.size})
	}
	for _, b := range d.blocks {
		if sum, zero, ok := f.im.get(b); ok {
			w.add(b, sum, zero)
		}
	}
	w.end()
	d.buf = w.buf
	return d
}

// lose drops what a failed sync may have lost: the kernel does not tell which pages it gave up.
func (f *File) lose(batch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for b, at := range f.dirty {
		if at <= batch {
			f.im.dropped(b, 1)
			f.clean(b)
		}
	}
}

// clean ends the wait of a block for the journal, and the claim that waited with it. The caller holds mu.
func (f *File) clean(b int64) {
	delete(f.dirty, b)
	if c := f.claims[b]; c != nil && c.ended {
		delete(f.claims, b)
		unlock(f.lock, lockClaims+b)
	}
}
