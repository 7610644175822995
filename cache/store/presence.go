package store

import (
	"slices"
	"sync"
	"sync/atomic"
)

// presence is what this process knows of a file's blocks: what the journal says, and what has been
// written since and is to be journalled.
type presence struct {
	// journalled is called for each block once it need not wait for the journal any more; mu is held.
	journalled func(b int64)
	// size is mapping.size plus one, so that asking for the size takes no lock. Once known it never changes.
	size atomic.Int64

	// mu guards what follows. It is held for memory and for the odd fcntl of journalled, never over
	// file IO. Of the store's locks only holds.mu and claims.mu are taken after it.
	mu      sync.RWMutex
	mapping *mapping         // guarded by mu
	dirty   map[int64]uint64 // guarded by mu; blocks to be journalled: the batch that they wait for
	batch   uint64           // guarded by mu
	unsaved bool             // guarded by mu; the size could not be journalled yet
}

// block is what is known of one present block.
type block struct {
	sum  uint32
	zero bool
	n    int // its length in bytes
}

// peek finds a block.
func (p *presence) peek(b int64) (x block, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.get(b)
}

// use is peek of a block that somebody wants, which keeps it warm.
func (p *presence) use(b int64) (x block, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if x, ok = p.get(b); ok {
		p.mapping.use(b)
	}
	return x, ok
}

// get finds a block. The caller holds mu.
func (p *presence) get(b int64) (x block, ok bool) {
	if b < 0 {
		return x, false
	}
	if x.sum, x.zero, ok = p.mapping.get(b); ok {
		x.n = p.mapping.blockLen(b)
	}
	return x, ok
}

// slot says whether the file has a block b, present or not, and how long it is.
func (p *presence) slot(b int64) (n int, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.blockLen(b), b >= 0 && b < p.mapping.end()
}

// wrote makes a block present that has just been written, unless off says, under mu, that it was
// written to no place. It reports whether the block is present.
func (p *presence) wrote(b int64, x block, off func() bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off() {
		return false
	}
	if x.zero {
		p.mapping.setZeros(b, 1)
	} else {
		p.mapping.set(b, x.sum)
	}
	p.mapping.use(b)
	p.dirty[b] = p.batch
	return true
}

// knownSize is the size, or Unknown.
func (p *presence) knownSize() int64 { return p.size.Load() - 1 }

// setSize makes the size known; ErrGeometry if another one is.
func (p *presence) setSize(n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.mapping.size; have != Unknown {
		if have != n {
			return ErrGeometry
		}
		return nil
	}
	p.mapping.setSize(n)
	p.size.Store(n + 1)
	p.unsaved = true
	for b := range p.dirty {
		if b >= p.mapping.end() {
			p.clean(b)
		}
	}
	return nil
}

// sizeSaved notes that the size is in the journal.
func (p *presence) sizeSaved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsaved = false
}

func (p *presence) state() (FileState, string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.state, p.mapping.note
}

func (p *presence) complete() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.complete()
}

// blocks is the number of blocks, or the greatest possible one while the size is unknown.
func (p *presence) blocks() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.end()
}

// applyAll replays records, and reports whether all of them made sense.
func (p *presence) applyAll(rs []record) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok := true
	for _, r := range rs {
		ok = p.mapping.apply(r) && ok
		switch r.kind {
		case kindBlocks: // another process wanted them just now
			for i := range max(1, int64(len(r.payload)/4)) {
				p.mapping.use(r.pos + i)
			}
		case kindDrop:
			for b := range p.dirty {
				if b >= r.pos && b-r.pos < int64(r.value) {
					p.clean(b)
				}
			}
		case kindSize:
			p.size.Store(p.mapping.size + 1)
		}
	}
	return ok
}

// replace takes the mapping of a journal that was written anew, and keeps what is not journalled yet.
func (p *presence) replace(m *mapping) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.size == Unknown && p.mapping.size != Unknown {
		m.setSize(p.mapping.size)
	}
	for b := range p.dirty {
		if sum, zero, ok := p.mapping.get(b); ok && zero {
			m.setZeros(b, 1)
		} else if ok {
			m.set(b, sum)
		}
	}
	m.takeUse(&p.mapping.blockMap)
	p.mapping = m
	p.size.Store(m.size + 1)
}

// become takes the mapping of another presence of the same file and forgets its own. before is called
// under mu; an error of it ends the attempt.
func (p *presence) become(o *presence, before func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.mapping
	if m.state == Corrupt || m.size != Unknown && m.size != o.mapping.size {
		return ErrGeometry
	}
	if err := before(); err != nil {
		return err
	}
	for b := range p.dirty {
		p.clean(b)
	}
	p.mapping, p.unsaved = o.mapping, o.unsaved
	p.size.Store(p.mapping.size + 1)
	return nil
}

// waits reports whether a block is still to be journalled.
func (p *presence) waits(b int64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.dirty[b]
	return ok
}

// endBatch ends the batch of blocks that are journalled together. ok is false if there is nothing to
// journal.
func (p *presence) endBatch() (batch uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.dirty) == 0 && !p.unsaved {
		return 0, false
	}
	batch = p.batch
	p.batch++
	return batch, true
}

// unwritten is what a journal has to be told: records, and what they are about.
type unwritten struct {
	buf    []byte
	blocks []int64
	size   bool
}

// encode gives the records of all blocks up to the end of batch. The caller holds the journal lock, so
// that none of them is dropped before the records are appended.
func (p *presence) encode(batch uint64, salt uint32) unwritten {
	p.mu.RLock()
	defer p.mu.RUnlock()
	u := unwritten{size: p.unsaved}
	for b, at := range p.dirty {
		if at <= batch {
			u.blocks = append(u.blocks, b)
		}
	}
	slices.Sort(u.blocks)
	w := runWriter{salt: salt}
	if u.size {
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindSize, pos: p.mapping.size})
	}
	for _, b := range u.blocks {
		if sum, zero, ok := p.mapping.get(b); ok {
			w.add(b, sum, zero)
		}
	}
	w.end()
	u.buf = w.buf
	return u
}

// saved notes that what encode gave for batch is in the journal.
func (p *presence) saved(batch uint64, u unwritten) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsaved = p.unsaved && !u.size
	for _, b := range u.blocks {
		// A block may have been dropped and written again in the meantime.
		if at, ok := p.dirty[b]; ok && at <= batch {
			p.clean(b)
		}
	}
}

// lose drops the blocks that a failed sync may have lost: the kernel does not tell which pages it gave up.
func (p *presence) lose(batch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b, at := range p.dirty {
		if at <= batch {
			p.mapping.dropped(b, 1)
			p.clean(b)
		}
	}
}

// clean ends the wait of a block for the journal. The caller holds mu.
func (p *presence) clean(b int64) {
	delete(p.dirty, b)
	p.journalled(b)
}

// age begins a new era of use.
func (p *presence) age() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mapping.age()
}

// coldRun finds the next blocks to evict at or after b: neighbours, as many as want bytes take.
func (p *presence) coldRun(b, want int64) (first, n int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	end := p.mapping.end()
	cold := func(b int64) bool {
		_, dirty := p.dirty[b]
		return !dirty && p.mapping.next(b, b+1, coldWord) == b
	}
	for first = p.mapping.next(b, end, coldWord); first < end && !cold(first); {
		first = p.mapping.next(first+1, end, coldWord)
	}
	for first+n < end && n*int64(p.mapping.blockSize) < want && cold(first+n) {
		n++
	}
	return first, n
}
