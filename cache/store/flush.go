package store

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// wake tells the flusher that a block was written.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// flusher makes written blocks durable: the first after a quiet time at once, so that other processes soon
// see it, and then one batch every SyncEvery. Once a minute it notes which files were used.
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
			s.tick(now)
			if now.Sub(aged) >= s.opt.age {
				aged = now
				for _, f := range s.openFiles() {
					f.present.age() // what was not used grows cold
				}
			}
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

// tick notes which files were used.
func (s *Store) tick(now time.Time) {
	for _, f := range s.openFiles() {
		if f.touched.Swap(false) {
			f.lastUse.Store(now.UnixNano())
			s.files.Touch(string(f.key) + lockSuffix)
		}
	}
}

// flush makes everything written so far durable: data, fdatasync, journal, fdatasync. Blocks written
// meanwhile wait for the next time. After a failure the blocks stay present in this process, and the
// next flush tries again.
func (f *File) flush() error {
	batch, ok := f.present.endBatch()
	if !ok {
		return nil
	}
	if err := dataSync(f.data.f); err != nil {
		if !errors.Is(err, os.ErrClosed) { // else it was synced before it was closed
			f.present.lose(batch)
		}
		return fmt.Errorf("sync cached file %.12s: %w", string(f.key), full(err))
	}
	done, err := f.j.begin()
	if err != nil {
		f.claims.giveUp()
		return err
	}
	written := f.present.encode(batch, f.j.h.salt)
	if err := f.j.append(written.buf); err != nil {
		done()
		f.claims.giveUp()
		return full(err)
	}
	f.present.saved(batch, written)
	f.j.tidy()
	jf := f.j.f
	done()
	if err := dataSync(jf); err != nil && !errors.Is(err, os.ErrClosed) { // closed: rewritten since, and synced then
		return fmt.Errorf("sync journal: %w", full(err))
	}
	return nil
}
