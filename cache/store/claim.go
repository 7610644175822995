package store

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// claim is this process's word that it fetches a block. File.mu guards it.
type claim struct {
	over  chan struct{} // closed by end
	ended bool          // the fetch is over, and the lock stays until the block is journalled
}

func (c *claim) end() {
	if !c.ended {
		c.ended = true
		close(c.over)
	}
}

// Claim says that the caller is about to fetch block b. ok is false if somebody else is on it, in this process or
// another: wait with WaitClaim, and look again. A claim that was granted has seen all that was journalled before, so
// the caller looks once more (Has) before it fetches. release is called once, after WriteBlock or on failure; other
// processes keep waiting after it until the block is journalled, so that they find it there.
//
// Claims are advice. They end with the process that has them; where the filesystem has no locks they are granted to
// everyone.
func (f *File) Claim(b int64) (release func(), ok bool) {
	if b < 0 || b >= MaxBlocks {
		return func() {}, true
	}
	c := &claim{over: make(chan struct{})}
	f.mu.Lock()
	old := f.claims[b]
	if old != nil && !old.ended {
		f.mu.Unlock()
		return nil, false
	}
	if old == nil { // else the lock is still ours
		if ok, err := tryLock(f.lock, unix.F_WRLCK, lockClaims+b); err == nil && !ok {
			f.mu.Unlock()
			return nil, false
		}
	}
	f.claims[b] = c
	f.mu.Unlock()
	f.refresh()
	return sync.OnceFunc(func() { f.endClaim(b, c) }), true
}

// endClaim gives the lock back, unless the block waits for the journal: then clean does.
func (f *File) endClaim(b int64, c *claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.end()
	if _, waits := f.dirty[b]; !waits && f.claims[b] == c {
		delete(f.claims, b)
		unlock(f.lock, lockClaims+b)
	}
}

// endClaims gives back all that wait for a journal that cannot be written: the others shall fetch for themselves.
func (f *File) endClaims() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for b, c := range f.claims {
		if c.ended {
			delete(f.claims, b)
			unlock(f.lock, lockClaims+b)
		}
	}
}

// WaitClaim waits until nobody else is fetching block b. If the fetch succeeded, the block is present then. The error
// is ctx's. A stopped process keeps its claims: bound the wait, and fetch without a claim after it.
func (f *File) WaitClaim(ctx context.Context, b int64) error {
	f.mu.RLock()
	c := f.claims[b]
	f.mu.RUnlock()
	if c != nil {
		select {
		case <-c.over:
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
	f.refresh()
	return nil
}

// refresh takes in other processes' records now.
func (f *File) refresh() {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	if err := f.catchUp(); err != nil {
		f.s.warn("cannot read journal", "file", f.key, "err", err)
	}
}
