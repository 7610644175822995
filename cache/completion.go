package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/cache/tasks"
	"vmcastfs/xvm/sums"
)

// completion walks over a file in order. Each walk makes the blocks present and
// computes the sums, so completing is verifying.
type completion struct {
	local    *local
	standing *standing
	flights  *flights
	tasks    *tasks.Tasks
	sums     []sums.Sum
	learned  func(*sums.Table) // Spec.Learned
	checking atomic.Bool       // now is at work

	// mu guards what follows, and the fields of pass. Only tasks.mu is taken
	// under it.
	mu         sync.Mutex
	pass       *pass    // guarded by mu; the walk under way
	background interest // guarded by mu; how much the walk behind the readers wants
	behind     bool     // guarded by mu; there is one
}

// interest is how much somebody wants a file to be completed.
type interest int

const (
	follow  interest = iota // hash what readers bring, as it comes, and fetch nothing
	leisure                 // fetch when readers leave room
	eager                   // somebody waits
	reading                 // a read waits
	interests
)

// pass is one completion of a file. completion.mu guards its fields.
type pass struct {
	done   chan struct{} // closed with err set
	err    error
	cancel context.CancelFunc
	wake   chan struct{} // holds a token when somebody wants it more
	users  [interests]int
}

// most is the greatest interest in a pass.
func (cp *completion) most(p *pass) interest {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	for i := reading; i > follow; i-- {
		if p.users[i] > 0 {
			return i
		}
	}
	return cp.background
}

// run joins the walk over the file, or begins one. It returns nil once the file
// is verified, or complete with nothing to check it against. ctx and closing
// end the waiting, and the work too if nobody else wants it.
func (cp *completion) run(ctx context.Context, closing <-chan struct{}, as interest) error {
	if bad := cp.standing.corrupt.Load(); bad != nil {
		return bad
	}
	if cp.standing.confirm() {
		return nil
	}
	p := cp.join(as)
	if p == nil {
		return ErrClosed
	}
	err := ErrClosed
	select {
	case <-p.done:
		err = p.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-closing:
	}
	cp.leave(p, as)
	return err
}

// join returns the walk under way with one user more, or nil if the file is closed.
func (cp *completion) join(as interest) *pass {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	p := cp.pass
	if p == nil {
		p = &pass{done: make(chan struct{}), wake: make(chan struct{}, 1)}
		var ctx context.Context
		ctx, p.cancel = context.WithCancel(cp.tasks.Context())
		if !cp.tasks.Run(func(context.Context) { cp.work(ctx, p) }) {
			p.cancel()
			return nil
		}
		cp.pass = p
	}
	p.users[as]++
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return p
}

// leave takes a user away; the last one ends the walk.
func (cp *completion) leave(p *pass, as interest) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if p.users[as]--; p.users != [interests]int{} {
		return
	}
	p.cancel()
	if cp.pass == p {
		cp.pass = nil // the next one begins anew
	}
}

func (cp *completion) work(ctx context.Context, p *pass) {
	defer p.cancel()
	var err error
	for range 3 { // again if a block was lost behind our back
		r := cp.standing.begin()
		var d sums.Digests
		var learned *sums.Table
		if d, learned, err = cp.walk(ctx, p, r); err != nil {
			break
		}
		var again bool
		if again, err = cp.standing.conclude(ctx, r, d, learned); !again {
			break
		}
	}
	if err != nil {
		cp.standing.failed(err)
	}
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.pass == p {
		cp.pass = nil
	}
	p.err = err
	close(p.done)
}

// inBackground completes the file behind its readers: with interest leisure, or
// follow to fetch nothing for it.
func (cp *completion) inBackground(as interest) {
	cp.mu.Lock()
	cp.background = max(cp.background, as)
	cp.mu.Unlock()
	cp.again()
}

// again completes the file in the background once more if that has ended: after
// a block was found damaged on the disk. (Not after an eviction: a cache that is
// too small would fetch for ever.)
func (cp *completion) again() {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.behind || cp.standing.corrupt.Load() != nil {
		return
	}
	cp.behind = cp.tasks.Run(func(ctx context.Context) {
		defer func() {
			cp.mu.Lock()
			cp.behind = false
			cp.mu.Unlock()
		}()
		const first, last = 30 * time.Second, 10 * time.Minute
		for delay := first; ; delay = min(2*delay, last) {
			err := cp.run(ctx, nil, follow)
			if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrTooLarge) || errors.Is(err, store.ErrFull) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
		}
	})
}

// now checks a file whose blocks are all here.
func (cp *completion) now() {
	if cp.standing.whole.Load() || !cp.checking.CompareAndSwap(false, true) {
		return
	}
	if !cp.tasks.Run(func(ctx context.Context) {
		defer cp.checking.Store(false)
		_ = cp.run(ctx, nil, eager) // its error is in Status
	}) {
		cp.checking.Store(false)
	}
}

// Complete fetches what is missing and checks the whole file. It returns nil
// once the file is verified, or complete with nothing to check it against;
// progress is in Status. ctx ends the waiting, and the work too if nobody else
// wants it.
func (h *File) Complete(ctx context.Context) error {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return ErrClosed
	}
	return h.e.completion.run(ctx, h.closing, eager)
}
