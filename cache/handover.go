package cache

import (
	"errors"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
)

// place is where else on the disk the bytes of a block are.
type place struct {
	file  *store.File // nil: nowhere
	at    int64
	sum   [32]byte
	label string // of the file, for a recorder
}

// why is for what the block was fetched; mu is held.
func (f *flight) why() trace.Why {
	switch {
	case !f.ahead:
		return trace.Asked
	case f.listed:
		return trace.Profile
	case f.urgency == source.Background:
		return trace.Rest
	}
	return trace.Along
}

// publish hands a checked block to everyone who waits for it, and then writes
// it to disk. It takes over buf.
func (fl *flights) publish(f *flight, buf *buffer, from place) {
	fl.mu.Lock()
	if f.err == nil {
		fl.standing.refetched(f.b)
	}
	if bad := fl.standing.corrupt.Load(); bad != nil {
		fl.fail([]*flight{f}, bad)
	}
	if f.err != nil {
		fl.mu.Unlock()
		buf.discard()
		return
	}
	if fl.standing.needsWhole() && fl.last(f.b) {
		fl.standing.withhold(f.b)
	}
	fl.handOver(f, buf)
	settle := f.settle // it can be right: what did not match before was a lie
	f.settle = nil
	u := f.urgency
	why := f.why()
	if u != source.Demand {
		fl.noteUnread(f.b)
	}
	fl.mu.Unlock()
	if settle != nil {
		settle(true)
	}
	var err error
	fl.recorder.Arrived(f.b, why, from.label)
	if from.file != nil {
		fl.s.count.copied.Add(int64(len(buf.data)))
		err = fl.local.sf.WriteCopy(f.b, buf.data, from.file, from.at)
	} else {
		fl.s.count.fetched[u].Add(int64(len(buf.data)))
		err = fl.local.sf.WriteBlock(f.b, buf.data)
	}
	if err != nil {
		// Uncached, but not lost: memory may keep it for the next small read.
		fl.s.count.uncached.Add(1)
		fl.local.keep(buf)
		if !errors.Is(err, store.ErrFull) {
			fl.s.log.Warn("cannot write a block to the cache", "file", fl.local.label, "block", f.b, "error", err)
		}
	}
	fl.full.Store(err != nil)
	fl.mu.Lock()
	fl.remove(f)
	fl.mu.Unlock()
	buf.release()
	if fl.local.complete() {
		fl.allHere()
	}
}

// last reports whether block b is the only one that is neither here nor handed
// over; mu is held.
func (fl *flights) last(b int64) bool {
	n := fl.local.blocks()
	from := fl.local.reached.Load()
	for x := from; ; x++ {
		x = fl.local.nextMissing(x)
		if x >= n && from > 0 {
			from, x = 0, -1 // what was here may have been evicted
			continue
		}
		if x >= n {
			return true
		}
		if f := fl.table[x]; x != b && (f == nil || f.buf == nil) {
			return false
		}
	}
}

// handOver gives a checked block to all that wait for it, and one reference to
// the caller; mu is held.
func (fl *flights) handOver(f *flight, buf *buffer) {
	buf.publish(blockKey(fl.local.id, f.b), 1+f.waiters)
	if f.job != nil {
		f.job.waiters -= f.waiters
	}
	f.waiters = 0
	f.buf = buf
	close(f.done)
}
