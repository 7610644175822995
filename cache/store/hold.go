package store

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// holds say what must not be taken from a file: it is pinned, or the kernel reads it by itself.
type holds struct {
	lock *os.File // its bytes lockPin and lockHold; set before the first use

	// mu guards what follows. It is held for memory and one fcntl. No lock is taken under it.
	mu   sync.Mutex
	pins int      // guarded by mu
	held *os.File // guarded by mu; what Data gave out
}

// given is what Data gave out, or nil.
func (h *holds) given() *os.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// give notes what Data gives out, and returns what it gave before.
func (h *holds) give(data *os.File) (before *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, h.held = h.held, data
	return before
}

// tryPunch begins a change that a kernel reading the data file must not see; false if one does. The
// caller holds the journal lock.
func (h *holds) tryPunch() bool {
	if h.given() != nil {
		return false
	}
	ok, err := tryLock(h.lock, unix.F_WRLCK, lockHold)
	return ok && err == nil
}

func (h *holds) endPunch() { unlock(h.lock, lockHold) }

func (h *holds) pinned() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pins > 0
}

// moved takes the pin's lock on a lock file that has come in place of the one before.
func (h *holds) moved() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pins > 0 {
		_, _ = tryLock(h.lock, unix.F_RDLCK, lockPin) // as in Pin
	}
}

// Pin says that the file is in use (a guest has it open), which protects it in the order of eviction:
// see the package comment. Each Pin needs an Unpin.
func (f *File) Pin() {
	h := f.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pins++; h.pins == 1 {
		// Nobody locks this byte exclusively; failing to lock it only weakens the protection.
		_, _ = tryLock(h.lock, unix.F_RDLCK, lockPin)
	}
}

// Unpin takes one Pin back.
func (f *File) Unpin() {
	h := f.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pins--; h.pins == 0 {
		unlock(h.lock, lockPin)
	}
}

// Data is the file's content for the kernel to read by itself, or nil unless the file is complete and
// Verified. From then on, until the last Close, no process takes a block away. The caller does not
// close it.
func (f *File) Data() *os.File {
	if held := f.holds.given(); held != nil {
		// Opening for passthrough fails where opening this fails: on a disk that has died since.
		again, err := f.s.files.OpenFile(string(f.key)+dataSuffix, unix.O_RDONLY)
		if err != nil {
			return nil
		}
		again.Close()
		return held
	}
	done, err := f.j.begin()
	if err != nil {
		return nil
	}
	defer done()
	if held := f.holds.given(); held != nil {
		return held
	}
	if st, _ := f.present.state(); st != Verified || !f.present.complete() || f.loose.Load() != nil {
		return nil
	}
	if ok, err := tryLock(f.lock, unix.F_RDLCK, lockHold); !ok || err != nil {
		return nil
	}
	ro, err := f.s.files.OpenFile(string(f.key)+dataSuffix, unix.O_RDONLY)
	if err != nil {
		unlock(f.lock, lockHold)
		return nil
	}
	f.holds.give(ro)
	return ro
}
