package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/store"
)

// Options of a Cache. The zero value of every field but Store is a default.
type Options struct {
	Store *store.Store
	// Memory is the size of the memory tier in bytes; 0 = none.
	Memory int64
	// Region is how many bytes around a miss are fetched at most, aligned to
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
	// ClaimWait is the longest that a fetch waits for another process that is
	// fetching the same block, before it does so itself. It waits for about a
	// round trip, 2 s at most; 0 sets no other bound.
	ClaimWait time.Duration
	Logger    *slog.Logger

	patience time.Duration // what it waits at least, for tests on slow machines
}

// shared is what all files of a cache have in common. Only its fields' own
// types guard it.
type shared struct {
	opts     Options
	log      *slog.Logger
	mem      *memory
	buffers  buffers
	count    counters
	slots    slots
	demand   atomic.Int64 // demanded fetches under way
	tables   atomic.Int64 // bytes of sums learned
	lastMiss atomic.Int64 // when the last one began, UnixNano; a profile that is followed counts as one
	trip     atomic.Int64 // about how long a demanded fetch takes to its first block, ns
}

// Cache joins files of a store with sources of their missing blocks. Its
// methods may be called from any goroutine.
type Cache struct {
	shared *shared

	// mu guards what follows. Of all locks but File.use it comes first.
	mu      sync.Mutex
	closed  bool                 // guarded by mu
	entries map[store.Key]*entry // guarded by mu
	handles map[*File]struct{}   // guarded by mu
	// ids number the entries for the memory tier, so that blocks stay known
	// over a close and reopen.
	ids    map[store.Key]uint32 // guarded by mu
	lastID uint32               // guarded by mu
}

// maxIDs is how many files may be numbered before those that are closed are forgotten.
const maxIDs = 1024

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
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	mem, err := newMemory(o.Memory)
	if err != nil {
		return nil, fmt.Errorf("memory tier of %d bytes: %w", o.Memory, err)
	}
	return &Cache{
		shared:  &shared{opts: o, log: o.Logger, mem: mem, slots: slots{jobs: make(map[*job]time.Time)}},
		entries: make(map[store.Key]*entry),
		handles: make(map[*File]struct{}),
		ids:     make(map[store.Key]uint32),
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
	for e := c.entries[spec.Key]; e != nil && e.handles == 0; e = c.entries[spec.Key] {
		c.mu.Unlock() // it is closing; the store has one owner of a key at a time
		<-e.gone
		c.mu.Lock()
	}
	if c.closed {
		return nil, ErrClosed
	}
	e := c.entries[spec.Key]
	if e == nil {
		var err error
		if e, err = c.newEntry(spec); err != nil {
			return nil, err
		}
		c.entries[spec.Key] = e
		if !e.standing.whole.Load() && e.local.complete() {
			e.completion.now()
		}
	} else if n := e.local.size.Load(); n >= 0 && spec.Size >= 0 && n != spec.Size || e.local.bs != int64(spec.BlockSize) {
		return nil, fmt.Errorf("open %q: %w", spec.Label, store.ErrGeometry)
	}
	e.handles++
	if spec.Policy == Strict {
		e.standing.strict.Store(true)
	}
	if spec.Complete {
		c.shared.lastMiss.Store(time.Now().UnixNano()) // its first reader comes before it
		e.completion.inBackground(leisure)
	} else if e.standing.needsWhole() {
		e.completion.inBackground(follow)
	}
	h := &File{e: e, closing: make(chan struct{})}
	h.drop = func() error { return c.forget(h) }
	c.handles[h] = struct{}{}
	return h, nil
}

// newEntry opens the local side of spec; mu is held.
func (c *Cache) newEntry(spec Spec) (*entry, error) {
	st := c.shared.opts.Store
	sf, err := st.File(spec.Key, spec.Size, spec.BlockSize)
	if err != nil {
		return nil, fmt.Errorf("open %q in the cache: %w", spec.Label, err)
	}
	id, ok := c.ids[spec.Key]
	if !ok && c.shared.mem != nil && c.lastID < math.MaxUint32 {
		if len(c.ids) >= maxIDs {
			maps.DeleteFunc(c.ids, func(k store.Key, _ uint32) bool { return c.entries[k] == nil })
		}
		c.lastID++
		id = c.lastID
		c.ids[spec.Key] = id
	}
	e := newEntry(c.shared, spec, sf, id)
	e.flights.origin = c.origin(spec.Origin)
	if spec.Label != "" {
		e.tasks.Run(func(context.Context) { // only lists show it
			if err := st.SetLabel(spec.Key, spec.Label); err != nil {
				c.shared.log.Warn("the name of a cached file is not kept", "file", spec.Label, "err", err)
			}
		})
	}
	return e, nil
}

// origin is that of the files which are open, or a new one; mu is held.
func (c *Cache) origin(name string) *origin {
	for _, e := range c.entries {
		if o := e.flights.origin; o.name == name {
			return o
		}
	}
	return &origin{name: name}
}

// forget drops a closed handle. After the last one of an entry it ends the
// entry's fetches and waits for them, with no lock held: a source may sit on
// another file of this cache.
func (c *Cache) forget(h *File) error {
	c.mu.Lock()
	delete(c.handles, h)
	e := h.e
	e.handles--
	last := e.handles == 0
	c.mu.Unlock()
	if !last {
		return nil
	}
	err := e.close()
	c.mu.Lock()
	delete(c.entries, e.key)
	c.mu.Unlock()
	close(e.gone)
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
	c.shared.mem.close()
	return errors.Join(errs...)
}

// Rest empties the memory tier if it was not used since the last call, and reports
// whether it did. The blocks are on the disk.
func (c *Cache) Rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && c.shared.mem.rest()
}

// Yield makes the memory tier smaller, down to an eighth, by what lives in memory beside
// it, of live bytes in all, beyond so many.
func (c *Cache) Yield(live, beside int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.shared.mem.yield(live, beside)
	}
}

// Stats returns the counters so far.
func (c *Cache) Stats() Stats { return c.shared.count.stats() }
