package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// standing is what is known of a file as a whole. It alone decides whether a
// block may be served.
//
//	partial ──all here, sums match──► verified   (unverified without sums)
//	   │  ▲                              │
//	   │  └──── a block was lost ────────┘
//	   └────── a sum differs ──► corrupt: sticky, also after a restart
type standing struct {
	local   *local
	sums    []sums.Sum
	judge   Judge
	changed func(store.FileState)
	keep    func(*sums.Table)

	strict  atomic.Bool
	corrupt atomic.Pointer[CorruptError]
	whole   atomic.Bool // complete and checked, or there is nothing to check it against
	proven  atomic.Bool // the whole matched once, and every block has a sum of its own
	// withheld is the block that is handed out only after the whole has
	// matched, plus one; 0: none. It is the last one of a file that was missing.
	withheld atomic.Int64

	// mu guards what follows. Under it the store is called, and Changed and
	// Learned of the Spec, which must not call back.
	mu        sync.Mutex
	review    *review   // guarded by mu; the check under way
	checked   int64     // guarded by mu; bytes that the current or last check has seen
	matched   []string  // guarded by mu; the sums that did
	lastErr   error     // guarded by mu
	lastErrAt time.Time // guarded by mu
}

// review is one check of the whole. standing.mu guards it.
type review struct {
	tainted bool // a block was fetched again after it had been hashed
}

func newStanding(l *local, spec *Spec) *standing {
	s := &standing{local: l, sums: spec.Sums, judge: spec.Judge, changed: spec.Changed, keep: spec.Learned}
	switch {
	case l.sf.State() == store.Corrupt:
		s.corrupt.Store(&CorruptError{l.label, l.sf.Note()})
	case s.final():
		s.whole.Store(true)
	case s.needsWhole() && l.complete():
		// A sequential reader reads the last block last.
		for b := l.blocks() - 1; b >= 0; b-- {
			if !l.zero(b) {
				s.withheld.Store(b + 1)
				break
			}
		}
	}
	return s
}

// final reports whether the store has a verdict and the file is still all here.
func (s *standing) final() bool {
	switch s.local.sf.State() {
	case store.Verified, store.Unverified:
		return s.local.size.Load() >= 0 && s.local.sf.NextMissing(0) >= s.local.blocks()
	}
	return false
}

// needsWhole reports whether only a check of the whole can find a wrong byte.
func (s *standing) needsWhole() bool { return len(s.sums) > 0 || s.judge != nil }

// permit says what a reader has to do to get a block.
type permit int

const (
	serve permit = iota // nothing
	await               // wait for a check of the whole, and ask again
)

// of decides about block b, which is here. An error means that no block of the
// file is served any more.
func (s *standing) of(b int64) (permit, error) {
	if bad := s.corrupt.Load(); bad != nil {
		return await, bad
	}
	if s.whole.Load() {
		return serve, nil
	}
	if s.strict.Load() {
		if s.proven.Load() {
			return serve, nil
		}
		return await, nil
	}
	if !s.needsWhole() || s.local.known(b) {
		return serve, nil
	}
	if w := s.withheld.Load(); w != 0 {
		if w == b+1 {
			return await, nil
		}
		return serve, nil
	}
	if s.local.complete() && s.withhold(b) { // another process has brought the last block
		return await, nil
	}
	return serve, nil
}

// fetchable reports whether block b may be served as it is fetched. Else only a
// check of the whole vouches for it.
func (s *standing) fetchable(b int64) bool { return !s.strict.Load() || s.local.known(b) }

// ofFetched decides about block b, which was fetchable and has just come.
func (s *standing) ofFetched(b int64) (permit, error) {
	if s.strict.Load() {
		return serve, nil
	}
	return s.of(b)
}

// withhold holds block b back until the whole has matched. It reports false if
// that is needless, or if another one is held back.
func (s *standing) withhold(b int64) bool {
	return s.needsWhole() && !s.whole.Load() && !s.local.known(b) && s.withheld.CompareAndSwap(0, b+1)
}

// refetched takes note that block b comes from the source. Of a file that has a
// verdict it was lost before, by eviction or damage, and only the whole was
// checked: it is partial again.
func (s *standing) refetched(b int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.review != nil && b*s.local.bs < s.checked {
		s.review.tainted = true
	}
	s.whole.Store(false)
	switch s.local.sf.State() {
	case store.Corrupt: // as another process has found
		s.corrupt.CompareAndSwap(nil, &CorruptError{s.local.label, s.local.sf.Note()})
		return
	case store.Partial:
		return // the store itself takes Verified back when it loses a block
	}
	if err := s.local.sf.SetState(store.Partial, "blocks were lost and fetched again"); err != nil {
		s.local.s.log.Warn("cannot note that a file is partial again", "file", s.local.label, "error", err)
	}
}

// damaged takes note that a complete file is complete no more.
func (s *standing) damaged() { s.whole.Store(false) }

