package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	leaseTime  = 2 * time.Second // after which others' writes are looked at again
	leaseShare = 8               // a lease is this part of the room left: so many processes can take one at once
	leaseMax   = 256 << 20
	// evictPatience is how long a process waits for another that makes room, before it answers ErrFull.
	evictPatience = time.Second

	fullTime = 250 * time.Millisecond // how long ErrFull is answered without looking again
)

// quota keeps the disk within a limit and above a floor of free space. The truth is what the filesystem
// says is allocated, for all processes. Between two looks a process writes within a lease, which is a
// part of the room that was left.
type quota struct {
	limit, minFree int64                          // bytes; 0: none
	lock           *os.File                       // byte lockEvict of it
	used           func() int64                   // bytes of disk that the cache takes
	free           func() (int64, error)          // bytes that the filesystem has left
	evict          func(want int64) (freed int64) // called with mu and the lock byte held

	// mu guards what follows. It is held while looking and evicting, both IO. It comes first in the lock
	// order.
	mu        sync.Mutex
	fullUntil time.Time // guarded by mu
	floor     bool      // guarded by mu; it is the floor, not the limit, that left no room

	lease    atomic.Int64 // bytes that may still be reserved without looking
	expires  atomic.Int64 // when the lease ends, ns
	reserved atomic.Int64 // bytes ever reserved
	written  atomic.Int64 // of those, bytes that are on the disk
}

// reserve asks for n bytes of disk. What is reserved is later added to quota.written, or taken back.
func (q *quota) reserve(n int64) error {
	if q.limit <= 0 && q.minFree <= 0 {
		return nil
	}
	q.reserved.Add(n)
	if time.Now().UnixNano() < q.expires.Load() && q.lease.Add(-n) >= 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Now().UnixNano() < q.expires.Load() && q.lease.Add(-n) >= 0 {
		return nil // somebody else looked
	}
	if !q.look() {
		q.reserved.Add(-n)
		if q.floor {
			return errFloor
		}
		return errLimit
	}
	return nil
}

// makeRoom evicts about n bytes at least because the disk itself is full; it reports whether it found any.
func (q *quota) makeRoom(n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Now().Before(q.fullUntil) {
		return false
	}
	freed := int64(0)
	if waitLock(q.lock, unix.F_WRLCK, lockEvict, evictPatience) == nil {
		freed = q.evict(max(n, 1<<20))
		unlock(q.lock, lockEvict)
	}
	if freed < n {
		q.fullUntil = time.Now().Add(fullTime)
	}
	return freed >= n
}

// trim makes room when there is too little although nobody writes: the limit was lowered, or others fill the disk.
func (q *quota) trim() {
	if q.limit <= 0 && q.minFree <= 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if waitLock(q.lock, unix.F_WRLCK, lockEvict, evictPatience) != nil {
		return
	}
	defer unlock(q.lock, lockEvict)
	if room := q.room(); room < 0 {
		q.evict(-room)
	}
}

// look measures, makes room if more is reserved than there is, and takes a new lease. The caller holds
// quota.mu and has reserved what it needs.
func (q *quota) look() bool {
	q.lease.Store(math.MinInt64 / 2)
	if time.Now().Before(q.fullUntil) {
		return false
	}
	// Measuring is no snapshot: what others evict from one file and write to the next meanwhile could go unseen.
	// So only one process at a time looks, and while it does no other takes a lease.
	room := int64(-1)
	if waitLock(q.lock, unix.F_WRLCK, lockEvict, evictPatience) == nil {
		if room = q.room(); room < 0 {
			// Some slack, so that not every block has to make room for itself.
			q.evict(-room + q.limit/32)
			room = q.room()
		}
		unlock(q.lock, lockEvict)
	}
	if room < 0 {
		q.fullUntil = time.Now().Add(fullTime)
		return false
	}
	q.lease.Store(min(room/leaseShare, leaseMax))
	q.expires.Store(time.Now().Add(leaseTime).UnixNano())
	return true
}

// room is how many bytes can be written beyond those reserved; negative if those are too many already. What is being
// written while we measure counts twice rather than not at all. The caller holds quota.mu.
func (q *quota) room() int64 {
	written := q.written.Load()
	room := int64(math.MaxInt64)
	if q.limit > 0 {
		room = q.limit - q.used() - (q.reserved.Load() - written)
	}
	if q.minFree > 0 {
		if free, err := q.free(); err == nil {
			above := free - q.minFree - (q.reserved.Load() - written)
			q.floor = above < room
			room = min(room, above)
		}
	}
	return room
}

// Why a block is refused that the disk itself would take.
var (
	errLimit = fmt.Errorf("%w: its limit is reached, and the rest of it is in use or kept", ErrFull)
	errFloor = fmt.Errorf("%w: its disk has no more than what is to be left free", ErrFull)

	errReadOnly = fmt.Errorf("%w: its disk is read-only", ErrFailing)
	errRemoved  = fmt.Errorf("%w: nothing can be kept", ErrFull)
)

// refusal is a block that was refused.
type refusal struct {
	at      time.Time
	why     string
	failing bool
}

// why is the reason in a word or two, and without a path.
func why(err error) string {
	var e unix.Errno
	switch {
	case errors.Is(err, errLimit):
		return "limit"
	case errors.Is(err, errFloor):
		return "floor"
	case errors.Is(err, errReadOnly):
		return "read-only"
	case errors.Is(err, errRemoved):
		return "its directory was removed"
	case errors.As(err, &e):
		return e.Error()
	}
	return err.Error()
}
