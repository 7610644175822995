package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// File is an open handle. Its methods may be called from any goroutine; Close
// wakes reads that wait, and returns after them.
type File struct {
	f       *content
	ahead   tracker
	once    sync.Once
	closing chan struct{}

	// use is held for reading by every method that touches the local files,
	// and for writing by Close. It comes before all other locks.
	use    sync.RWMutex
	closed bool
}

// ReadAt reads len(p) bytes from off, as io.ReaderAt has it: fewer only with
// an error, io.EOF at the end of the file. ctx ends the waiting, not the fetch.
// Errors: ErrCorrupt (sticky), *BlockError, ErrTooLarge, *SizeError, ErrClosed,
// ctx.Err(), and whatever the source returned, wrapped.
func (h *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return 0, ErrClosed
	}
	begun := time.Now()
	n, how, err := h.read(ctx, p, off)
	count := &h.f.c.count
	count.served.Add(int64(n))
	count.latency[how].add(time.Since(begun))
	return n, err
}

func (h *File) read(ctx context.Context, p []byte, off int64) (n int, how outcome, err error) {
	f := h.f
	if off < 0 {
		return 0, hit, fmt.Errorf("read %q at negative offset %d", f.spec.Label, off)
	}
	if f.strict.Load() && !f.whole.Load() && !f.vouched.Load() {
		how = miss
		if err := h.complete(ctx, true); err != nil && !f.vouched.Load() {
			return 0, how, err
		}
	}
	if len(p) == 0 {
		return 0, how, nil
	}
	var want window
	if !f.whole.Load() {
		want = h.ahead.note(off, int64(len(p)), int64(f.c.opts.Region), f.c.opts.ReadAhead)
		f.noteFollow(off, int64(len(p)))
	}
	for idle := 0; n < len(p); {
		if e := f.corrupt.Load(); e != nil {
			return n, how, e
		}
		pos := off + int64(n)
		rest := p[n:]
		if size := f.size.Load(); size >= 0 {
			if pos >= size {
				return n, how, io.EOF
			}
			rest = rest[:min(int64(len(rest)), size-pos)]
		}
		b, skip := pos/f.bs, int(pos%f.bs)
		if b >= MaxBlocks {
			return n, how, io.EOF
		}
		k, ok, err := f.local(b, skip, rest)
		if err != nil && idle > 0 {
			return n, how, fmt.Errorf("read %q at %d: %w", f.spec.Label, pos, err)
		}
		if ok {
			if f.unread.Load().take(b) {
				how = max(how, prefetchHit)
			}
			n += k
			continue
		}
		if f.strict.Load() && !f.known(b) {
			// Only a check of the whole vouches for this block.
			how = miss
			if idle++; idle > 3 {
				return n, how, fmt.Errorf("read %q at %d: the cache cannot keep the file: %w", f.spec.Label, pos, store.ErrFull)
			}
			if err := h.complete(ctx, true); err != nil && !f.known(b) {
				return n, how, err
			}
			continue
		}
		wide := ctx.Value(narrowKey{}) == nil && !f.follows(b) && h.ahead.wide(pos, int64(f.c.opts.Region))
		entries := f.acquire(b, (pos+int64(len(rest))-1)/f.bs, urgencyOf(ctx), wide)
		h.readAhead(want)
		want = window{}
		if len(entries) == 0 {
			// It arrived between the two looks. More than a few times in a row
			// means that the disk says "present" of what it cannot give.
			if idle++; idle > 8 {
				return n, how, fmt.Errorf("read %q at %d: block %d comes and goes", f.spec.Label, pos, b)
			}
			continue
		}
		idle = 0
		how = max(how, arrival(entries))
		k, err = h.collect(ctx, entries, skip, rest)
		n += k
		if err != nil && !errors.Is(err, errAbandoned) {
			return n, how, err
		}
	}
	h.readAhead(want)
	return n, how, nil
}

// collect waits for consecutive blocks and copies them to p, from skip of the
// first one on.
func (h *File) collect(ctx context.Context, entries []*entry, skip int, p []byte) (n int, err error) {
	for i, e := range entries {
		buf, err := h.f.wait(ctx, h.closing, e)
		if err != nil {
			for _, e := range entries[i+1:] {
				h.f.leave(e)
			}
			return n, err
		}
		n += copy(p[n:], buf.data[min(skip, len(buf.data)):])
		if len(p) < len(buf.data) {
			h.f.keep(buf) // a small read: more of them are likely
		}
		buf.release()
		skip = 0
	}
	return n, nil
}

// Size returns the size in bytes, or store.Unknown.
func (h *File) Size() int64 { return h.f.size.Load() }

// WaitSize returns the size; if need be it has the source run to its end.
func (h *File) WaitSize(ctx context.Context) (int64, error) {
	h.use.RLock()
	defer h.use.RUnlock()
	for {
		if h.closed {
			return 0, ErrClosed
		}
		if n := h.f.size.Load(); n >= 0 {
			return n, nil
		}
		if e := h.f.corrupt.Load(); e != nil {
			return 0, e
		}
		for _, e := range h.f.acquire(endBlock, endBlock, source.Background, false) {
			if _, err := h.f.wait(ctx, h.closing, e); err != nil && err != io.EOF && err != errAbandoned {
				return 0, err
			}
		}
	}
}

// State returns what is known of the file as a whole.
func (h *File) State() store.FileState {
	if h.f.corrupt.Load() != nil {
		return store.Corrupt
	}
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return store.Partial
	}
	return h.f.sf.State()
}

// PassthroughFile returns the data file itself, for the kernel to read from,
// if the file is complete and matched its sums. It is valid until Close.
func (h *File) PassthroughFile() (*os.File, bool) {
	h.use.RLock()
	defer h.use.RUnlock()
	f := h.f
	if h.closed || f.corrupt.Load() != nil || !f.whole.Load() || f.sf.State() != store.Verified || !f.finished() {
		return nil, false
	}
	data := f.sf.Data()
	if data != nil {
		f.minding.Do(func() { f.spawn(f.mind) })
	}
	return data, data != nil
}

// mindEvery is how soon a block is fetched again that somebody has found damaged
// in a file which the kernel reads by itself.
const mindEvery = 5 * time.Second

// mind watches a file that the kernel may read: none of its blocks is evicted, so
// one that is missing has been found damaged, by another process, and is being
// read all the same until it is written again.
func (f *content) mind() {
	for pause := mindEvery; ; {
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = mindEvery
		if f.finished() || f.corrupt.Load() != nil {
			continue
		}
		f.whole.Store(false)
		f.c.log.Warn("damaged blocks in the cache, which the kernel reads by itself: fetching them again", "file", f.spec.Label)
		if err := f.complete(f.ctx, nil, true, false); err != nil && f.ctx.Err() == nil {
			f.c.log.Warn("damaged blocks are not replaced yet", "file", f.spec.Label, "err", err)
			pause = 12 * mindEvery
		}
	}
}

// Close gives up the handle. With the last handle of a file all its fetches
// end, whoever they were for.
func (h *File) Close() (err error) {
	h.once.Do(func() {
		close(h.closing)
		h.use.Lock()
		h.closed = true
		h.use.Unlock()
		err = h.f.c.forget(h)
	})
	return err
}