// confirm reports whether the file needs no check: it has its verdict.
func (s *standing) confirm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.final() {
		return false
	}
	s.whole.Store(true)
	s.withheld.Store(0)
	return true
}

// begin begins a check of the whole. Only the verdict of the last one counts.
func (s *standing) begin() *review {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.review, s.checked = &review{}, 0
	return s.review
}

// seen takes note that a check has seen n bytes.
func (s *standing) seen(r *review, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.review == r {
		s.checked = n
	}
}

// conclude gives the verdict of a check that has seen all blocks. again: a
// block was lost meanwhile, and the check has to be repeated. learned are the
// sums of all blocks, or nil; they are forgotten unless they count from now on.
func (s *standing) conclude(ctx context.Context, r *review, d sums.Digests, learned *sums.Table) (again bool, err error) {
	l := s.local
	kept := false
	defer func() {
		if !kept {
			l.forget(learned)
		}
	}()
	state, note, matched := s.verdict(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.corrupt.Load() != nil:
		return false, s.corrupt.Load()
	case state == store.Corrupt:
		return false, s.poisonLocked(note)
	case state == store.Partial:
		return false, fmt.Errorf("%q cannot be checked now: %s", l.label, note)
	case ctx.Err() != nil:
		return false, ctx.Err()
	case s.review != r:
		return false, context.Canceled // another check has begun
	}
	if !r.tainted {
		s.withheld.Store(0)
	}
	if state == store.Verified && !r.tainted && (learned != nil || l.allKnown()) {
		// Also where the disk did not take all of it: what is fetched again has to be the same.
		if learned != nil {
			l.forget(l.learned.Swap(learned))
			kept = true
			s.keep(learned)
		}
		s.proven.Store(true)
	}
	if b := l.sf.NextMissing(0); b < l.blocks() {
		return false, &UnkeptError{l.label, b, state}
	}
	if r.tainted {
		return true, fmt.Errorf("check %q: blocks keep being lost from the cache", l.label)
	}
	s.checked = l.size.Load()
	return false, s.setLocked(state, note, matched)
}

// verdict says what the bytes that were hashed are, and why in a clause.
func (s *standing) verdict(ctx context.Context, d sums.Digests) (state store.FileState, note string, matched []string) {
	ok, matched, mismatch := d.Compare()
	switch {
	case s.judge != nil:
		state, note = s.judge(ctx, ok)
	case mismatch != "":
		state, note = store.Corrupt, mismatch
	case len(matched) > 0:
		state = store.Verified
	case s.local.allKnown():
		state, note = store.Verified, everyBlock
	default:
		state = store.Unverified
	}
	return state, note, matched
}

// settle gives its verdict to a file that is being closed, if all of it is here
// and that takes no reading: every block was compared as it came, or there is
// nothing to compare with.
func (s *standing) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole.Load() || s.corrupt.Load() != nil || s.needsWhole() || !s.local.complete() || !s.local.keepZeros() {
		return
	}
	state, note := store.Unverified, ""
	if s.local.allKnown() {
		state, note = store.Verified, everyBlock
	}
	if err := s.setLocked(state, note, nil); err != nil {
		s.local.s.log.Warn("cannot note the state of a file", "file", s.local.label, "error", err)
	}
}

const everyBlock = "every block matches its own sum"

// setLocked records a verdict on a file that is all here. mu is held.
func (s *standing) setLocked(state store.FileState, note string, matched []string) error {
	if err := s.local.sf.SetState(state, note); err != nil {
		return fmt.Errorf("note that %q is %s: %w", s.local.label, state, err)
	}
	s.matched = matched
	s.whole.Store(true)
	s.tell(state)
	return nil
}

// poison makes the file corrupt, for ever. The store gives up its blocks.
func (s *standing) poison(reason string) *CorruptError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poisonLocked(reason)
}

// poisonLocked is poison; mu is held.
func (s *standing) poisonLocked(reason string) *CorruptError {
	e := &CorruptError{s.local.label, reason}
	if !s.corrupt.CompareAndSwap(nil, e) {
		return s.corrupt.Load()
	}
	s.failedLocked(e)
	s.whole.Store(false)
	log := s.local.s.log
	log.Error("file is corrupt", "file", s.local.label, "reason", reason)
	if err := s.local.sf.SetState(store.Corrupt, reason); err != nil {
		log.Error("cannot note that a file is corrupt", "file", s.local.label, "error", err)
	}
	s.tell(store.Corrupt)
	return e
}

// tell tells the owner of the file.
func (s *standing) tell(state store.FileState) {
	if s.changed != nil {
		s.changed(state)
	}
}

// failed remembers an error for Status.
func (s *standing) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failedLocked(err)
}

// failedLocked is failed; mu is held.
func (s *standing) failedLocked(err error) {
	if errors.Is(err, errAbandoned) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) { // the end of what was of unknown length
		return
	}
	s.lastErr, s.lastErrAt = err, time.Now()
}
