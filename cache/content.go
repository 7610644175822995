package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// content is what all handles of one key share.
type content struct {
	c       *Cache
	spec    Spec
	sf      *store.File
	fwd     source.Forward // nil for a source with random access
	id      uint32         // for the memory tier; 0: not kept there
	bs      int64
	data    []Extent      // merged Spec.Data; nil: all is data
	handles int           // guarded by Cache.mu; 0: closing
	gone    chan struct{} // closed once it is closed

	ctx    context.Context // of all fetches; ends when the last handle closes
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // every goroutine of this content

	size    atomic.Int64
	corrupt atomic.Pointer[CorruptError] // sticky
	strict  atomic.Bool
	minding sync.Once
	whole   atomic.Bool              // complete and checked (or nothing to check against)
	learned atomic.Pointer[SumTable] // from a check of the whole
	vouched atomic.Bool              // the whole matched once, and every block has a sum of its own
	full    atomic.Bool              // the disk refused the last block
	follow  atomic.Pointer[follower] // nil: no profile
	unread  atomic.Pointer[unread]   // nil: nothing was fetched ahead

	// mu guards what follows, here and in the entries, jobs and passes of this
	// content. It comes after Cache.mu and before the store's own locks.
	mu        sync.Mutex
	closed    bool
	flight    map[int64]*entry // blocks on their way
	seq       uint64           // of entries, in order of arrival
	forward   forward
	pass      *pass // the completion under way
	lazy      bool  // it is to be completed in the background
	lazyRuns  bool  // ... and that is under way
	sums      []string
	checked   int64 // bytes that the current or last pass has seen
	lastErr   error
	lastErrAt time.Time
}

// close ends all work; Cache.mu is held and no handle is left.
func (f *content) close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel(ErrClosed)
	f.work.Wait()
	f.forgetTable(f.learned.Load())
	f.sf.Unpin()
	return f.sf.Close()
}

// spawn runs fn in a goroutine of this content; f.mu is held and f not closed.
func (f *content) spawn(fn func()) {
	f.work.Add(1)
	go func() {
		defer f.work.Done()
		fn()
	}()
}

// blocks returns the number of blocks, or MaxBlocks while the size is unknown.
func (f *content) blocks() int64 {
	size := f.size.Load()
	if size < 0 {
		return MaxBlocks
	}
	return (size + f.bs - 1) / f.bs
}

// blockLen returns the length of block b; 0 past the end.
func (f *content) blockLen(b int64) int {
	if size := f.size.Load(); size >= 0 {
		return int(max(0, min(f.bs, size-b*f.bs)))
	}
	return int(f.bs)
}

// setSize makes the size known, after a forward source came to its end.
func (f *content) setSize(n int64) error {
	if err := f.sf.SetSize(n); err != nil {
		return err
	}
	f.size.Store(n)
	return nil
}

// zero reports whether block b is known to hold only zeros, without asking
// either the disk or the source.
func (f *content) zero(b int64) bool {
	if sums := f.blockSums(); sums != nil {
		if _, zero, ok := sums.Sum(b); ok && zero {
			return true
		}
	}
	if f.data == nil {
		return false
	}
	off := b * f.bs
	i := f.extent(off)
	return i == len(f.data) || f.data[i].Off >= off+f.bs
}

// blockSums are what is known of single blocks: given, or learned since; nil:
// nothing.
func (f *content) blockSums() BlockSums {
	if f.spec.Blocks != nil {
		return f.spec.Blocks
	}
	if t := f.learned.Load(); t != nil {
		return t
	}
	return nil
}

// known reports whether block b has a sum of its own.
func (f *content) known(b int64) bool {
	sums := f.blockSums()
	if sums == nil {
		return false
	}
	_, _, ok := sums.Sum(b)
	return ok
}

// here reports whether block b can be served without a fetch.
func (f *content) here(b int64) bool { return f.sf.Has(b) || f.zero(b) }

// finished reports whether the file was checked and is still all here.
func (f *content) finished() bool {
	switch f.sf.State() {
	case store.Verified, store.Unverified:
		return f.size.Load() >= 0 && f.sf.NextMissing(0) >= f.blocks()
	}
	return false
}

// reopened marks a finished file as partial, because block b of it had to be
// fetched again (evicted, or damaged on disk) and only the whole was checked;
// f.mu is held.
func (f *content) reopened(b int64) {
	if f.pass != nil && b*f.bs < f.checked {
		f.pass.tainted = true
	}
	state := f.sf.State()
	f.whole.Store(false)
	if state != store.Verified && state != store.Unverified {
		return // the store itself takes Verified back when it loses a block
	}
	if err := f.sf.SetState(store.Partial, "blocks were lost and fetched again"); err != nil {
		f.c.log.Warn("cannot note that a file is partial again", "file", f.spec.Label, "error", err)
	}
}

// local copies what p can take of block b, from skip on, if the block can be
// served without a fetch. An error other than absence means a broken disk.
func (f *content) local(b int64, skip int, p []byte) (n int, ok bool, err error) {
	length := f.blockLen(b)
	if skip >= length {
		return 0, false, nil // the size has just become known
	}
	if f.zero(b) {
		n = min(length-skip, len(p))
		clear(p[:n])
		return n, true, nil
	}
	part := skip > 0 || len(p) < length
	key := blockKey(f.id, b)
	if f.id != 0 {
		if buf := f.c.mem.get(key); buf != nil {
			n = copy(p, buf.data[min(skip, len(buf.data)):])
			buf.release()
			f.c.count.memoryHits.Add(1)
			return n, true, nil
		}
	}
	if !part {
		n, err = f.sf.ReadBlock(b, p[:length])
	} else {
		buf := f.c.buffers.get(length)
		if _, err = f.sf.ReadBlock(b, buf.data); err != nil {
			buf.discard()
		} else {
			buf.publish(key, 1)
			n = copy(p, buf.data[skip:])
			f.keep(buf)
			buf.release()
		}
	}
	switch {
	case err == nil:
		f.c.count.diskHits.Add(1)
		return n, true, nil
	case errors.Is(err, store.ErrAbsent):
		var damaged *store.DamagedError
		if errors.As(err, &damaged) {
			f.c.log.Warn("damaged block in the cache, fetching it again", "file", f.spec.Label, "block", b)
			f.completeAgain()
		}
		return 0, false, nil
	}
	return 0, false, err
}

// keep offers a published block to the memory tier.
func (f *content) keep(buf *buffer) {
	if f.id != 0 {
		f.c.mem.put(buf)
	}
}

// failed remembers an error for Status; f.mu is held.
func (f *content) failed(err error) {
	if errors.Is(err, errAbandoned) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		return
	}
	f.lastErr, f.lastErrAt = err, time.Now()
}

// poison makes the file corrupt, for ever; the store gives up its blocks; f.mu is held.
func (f *content) poison(reason string) *CorruptError {
	e := &CorruptError{f.spec.Label, reason}
	if !f.corrupt.CompareAndSwap(nil, e) {
		return f.corrupt.Load()
	}
	f.failed(e)
	f.whole.Store(false)
	f.c.log.Error("file is corrupt", "file", f.spec.Label, "reason", reason)
	if err := f.sf.SetState(store.Corrupt, reason); err != nil {
		f.c.log.Error("cannot note that a file is corrupt", "file", f.spec.Label, "error", err)
	}
	f.changed(store.Corrupt)
	return e
}
