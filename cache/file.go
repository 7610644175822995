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
	"vmcastfs/cache/trace"
)

// File is an open handle. Its methods may be called from any goroutine. Close
// wakes reads that wait, and returns after them.
type File struct {
	e       *entry
	ahead   tracker
	closing chan struct{}
	once    sync.Once
	drop    func() error // tells the cache that the handle is closed

	// use is held for reading by every method that touches the local files,
	// and for writing by Close. It comes before all other locks.
	use    sync.RWMutex
	closed bool // guarded by use
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
	count := &h.e.s.count
	count.served.Add(int64(n))
	took := time.Since(begun)
	count.latency[how].Add(took)
	h.e.recorder.Read(begun, took, off, int64(n), trace.How(how))
	return n, err
}

func (h *File) read(ctx context.Context, p []byte, off int64) (n int, how outcome, err error) {
	l, st, fl, opts := h.e.local, h.e.standing, h.e.flights, &h.e.s.opts
	if off < 0 {
		return 0, hit, fmt.Errorf("read %q at negative offset %d", l.label, off)
	}
	if len(p) == 0 {
		return 0, hit, nil
	}
	var ahead window
	if !st.whole.Load() {
		ahead = h.ahead.note(off, int64(len(p)), fl.origin.reach(opts.Region), opts.ReadAhead)
		fl.followed(off, int64(len(p)))
	}
	for idle := 0; n < len(p); {
		pos := off + int64(n)
		rest := p[n:]
		b, skip := pos/l.bs, int(pos%l.bs)
		do, err := st.of(b)
		if do == await && err == nil {
			how = miss
			err = h.awaitCheck(ctx, b)
		}
		if err != nil {
			return n, how, err
		}
		if size := l.size.Load(); size >= 0 {
			if pos >= size {
				return n, how, io.EOF
			}
			rest = rest[:min(int64(len(rest)), size-pos)]
		}
		if b >= MaxBlocks {
			return n, how, io.EOF
		}
		k, err := l.read(b, skip, rest)
		if err == nil {
			if fl.unread.Load().take(b) {
				how = max(how, prefetchHit)
			}
			n += k
			continue
		}
		if !errors.Is(err, store.ErrAbsent) {
			if idle > 0 {
				return n, how, fmt.Errorf("read %q at %d: %w", l.label, pos, err)
			}
		} else if damaged(err) {
			h.e.s.log.Warn("damaged block in the cache, fetching it again", "file", l.label, "block", b)
			h.e.completion.again()
		}
		if !st.fetchable(b) {
			how = miss
			if idle++; idle > 3 {
				return n, how, fmt.Errorf("read %q at %d: the cache cannot keep the file: %w", l.label, pos, store.ErrFull)
			}
			if err := h.e.completion.run(ctx, h.closing, reading); err != nil && !st.fetchable(b) {
				return n, how, err
			}
			continue
		}
		w := want{urgency: source.UrgencyOf(ctx)}
		w.wide = ctx.Value(narrowKey{}) == nil && !fl.follows(b) && h.ahead.wide(pos, fl.origin.reach(opts.Region).region)
		list := fl.acquire(b, (pos+int64(len(rest))-1)/l.bs, w)
		h.readAhead(ahead)
		ahead = window{}
		if len(list) == 0 {
			// It arrived between the two looks. More than a few times in a row
			// means that the disk says "present" of what it cannot give.
			if idle++; idle > 8 {
				return n, how, fmt.Errorf("read %q at %d: block %d comes and goes", l.label, pos, b)
			}
			continue
		}
		idle = 0
		how = max(how, arrival(list))
		k, err = h.collect(ctx, list, skip, rest)
		n += k
		if err != nil && !errors.Is(err, errAbandoned) {
			return n, how, err
		}
	}
	h.readAhead(ahead)
	return n, how, nil
}

// awaitCheck waits for a check of the whole, until block b may be served.
func (h *File) awaitCheck(ctx context.Context, b int64) error {
	failed := h.e.completion.run(ctx, h.closing, reading)
	switch do, err := h.e.standing.of(b); {
	case err != nil:
		return err
	case do == await && failed == nil:
		return fmt.Errorf("read block %d of %q: the file was checked, and has changed since", b, h.e.local.label)
	case do == await:
		return failed
	}
	return nil
}

