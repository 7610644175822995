package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// maxRun bounds how many blocks one acquire asks for, and so how many buffers
// a reader can hold.
func (f *content) maxRun() int { return int(max(1, min(32, (2<<20)/f.bs))) }

// entry is one block on its way: at most one per block, whoever wants it.
//
//	wanted ──► arriving ──► published (buf set, done closed) ──► on disk (left the table)
//	   └───────────┴──────► failed    (err set, done closed, left the table at once)
//
// It leaves the table only after the write to disk, so a reader always finds
// the block in the table or on the disk.
type entry struct {
	b       int64
	seq     uint64
	urgency source.Urgency // of whoever asked most urgently
	ahead   bool           // who asked first did not wait for it
	job     *job           // nil with a forward source
	arrives bool           // a forward source is producing it now
	alone   bool           // no other file has it after all
	tries   int            // times that the content did not match its sum
	waiters int
	done    chan struct{} // closed with buf or err set
	gone    chan struct{} // closed when it has left the table
	buf     *buffer       // one reference while in the table, one per waiter
	err     error
}

// newEntry puts block b into the table; f.mu is held.
func (f *content) newEntry(b int64, u source.Urgency) *entry {
	f.seq++
	e := &entry{b: b, seq: f.seq, urgency: u, ahead: u != source.Demand, done: make(chan struct{}), gone: make(chan struct{})}
	f.flight[b] = e
	return e
}

// join adds a waiter; f.mu is held.
func (e *entry) join(u source.Urgency) {
	e.urgency = min(e.urgency, u)
	if e.buf != nil {
		e.buf.ref()
		return
	}
	e.waiters++
	if e.job != nil {
		e.job.waiters++
	}
}

// acquire joins or starts the fetch of block b, and of the blocks after it up
// to last or to the first one that is here already. The caller must wait for,
// or leave, each entry. None: block b is here.
// wide: of a miss, the region around it is fetched too.
func (f *content) acquire(b, last int64, u source.Urgency, wide bool) []*entry {
	if u == source.Demand {
		f.c.lastMiss.Store(time.Now().UnixNano())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.over(); err != nil {
		e := &entry{b: b, done: make(chan struct{}), err: err}
		close(e.done)
		return []*entry{e}
	}
	var all, fresh []*entry
	for x := b; x <= last && len(all) < f.maxRun(); x++ {
		e := f.flight[x]
		if e == nil {
			if x != endBlock && (x >= f.blocks() || f.here(x)) || x == endBlock && f.size.Load() >= 0 {
				break
			}
			e = f.newEntry(x, u)
			fresh = append(fresh, e)
		} else if u == source.Demand && e.urgency != source.Demand {
			f.c.count.aheadHits.Add(1)
		}
		all = append(all, e)
	}
	if f.fwd != nil {
		f.wantForward(fresh)
	} else {
		f.plan(fresh, u, wide)
	}
	for _, e := range all {
		e.join(u)
	}
	return all
}

// over is why no block is fetched any more, or nil; f.mu is held.
func (f *content) over() error {
	if bad := f.corrupt.Load(); bad != nil {
		return bad
	}
	if f.closed {
		return ErrClosed
	}
	return nil
}

// wait returns the block with a reference for the caller.
func (f *content) wait(ctx context.Context, closing <-chan struct{}, e *entry) (*buffer, error) {
	select {
	case <-e.done:
		return e.buf, e.err
	case <-ctx.Done():
		f.leave(e)
		return nil, ctx.Err()
	case <-closing:
		f.leave(e)
		return nil, ErrClosed
	}
}

// leave gives up waiting for an entry.
func (f *content) leave(e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case e.err != nil:
	case e.buf != nil:
		e.buf.release()
	default:
		e.waiters--
		if e.job != nil {
			e.job.waiters--
		} else if e.waiters == 0 && !e.arrives {
			// Nothing is under way for this block in particular.
			e.err = errAbandoned
			f.remove(e)
			close(e.done)
		}
	}
}

// remove takes an entry out of the table; f.mu is held.
func (f *content) remove(e *entry) {
	if f.flight[e.b] == e {
		delete(f.flight, e.b)
		close(e.gone)
	}
}

// fail wakes everyone who waits for the entries with err and leaves their
// blocks absent; f.mu is held.
func (f *content) fail(entries []*entry, err error) {
	f.failed(err)
	for _, e := range entries {
		if e.err != nil || e.buf != nil {
			continue
		}
		e.err = err
		f.remove(e)
		close(e.done)
	}
}

// check compares a block with its sum, if it has one.
func (f *content) check(b int64, data []byte) error {
	sums := f.blockSums()
	if sums == nil {
		return nil
	}
	want, zero, ok := sums.Sum(b)
	if !ok || zero {
		return nil
	}
	if got := sha256.Sum256(data); got != want {
		f.c.count.wrong.Add(1)
		return &BlockError{File: f.spec.Label, Block: b, Off: b * f.bs, Got: got, Want: want}
	}
	return nil
}

// place is where else on the disk the bytes of a block are.
type place struct {
	file *store.File // nil: nowhere
	at   int64
}

// publish hands a checked block to everyone who waits for it, and then writes
// it to disk. It takes over buf.
func (f *content) publish(e *entry, buf *buffer, from place) {
	f.mu.Lock()
	bad := f.corrupt.Load()
	if bad != nil {
		f.fail([]*entry{e}, bad)
	}
	if e.err != nil {
		f.mu.Unlock()
		buf.discard()
		return
	}
	f.reopened(e.b)
	f.handOver(e, buf)
	u := e.urgency
	if u != source.Demand {
		f.noteUnread(e.b)
	}
	f.mu.Unlock()
	var err error
	if from.file != nil {
		f.c.count.copied.Add(int64(len(buf.data)))
		err = f.sf.WriteCopy(e.b, buf.data, from.file, from.at)
	} else {
		f.c.count.fetched[u].Add(int64(len(buf.data)))
		err = f.sf.WriteBlock(e.b, buf.data)
	}
	if err != nil {
		// Uncached, but not lost: memory may keep it for the next small read.
		f.c.count.uncached.Add(1)
		f.keep(buf)
		if !errors.Is(err, store.ErrFull) {
			f.c.log.Warn("cannot write a block to the cache", "file", f.spec.Label, "block", e.b, "error", err)
		}
	}
	f.full.Store(err != nil)
	f.mu.Lock()
	f.remove(e)
	f.mu.Unlock()
	buf.release()
	f.refilled()
}

// refilled notes that a file is complete again whose every block was checked
// by itself, after some were evicted and fetched again.
func (f *content) refilled() {
	if f.blockSums() == nil || f.whole.Load() {
		return
	}
	if n, _ := f.sf.Present(); n < f.blocks() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pass == nil && !f.closed {
		f.spawn(func() { _ = f.complete(f.ctx, nil, true, false) }) // its error is in Status
	}
}

// handOver gives a checked block to all who wait for it, and one reference to
// the caller; f.mu is held.
func (f *content) handOver(e *entry, buf *buffer) {
	buf.publish(blockKey(f.id, e.b), 1+e.waiters)
	if e.job != nil {
		e.job.waiters -= e.waiters
	}
	e.waiters = 0
	e.buf = buf
	close(e.done)
}
