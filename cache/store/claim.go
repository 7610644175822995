package store

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// claims are this process's word that it fetches blocks of a file.
type claims struct {
	lock *os.File // its bytes from lockClaims on; set before the first use

	// mu guards what follows. It is held for memory and one fcntl. No lock is taken under it.
	mu   sync.Mutex
	held map[int64]*claim // guarded by mu
}

type claim struct {
	over  chan struct{} // closed when the fetch is over
	ended bool          // guarded by claims.mu; it is over, and the lock stays until the block is journalled
}

// take claims block b; nil if somebody else is on it.
func (cs *claims) take(b int64) *claim {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	old := cs.held[b]
	if old != nil && !old.ended {
		return nil
	}
	if old == nil { // else the lock is still ours
		if ok, err := tryLock(cs.lock, unix.F_WRLCK, lockClaims+b); err == nil && !ok {
			return nil
		}
	}
	c := &claim{over: make(chan struct{})}
	cs.held[b] = c
	return c
}

// end tells the waiters of this process that a fetch is over.
func (cs *claims) end(c *claim) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.end()
}

// end tells the waiters, once. The caller holds claims.mu.
func (c *claim) end() {
	if !c.ended {
		c.ended = true
		close(c.over)
	}
}

// journalled gives the lock of block b back if its fetch is over.
func (cs *claims) journalled(b int64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.giveBack(b)
}

// giveBack gives the lock of block b back if its fetch is over. The caller holds mu.
func (cs *claims) giveBack(b int64) {
	if c := cs.held[b]; c != nil && c.ended {
		delete(cs.held, b)
		unlock(cs.lock, lockClaims+b)
	}
}

// giveUp gives back all locks that wait for a journal that cannot be written: other processes shall
// fetch for themselves.
func (cs *claims) giveUp() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for b := range cs.held {
		cs.giveBack(b)
	}
}

// endAll ends the claims of a file that is being closed, which gives up its locks.
func (cs *claims) endAll() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.held {
		c.end()
	}
	cs.held = map[int64]*claim{}
}

// over is closed when this process's own fetch of block b is over; nil if there is none.
func (cs *claims) over(b int64) <-chan struct{} {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.held[b]; c != nil {
		return c.over
	}
	return nil
}

// Claim says that the caller is about to fetch block b. ok is false if somebody else is on it, in this
// process or another: wait with WaitClaim, and look again. A claim that was granted has seen all that
// was journalled before, so the caller looks once more (Has) before it fetches. release is called once,
// after WriteBlock or on failure. Other processes keep waiting after it until the block is journalled,
// so that they find it there.
//
// Claims are advice. They end with the process that has them. Where the filesystem has no locks they
// are granted to everyone.
func (f *File) Claim(b int64) (release func(), ok bool) {
	if b < 0 || b >= MaxBlocks {
		return func() {}, true
	}
	c := f.claims.take(b)
	if c == nil {
		return nil, false
	}
	f.j.refresh()
	return sync.OnceFunc(func() {
		f.claims.end(c)
		if !f.present.waits(b) { // else the lock stays until the flusher has journalled the block
			f.claims.journalled(b)
		}
	}), true
}

// WaitClaim waits until nobody else is fetching block b. If the fetch succeeded, the block is present
// then. The error is ctx's. A stopped process keeps its claims, and a slow one may take long: bound the
// wait, and fetch without a claim after it.
func (f *File) WaitClaim(ctx context.Context, b int64) error {
	if over := f.claims.over(b); over != nil {
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := time.Millisecond; lockedElsewhere(f.lock, lockClaims+b); wait = min(2*wait, 16*time.Millisecond) {
		pause.Reset(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.j.refresh()
	return nil
}
