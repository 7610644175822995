package cache

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// buffer holds the bytes of one block while several parties use it: the fetch
// that fills it, the readers that wait for it, the memory tier. The last one to
// release it hands it back to its pool, so a busy cache makes no garbage.
//
// A party that got its pointer from the memory tier has no reference yet and
// may hold a buffer that has been recycled since. It must call tryRef and then
// compare key: key and data change only while refs is 0, and tryRef fails then.
type buffer struct {
	refs atomic.Int32
	key  uint64 // memory-tier key of the block; see blockKey
	data []byte // the block, of its true length
	pool *sync.Pool
}

// publish ends the exclusive use of a buffer from buffers.get: from now on it
// has n references.
func (b *buffer) publish(key uint64, n int) {
	b.key = key
	b.refs.Store(int32(n))
}

// ref adds a reference; the caller must know that there is one already.
func (b *buffer) ref() { b.refs.Add(1) }

// tryRef adds a reference unless the buffer is on its way back to the pool.
func (b *buffer) tryRef() bool {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives up one reference.
func (b *buffer) release() {
	if b.refs.Add(-1) == 0 {
		b.pool.Put(b)
	}
}

// discard hands back a buffer that was never published.
func (b *buffer) discard() { b.pool.Put(b) }

// buffers are pools of block buffers, one for each power of two.
type buffers [bits.UintSize]sync.Pool

// get returns an unpublished buffer with data of length n. Its content is
// arbitrary.
func (p *buffers) get(n int) *buffer {
	class := bits.Len(uint(n - 1)) // the power of two at or above n
	if n <= 1 {
		class = 0
	}
	pool := &p[class]
	b, _ := pool.Get().(*buffer)
	if b == nil {
		b = &buffer{data: make([]byte, 1<<class), pool: pool}
	}
	b.data = b.data[:n]
	return b
}
