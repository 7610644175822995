package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// Options of a Cache. The zero value of every field but Store is a default.
type Options struct {
	Store *store.Store
	// Memory is the size of the memory tier in bytes; 0 = none.
	Memory int64
	// Region is how many bytes around a miss are fetched, aligned to
	// themselves; 0 = 512 KiB. At most one block: misses stay alone.
	Region int
	// ReadAhead is the greatest distance in bytes fetched ahead of a
	// sequential reader; 0 = 8 MiB.
	ReadAhead int64
	// Quiet is how long background completion stands back after a miss of any
	// file; 0 = 2 s. It never stands back for more than 15 times that.
	Quiet time.Duration
	// Abandon is after how long without progress a fetch ends that nobody
	// waits for; 0 = 30 s.
	Abandon time.Duration
	// ClaimWait is how long a fetch waits for another process that is fetching
	// the same block, before it does so itself; 0 is Abandon.
	ClaimWait time.Duration
	Logger    *slog.Logger
}

// fetchSlots bounds the ranges under way that no reader waits for (read-ahead,
// rest of a region, completion). Demanded ranges are bounded by the readers.
const fetchSlots = 8

// Cache joins files of a store with sources of their missing blocks. Its
// methods may be called from any goroutine.
type Cache struct {
	opts     Options
	log      *slog.Logger
	mem      *memory
	buffers  buffers
	count    counters
	slots    chan struct{} // one token per range that nobody waits for
	demand   atomic.Int64  // demanded fetches under way
	tables   atomic.Int64  // bytes of sums learned
	lastMiss atomic.Int64  // when the last one began or ended, UnixNano

	// mu guards what follows. It is taken before any content.mu.
	mu       sync.Mutex
	closed   bool
	contents map[store.Key]*content
	handles  map[*File]struct{}
	// ids number the contents for the memory tier, so that blocks stay known
	// over a close and reopen. One small entry per file ever opened.
	ids map[store.Key]uint32
}

// New returns a cache over o.Store, which stays the caller's to close (after
// the cache).
func New(o Options) (*Cache, error) {
	if o.Store == nil {
		return nil, errors.New("cache without a store")
	}
	if o.Memory < 0 || o.Region < 0 || o.ReadAhead < 0 || o.Quiet < 0 || o.Abandon < 0 || o.ClaimWait < 0 {
		return nil, errors.New("negative option of the cache")
	}
	if o.Region == 0 {
		o.Region = 512 << 10
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = 8 << 20
	}
	if o.Quiet == 0 {
		o.Quiet = 2 * time.Second
	}
	if o.Abandon == 0 {
		o.Abandon = 30 * time.Second
	}
	if o.ClaimWait == 0 {
		o.ClaimWait = o.Abandon
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	mem, err := newMemory(o.Memory)
	if err != nil {
		return nil, fmt.Errorf("memory tier of %d bytes: %w", o.Memory, err)
	}
	return &Cache{
		opts: o, log: o.Logger, mem: mem,
		slots:    make(chan struct{}, fetchSlots),
		contents: make(map[store.Key]*content),
		handles:  make(map[*File]struct{}),
		ids:      make(map[store.Key]uint32),
	}, nil
}

// Open returns a handle on the file that spec describes. No byte is fetched
// before the first read, unless spec.Complete says so.
func (c *Cache) Open(spec Spec) (*File, error) {
	if err := spec.normalize(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := c.contents[spec.Key]; f != nil && f.handles == 0; f = c.contents[spec.Key] {
		c.mu.Unlock() // it is closing; the store has one owner of a key at a time
		<-f.gone
		c.mu.Lock()
	}
	if c.closed {
		return nil, ErrClosed
	}
	f := c.contents[spec.Key]
	if f == nil {
		var err error
		if f, err = c.newContent(spec); err != nil {
			return nil, err
		}
		c.contents[spec.Key] = f
		if spec.Label != "" {
			f.spawn(func() { c.label(spec.Key, spec.Label) })
		}
	} else if n := f.size.Load(); n >= 0 && spec.Size >= 0 && n != spec.Size || f.spec.BlockSize != spec.BlockSize {
		return nil, fmt.Errorf("open %q: %w", spec.Label, store.ErrGeometry)
	}
	f.handles++
	if spec.Policy == Strict {
		f.strict.Store(true)
	}
	if spec.Complete {
		c.lastMiss.Store(time.Now().UnixNano()) // its first reader comes before it
		f.completeInBackground()
	}
	h := &File{f: f, closing: make(chan struct{})}
	c.handles[h] = struct{}{}
	return h, nil
}

// label has the store remember what a file is; only lists show it.
func (c *Cache) label(key store.Key, label string) {
	if err := c.opts.Store.SetLabel(key, label); err != nil {
		c.log.Warn("the name of a cached file is not kept", "file", label, "err", err)
	}
}

// forget drops a closed handle; after the last one of a content it ends the
// content's fetches and waits for them, with no lock held: a source may sit on
// another file of this cache.
func (c *Cache) forget(h *File) error {
	c.mu.Lock()
	delete(c.handles, h)
	f := h.f
	f.handles--
	last := f.handles == 0
	c.mu.Unlock()
	if !last {
		return nil
	}
	err := f.close()
	c.mu.Lock()
	delete(c.contents, f.spec.Key)
	c.mu.Unlock()
	close(f.gone)
	return err
}

// Close closes all handles that are still open, ends all fetches, and waits
// for them. Reads that wait return ErrClosed.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	open := make([]*File, 0, len(c.handles))
	for h := range c.handles {
		open = append(open, h)
	}
	c.mu.Unlock()
	var errs []error
	for _, h := range open {
		errs = append(errs, h.Close())
	}
	c.mem.close()
	return errors.Join(errs...)
}

// Stats returns the counters so far.
func (c *Cache) Stats() Stats { return c.count.stats() }

// newContent opens the local side of spec; c.mu is held.
func (c *Cache) newContent(spec Spec) (*content, error) {
	sf, err := c.opts.Store.File(spec.Key, spec.Size, spec.BlockSize)
	if err != nil {
		return nil, fmt.Errorf("open %q in the cache: %w", spec.Label, err)
	}
	id, ok := c.ids[spec.Key]
	if !ok && len(c.ids) < math.MaxUint32 {
		id = uint32(len(c.ids) + 1)
		c.ids[spec.Key] = id
	}
	f := &content{
		c: c, spec: spec, sf: sf, id: id, bs: int64(spec.BlockSize),
		gone:   make(chan struct{}),
		flight: make(map[int64]*entry),
	}
	f.spec.Source = c.guard(spec.Source)
	f.fwd, _ = f.spec.Source.(source.Forward)
	f.data = mergeExtents(spec.Data, spec.Size)
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.size.Store(store.Unknown)
	if n := sf.Size(); n >= 0 {
		f.size.Store(n)
	}
	sf.Pin()
	if sf.State() == store.Corrupt {
		f.corrupt.Store(&CorruptError{spec.Label, sf.Note()})
	} else {
		f.whole.Store(f.finished())
	}
	return f, nil
}