// collect waits for consecutive blocks and copies them to p, from skip of the
// first one on.
func (h *File) collect(ctx context.Context, list []*flight, skip int, p []byte) (n int, err error) {
	fl := h.e.flights
	for i, f := range list {
		buf, err := fl.wait(ctx, h.closing, f)
		if err == nil {
			var do permit
			if do, err = h.e.standing.ofFetched(f.b); do == await && err == nil {
				err = h.awaitCheck(ctx, f.b)
			}
			if err != nil {
				buf.release()
			}
		}
		if err != nil {
			for _, f := range list[i+1:] {
				fl.leave(f)
			}
			return n, err
		}
		n += copy(p[n:], buf.data[min(skip, len(buf.data)):])
		if len(p) < len(buf.data) && ctx.Value(narrowKey{}) == nil {
			h.e.local.keep(buf) // a small read: more of them are likely
		}
		buf.release()
		skip = 0
	}
	return n, nil
}

// readAhead starts ranges for what of w is missing, as far as there are slots.
func (h *File) readAhead(w window) {
	fl := h.e.flights
	if fl.following.Load() != nil {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		fl.fetchProfile() // it knows better
		return
	}
	if w.to == 0 || fl.full.Load() {
		return
	}
	bs := fl.local.bs
	if reached := fl.fetchAhead(w.from/bs, (w.to+bs-1)/bs, source.ReadAhead) * bs; reached < w.to {
		h.ahead.settle(w, max(w.from, reached))
	}
}

// WaitSize returns the size; if need be it has the source run to its end.
func (h *File) WaitSize(ctx context.Context) (int64, error) {
	h.use.RLock()
	defer h.use.RUnlock()
	fl := h.e.flights
	for {
		if h.closed {
			return 0, ErrClosed
		}
		if n := fl.local.size.Load(); n >= 0 {
			return n, nil
		}
		if bad := h.e.standing.corrupt.Load(); bad != nil {
			return 0, bad
		}
		for _, f := range fl.acquire(endBlock, endBlock, want{urgency: source.Background}) {
			if _, err := fl.wait(ctx, h.closing, f); err != nil && err != io.EOF && err != errAbandoned {
				return 0, err
			}
		}
	}
}

// State returns what is known of the file as a whole.
func (h *File) State() store.FileState {
	if h.e.standing.corrupt.Load() != nil {
		return store.Corrupt
	}
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return store.Partial
	}
	return h.e.sf.State()
}

// PassthroughFile returns the data file itself, for the kernel to read from,
// if the file is complete and matched its sums. It is valid until Close.
func (h *File) PassthroughFile() (*os.File, bool) {
	h.use.RLock()
	defer h.use.RUnlock()
	e, st := h.e, h.e.standing
	if h.closed || st.corrupt.Load() != nil || !st.whole.Load() || e.sf.State() != store.Verified || !st.final() {
		return nil, false
	}
	data := e.sf.Data()
	if data != nil {
		e.watching.Do(func() { e.tasks.Run(e.watchPassthrough) })
	}
	return data, data != nil
}

// watchEvery is how soon a block is fetched again that somebody has found
// damaged in a file which the kernel reads by itself.
const watchEvery = 5 * time.Second

// watchPassthrough watches a file that the kernel may read. None of its blocks
// is evicted. So one that is missing has been found damaged, by another
// process. The kernel reads it all the same until it is written again.
func (e *entry) watchPassthrough(ctx context.Context) {
	for pause := watchEvery; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = watchEvery
		if e.standing.final() || e.standing.corrupt.Load() != nil {
			continue
		}
		e.standing.damaged()
		log := e.s.log.With("file", e.local.label)
		log.Warn("damaged blocks in the cache, which the kernel reads by itself: fetching them again")
		if err := e.completion.run(ctx, nil, eager); err != nil && ctx.Err() == nil {
			log.Warn("damaged blocks are not replaced yet", "err", err)
			pause = 12 * watchEvery
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
		err = h.drop()
	})
	return err
}
