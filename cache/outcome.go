package cache

import "sync/atomic"

// outcome is how a read was answered.
type outcome int

const (
	hit outcome = iota // every block was here, and had been read before or fetched on demand
	// prefetchHit: every block was here or on its way without a reader having
	// asked for it, and one of them at least for the first time.
	prefetchHit
	miss // it waited for what a reader had to ask for, itself or another
	outcomes
)

// unread remembers which blocks were fetched ahead and not read yet. It forgets
// some: places are few, and each holds one block.
type unread []atomic.Int64 // block number plus one

// unreadMost is how many places there are at most.
const unreadMost = 256

func (u unread) note(b int64) { u[b%int64(len(u))].Store(b + 1) }

// take reports whether b was noted, once.
func (u *unread) take(b int64) bool {
	if u == nil {
		return false
	}
	p := &(*u)[b%int64(len(*u))]
	return p.Load() == b+1 && p.CompareAndSwap(b+1, 0)
}

// noteUnread: block b has come and no reader has asked for it; mu is held.
func (fl *flights) noteUnread(b int64) {
	u := fl.unread.Load()
	if u == nil {
		places := make(unread, min(unreadMost, fl.local.blocks()))
		u = &places
		fl.unread.Store(u)
	}
	u.note(b)
}

// arrival is the outcome for a reader that waits for the flights.
func arrival(list []*flight) outcome {
	for _, f := range list {
		if !f.ahead {
			return miss
		}
	}
	return prefetchHit
}
