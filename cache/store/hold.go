package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// Data is the file's content for the kernel to read by itself, or nil unless the file is complete and Verified. From
// then on, until the last Close, no process takes a block away. The caller does not close it.
func (f *File) Data() *os.File {
	f.mu.RLock()
	held := f.held
	f.mu.RUnlock()
	if held != nil {
		// Opening for passthrough fails where opening this fails: on a disk that has died since.
		again, err := f.s.files.open(string(f.key)+dataSuffix, unix.O_RDONLY)
		if err != nil {
			return nil
		}
		again.Close()
		return held
	}
	done, err := f.lockJournal()
	if err != nil {
		return nil
	}
	defer done()
	f.mu.RLock()
	held, whole := f.held, f.im.state == Verified && f.im.complete() && f.loose.Load() == nil
	f.mu.RUnlock()
	if held != nil || !whole {
		return held
	}
	if ok, err := tryLock(f.lock, unix.F_RDLCK, lockHold); !ok || err != nil {
		return nil
	}
	ro, err := f.s.files.open(string(f.key)+dataSuffix, unix.O_RDONLY)
	if err != nil {
		unlock(f.lock, lockHold)
		return nil
	}
	f.mu.Lock()
	f.held = ro
	f.mu.Unlock()
	return ro
}

// tryHold begins a change that a kernel reading the data file must not see; false if one does. The caller holds j.mu.
func (f *File) tryHold() bool {
	f.mu.RLock()
	held := f.held != nil
	f.mu.RUnlock()
	if held {
		return false
	}
	ok, err := tryLock(f.lock, unix.F_WRLCK, lockHold)
	return ok && err == nil
}

func (f *File) endHold() { unlock(f.lock, lockHold) }

// Pin says that the file is in use (a guest has it open), which protects it in the order of eviction: see the package
// documentation. Each Pin needs an Unpin.
func (f *File) Pin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pins++; f.pins == 1 {
		// Nobody locks this byte exclusively; failing to lock it only weakens the protection.
		_, _ = tryLock(f.lock, unix.F_RDLCK, lockPin)
	}
}

// Unpin takes one Pin back.
func (f *File) Unpin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pins--; f.pins == 0 {
		unlock(f.lock, lockPin)
	}
}
