package store

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes of a file's lock file. Locks are open-file-description locks: they end with the process that holds them,
// and two Stores in one process exclude each other as two processes do.
const (
	lockJournal = 0  // exclusive: appending, compacting, punching holes, removing
	lockOpen    = 1  // shared while open anywhere; exclusive to remove the file
	lockPin     = 2  // shared while pinned
	lockHold    = 3  // shared while the kernel may read the data file; exclusive to punch
	lockClaims  = 16 // + block: exclusive while a process fetches that block
)

// Bytes of the lock file of the directory.
const (
	lockUse   = 0 // shared while open; exclusive for a later version that converts the directory
	lockSetup = 1 // exclusive while the directory is being made
	lockEvict = 2 // exclusive while measuring and making room
)

const (
	// lockPatience bounds the wait for another process's short lock. A process that is stopped while it holds one
	// must not stop the others for longer.
	lockPatience = time.Second
	// setupPatience is for a directory that is being made, or looked through.
	setupPatience = 5 * time.Second
	// Once a wait was in vain, those of the next vainTime are short: a stopped process keeps what it holds.
	vainPatience, vainTime = 50 * time.Millisecond, 10 * time.Second
)

// A patience is how long a Store waits for the short locks of other processes. The zero value is ready.
type patience struct{ vain atomic.Int64 } // until when waits are short, UnixNano

// wait repeats try until it has taken its lock, and returns ErrBusy if that takes too long.
func (p *patience) wait(lock *os.File, try func() (bool, error)) error {
	most := lockPatience
	if time.Now().UnixNano() < p.vain.Load() {
		most = vainPatience
	}
	err := waitFor(lock, most, try)
	if errors.Is(err, ErrBusy) {
		p.vain.Store(time.Now().Add(vainTime).UnixNano())
	}
	return err
}

// lock takes a lock.
func (p *patience) lock(f *os.File, kind int16, at int64) error {
	return p.wait(f, func() (bool, error) { return tryLock(f, kind, at) })
}

func flock(f *os.File, cmd int, kind int16, at int64) (unix.Flock_t, error) {
	lk := unix.Flock_t{Type: kind, Start: at, Len: 1}
	err := control(f, func(fd int) error { return unix.FcntlFlock(uintptr(fd), cmd, &lk) })
	return lk, err
}

// tryLock takes the lock if no other process is in the way.
func tryLock(f *os.File, kind int16, at int64) (bool, error) {
	_, err := flock(f, unix.F_OFD_SETLK, kind, at)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// waitLock takes the lock. It waits at most so long, and returns ErrBusy then.
func waitLock(f *os.File, kind int16, at int64, most time.Duration) error {
	return waitFor(f, most, func() (bool, error) { return tryLock(f, kind, at) })
}

func waitFor(f *os.File, most time.Duration, try func() (bool, error)) error {
	pause := 200 * time.Microsecond
	for deadline := time.Now().Add(most); ; {
		ok, err := try()
		if err != nil {
			return fmt.Errorf("lock %q: %w", f.Name(), err)
		}
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("lock %q: %w", f.Name(), ErrBusy)
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

func unlock(f *os.File, at int64) {
	// Fails only on a closed file, whose locks are gone.
	_, _ = flock(f, unix.F_OFD_SETLK, unix.F_UNLCK, at)
}

// lockedElsewhere reports whether another process holds any lock on the byte.
func lockedElsewhere(f *os.File, at int64) bool {
	lk, err := flock(f, unix.F_OFD_GETLK, unix.F_WRLCK, at)
	return err == nil && lk.Type != unix.F_UNLCK
}
