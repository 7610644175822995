package cache

import (
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"
)

// memory is the memory tier: checked blocks, bounded in bytes. It may forget
// or refuse any of them at any time, so nothing relies on it. A nil *memory is
// a tier that holds nothing.
type memory struct {
	cache  *ristretto.Cache[uint64, *memoryEntry]
	limit  int64
	warmth atomic.Int32 // cold, cooling or warm
}

// memoryEntry is the tier's one reference to a buffer; out makes sure that it
// is given up once, however often ristretto reports the exit.
type memoryEntry struct {
	buf *buffer
	out atomic.Bool
}

func (e *memoryEntry) leave() {
	if e != nil && e.out.CompareAndSwap(false, true) {
		e.buf.release()
	}
}

// newMemory returns a tier of at most limit bytes of blocks; nil for 0.
func newMemory(limit int64) (*memory, error) {
	if limit <= 0 {
		return nil, nil
	}
	c, err := ristretto.NewCache(&ristretto.Config[uint64, *memoryEntry]{
		// Ten counters per block that fits, as its manual advises.
		NumCounters:        max(10*limit/DefaultBlockSize, 1000),
		MaxCost:            limit,
		BufferItems:        64,
		IgnoreInternalCost: true,
		OnExit:             (*memoryEntry).leave,
	})
	if err != nil {
		return nil, err
	}
	return &memory{cache: c, limit: limit}, nil
}

// blockKey is the tier's key of block b of the content numbered id. It is
// exact, not a hash: ids are below 1<<32, and so are blocks.
func blockKey(id uint32, b int64) uint64 { return uint64(id)<<32 | uint64(uint32(b)) }

// get returns the block with a reference for the caller, or nil.
func (m *memory) get(key uint64) *buffer {
	if m == nil {
		return nil
	}
	m.use()
	e, ok := m.cache.Get(key)
	if !ok || e == nil || !e.buf.tryRef() {
		return nil
	}
	if e.buf.key != key {
		e.buf.release()
		return nil
	}
	return e.buf
}

// put offers a published block to the tier; the caller keeps its reference.
func (m *memory) put(buf *buffer) {
	if m == nil {
		return
	}
	m.use()
	buf.ref()
	e := &memoryEntry{buf: buf}
	if !m.cache.Set(buf.key, e, int64(cap(buf.data))) {
		e.leave()
	}
}

// What a tier is between two calls of rest.
const (
	cold    = iota // empty
	cooling        // not used since the last call
	warm
)

// use notes that the tier is wanted. Most calls write nothing, for the sake of those
// beside them.
func (m *memory) use() {
	if m.warmth.Load() != warm {
		m.warmth.Store(warm)
	}
}

// rest empties the tier if it was not used since the last call, and reports whether it
// did. It must not run twice at once.
func (m *memory) rest() bool {
	if m == nil || m.warmth.CompareAndSwap(warm, cooling) || !m.warmth.CompareAndSwap(cooling, cold) {
		return false
	}
	m.cache.Clear()
	return true
}

// yield makes the tier smaller where more than that lives beside it: an eighth stays.
func (m *memory) yield(live, beside int64) {
	if m == nil {
		return
	}
	own := m.cache.MaxCost() - m.cache.RemainingCost()
	most := max(m.limit/8, min(m.limit, m.limit+beside-(live-own)))
	if most != m.cache.MaxCost() {
		m.cache.UpdateMaxCost(most)
	}
}

// drop forgets a block.
func (m *memory) drop(key uint64) {
	if m != nil {
		m.cache.Del(key)
	}
}

// close empties the tier. No get or put may run or follow.
func (m *memory) close() {
	if m != nil {
		m.cache.Close()
	}
}
