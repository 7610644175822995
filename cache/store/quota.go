package store

import (
	"errors"
	"fmt"
	"math"
	"strings"
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

// quota keeps the disk within Limit and MinFree. The truth is what the filesystem says is allocated, for all
// processes; between two looks a process writes within a lease, a part of the room that was left.
type quota struct {
	// mu is held while looking and evicting, both IO. It is the first in the lock order.
	mu        sync.Mutex
	fullUntil time.Time
	floor     bool // it is the floor, not the limit, that left no room

	lease    atomic.Int64 // bytes that may still be reserved without looking
	expires  atomic.Int64 // when the lease ends, ns
	reserved atomic.Int64 // bytes ever reserved
	written  atomic.Int64 // of those, bytes that are on the disk
}

// reserve asks for n bytes of disk. What is reserved is later added to quota.written, or taken back.
func (s *Store) reserve(n int64) error {
	if s.opt.Limit <= 0 && s.opt.MinFree <= 0 {
		return nil
	}
	q := &s.quota
	q.reserved.Add(n)
	if time.Now().UnixNano() < q.expires.Load() && q.lease.Add(-n) >= 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Now().UnixNano() < q.expires.Load() && q.lease.Add(-n) >= 0 {
		return nil // somebody else looked
	}
	if !s.look() {
		q.reserved.Add(-n)
		if q.floor {
			return errFloor
		}
		return errLimit
	}
	return nil
}

// makeRoom evicts about n bytes at least because the disk itself is full; it reports whether it found any.
func (s *Store) makeRoom(n int64) bool {
	q := &s.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Now().Before(q.fullUntil) {
		return false
	}
	freed := int64(0)
	if waitLock(s.lock, unix.F_WRLCK, lockEvict, evictPatience) == nil {
		freed = s.evict(max(n, 1<<20))
		unlock(s.lock, lockEvict)
	}
	if freed < n {
		q.fullUntil = time.Now().Add(fullTime)
	}
	return freed >= n
}

// trim makes room where there is too little although nobody writes: the limit was lowered, or others fill the disk.
func (s *Store) trim() {
	if s.opt.Limit <= 0 && s.opt.MinFree <= 0 {
		return
	}
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	if waitLock(s.lock, unix.F_WRLCK, lockEvict, evictPatience) != nil {
		return
	}
	defer unlock(s.lock, lockEvict)
	if room := s.room(); room < 0 {
		s.evict(-room)
	}
}

// look measures, makes room if more is reserved than there is, and takes a new lease. The caller holds
// quota.mu and has reserved what it needs.
func (s *Store) look() bool {
	q := &s.quota
	q.lease.Store(math.MinInt64 / 2)
	if time.Now().Before(q.fullUntil) {
		return false
	}
	// Measuring is no snapshot: what others evict from one file and write to the next meanwhile could go unseen.
	// So only one process at a time looks, and while it does no other takes a lease.
	room := int64(-1)
	if waitLock(s.lock, unix.F_WRLCK, lockEvict, evictPatience) == nil {
		if room = s.room(); room < 0 {
			// Some slack, so that not every block has to make room for itself.
			s.evict(-room + s.opt.Limit/32)
			room = s.room()
		}
		unlock(s.lock, lockEvict)
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
func (s *Store) room() int64 {
	q := &s.quota
	written := q.written.Load()
	room := int64(math.MaxInt64)
	if s.opt.Limit > 0 {
		room = s.opt.Limit - s.usage() - (q.reserved.Load() - written)
	}
	if s.opt.MinFree > 0 {
		if free, err := s.free(); err == nil {
			above := free - s.opt.MinFree - (q.reserved.Load() - written)
			q.floor = above < room
			room = min(room, above)
		}
	}
	return room
}

func (s *Store) free() (int64, error) {
	var st unix.Statfs_t
	if err := control(s.files.f, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return 0, err
	}
	return int64(min(st.Bavail, math.MaxInt64/uint64(st.Bsize))) * st.Bsize, nil
}

// usage is what all data files take on the disk, those on their way out included.
func (s *Store) usage() int64 {
	names, err := s.files.names()
	if err != nil {
		return math.MaxInt64 / 2 // unknown is too much
	}
	var sum int64
	for _, n := range names {
		if strings.HasSuffix(n, dataSuffix) || strings.HasPrefix(n, gonePrefix) {
			if st, err := s.files.stat(n); err == nil {
				sum += st.Blocks * 512
			}
		}
	}
	return sum
}

// Why a block is refused that the disk itself would take.
var (
	errLimit = fmt.Errorf("%w: its limit is reached, and the rest of it is in use or kept", ErrFull)
	errFloor = fmt.Errorf("%w: its disk has no more than what is to be left free", ErrFull)

	errRemoved = fmt.Errorf("%w: nothing can be kept", ErrFull)
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
	case errors.Is(err, errRemoved):
		return "its directory was removed"
	case errors.As(err, &e):
		return e.Error()
	}
	return err.Error()
}
