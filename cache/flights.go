package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/tasks"
	"vmcastfs/cache/trace"
)

// flight is one block on its way. There is at most one per block.
//
//	wanted ──► arriving ──► handed over (buf set, done closed) ──► on disk (left the table)
//	   └───────────┴──────► failed      (err set, done closed, left the table at once)
//
// It leaves the table only after the write to disk, so a reader always finds
// the block in the table or on the disk. flights.mu guards its fields, but for alone.
type flight struct {
	b       int64
	seq     uint64
	urgency source.Urgency // the highest that was asked for
	ahead   bool           // the first to ask for it did not wait for it
	listed  bool           // a profile asked for it
	job     *job           // nil with a forward source
	arrives bool           // a forward source is producing it now
	alone   bool           // no other file has it after all; for the goroutine of its job
	settle  func(bool)     // of the mirror that gave a wrong block; nil: none did
	tries   int            // times that the content did not match its sum
	waiters int
	done    chan struct{} // closed with buf or err set
	gone    chan struct{} // closed when it has left the table
	buf     *buffer       // one reference while in the table, one per waiter
	err     error
}

// flights brings the missing blocks of a file: it fetches each once, checks it,
// hands it to all that wait for it, and writes it to disk.
type flights struct {
	s        *shared
	local    *local
	standing *standing
	tasks    *tasks.Tasks
	source   source.Source
	origin   *origin
	copies   Copies
	mirrored func() bool     // Spec.Shared; may be nil
	cut      map[int64]span  // of Spec.Expected: the piece that a block is in, see cut
	recorder *trace.Recorder // or nil
	runner   *runner         // nil for a source with random access
	allHere  func()          // called, without a lock, when no block is missing any more

	full      atomic.Bool              // the disk refused the last block
	following atomic.Pointer[follower] // nil: no profile
	unread    atomic.Pointer[unread]   // nil: nothing was fetched ahead
	alone     atomic.Int64             // claims of others are ignored until then, UnixNano
	aloneFor  atomic.Int64             // for how long that was the last time, ns; 0 after a wait that paid

	// mu guards what follows, and the fields of flights, jobs, the runner and
	// the follower. It comes after Cache.mu and before the store's own locks and
	// tasks.mu and standing.mu. Under it are called: the store (memory, now and
	// then a journal), BlockSums.Known and Forward.Start, which must not call back.
	mu      sync.Mutex
	table   map[int64]*flight // guarded by mu; blocks on their way
	seq     uint64            // guarded by mu; of flights, in order of arrival
	awaited int64             // guarded by mu; what arrival is for
	arrival chan struct{}     // guarded by mu; nil, or closed when awaited leaves the table
}

// maxRun bounds how many blocks one acquire asks for, and so how many buffers
// a reader can hold.
func (fl *flights) maxRun() int { return int(max(1, min(32, (2<<20)/fl.local.bs))) }

// add puts block b into the table; mu is held.
func (fl *flights) add(b int64, u source.Urgency) *flight {
	fl.seq++
	f := &flight{b: b, seq: fl.seq, urgency: u, ahead: u != source.Demand, done: make(chan struct{}), gone: make(chan struct{})}
	fl.table[b] = f
	return f
}

// join adds a waiter; mu is held.
func (f *flight) join(u source.Urgency) {
	f.urgency = min(f.urgency, u)
	if f.buf != nil {
		f.buf.ref()
		return
	}
	f.waiters++
	if f.job != nil {
		f.job.waiters++
	}
}

// want says what an acquire is for.
type want struct {
	urgency source.Urgency
	wide    bool // of a miss, the region around it is fetched too
}

// acquire joins or starts the fetch of block b. It goes on to block last, or to
// the first one that is here already. The caller must wait for, or leave, each
// flight. None: block b is here.
func (fl *flights) acquire(b, last int64, w want) []*flight {
	if w.urgency == source.Demand {
		fl.s.lastMiss.Store(time.Now().UnixNano())
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if err := fl.over(); err != nil {
		f := &flight{b: b, done: make(chan struct{}), err: err}
		close(f.done)
		return []*flight{f}
	}
	var all, fresh []*flight
	for x := b; x <= last && len(all) < fl.maxRun(); x++ {
		f := fl.table[x]
		if f == nil {
			if x != endBlock && (x >= fl.local.blocks() || fl.local.here(x)) || x == endBlock && fl.local.size.Load() >= 0 {
				break
			}
			f = fl.add(x, w.urgency)
			fresh = append(fresh, f)
		} else if w.urgency == source.Demand && f.urgency != source.Demand {
			fl.s.count.aheadHits.Add(1)
		}
		all = append(all, f)
	}
	if fl.runner != nil {
		fl.runner.want(fresh)
	} else {
		fl.plan(fresh, w)
	}
	for _, f := range all {
		f.join(w.urgency)
	}
	return all
}

// over is why no block is fetched any more, or nil.
func (fl *flights) over() error {
	if bad := fl.standing.corrupt.Load(); bad != nil {
		return bad
	}
	if fl.tasks.Context().Err() != nil {
		return ErrClosed
	}
	return nil
}

// wait returns the block with a reference for the caller.
func (fl *flights) wait(ctx context.Context, closing <-chan struct{}, f *flight) (*buffer, error) {
	select {
	case <-f.done:
		return f.buf, f.err
	case <-ctx.Done():
		fl.leave(f)
		return nil, ctx.Err()
	case <-closing:
		fl.leave(f)
		return nil, ErrClosed
	}
}

// leave gives up waiting for a flight.
func (fl *flights) leave(f *flight) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	switch {
	case f.err != nil:
	case f.buf != nil:
		f.buf.release()
	default:
		f.waiters--
		if f.job != nil {
			f.job.waiters--
		} else if f.waiters == 0 && !f.arrives {
			// Nothing is under way for this block in particular.
			f.err = errAbandoned
			fl.remove(f)
			close(f.done)
		}
	}
}

// notify returns a channel that is closed when block b has come, or its flight
// has failed. One block is watched for at a time: the last one asked for.
func (fl *flights) notify(b int64) <-chan struct{} {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if f := fl.table[b]; f != nil {
		return f.gone
	}
	fl.awaited, fl.arrival = b, make(chan struct{})
	return fl.arrival
}

// remove takes a flight out of the table; mu is held.
func (fl *flights) remove(f *flight) {
	if fl.table[f.b] != f {
		return
	}
	delete(fl.table, f.b)
	close(f.gone)
	if fl.arrival != nil && fl.awaited == f.b {
		close(fl.arrival)
		fl.arrival = nil
	}
}

// fail wakes everyone who waits for the flights with err and leaves their
// blocks absent; mu is held.
func (fl *flights) fail(list []*flight, err error) {
	fl.standing.failed(err)
	for _, f := range list {
		if f.err != nil || f.buf != nil {
			continue
		}
		f.err = err
		f.acquit()
		fl.remove(f)
		close(f.done)
	}
}

// acquit ends the accusation of a mirror that gave nothing worse than the origin; mu
// is held.
func (f *flight) acquit() {
	if f.settle != nil {
		f.settle(false)
		f.settle = nil
	}
}

// failFrom fails all flights from block b on; mu is held.
func (fl *flights) failFrom(b int64, err error) {
	var list []*flight
	for _, f := range fl.table {
		if f.b >= b {
			list = append(list, f)
		}
	}
	fl.fail(list, err)
}

// landing are the flights that were handed over and are being written.
func (fl *flights) landing() (list []*flight) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, f := range fl.table {
		if f.buf != nil {
			list = append(list, f)
		}
	}
	return list
}
