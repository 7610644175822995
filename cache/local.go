package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// local is what can be said and read of a file without a fetch: its layout,
// what is known to be zero, the sums of its blocks, and the blocks that are on
// the disk or in memory.
type local struct {
	s     *shared
	label string
	sf    *store.File
	id    uint32 // for the memory tier; 0: not kept there
	bs    int64
	data  []Extent  // merged Spec.Data; nil: all is data
	given BlockSums // Spec.Blocks

	size    atomic.Int64               // or store.Unknown
	learned atomic.Pointer[sums.Table] // from a check of the whole
	reached atomic.Int64               // the first block that was missing when complete last looked
	counted atomic.Pointer[dataCount]  // see dataBytes
}

// blocks returns the number of blocks, or MaxBlocks while the size is unknown.
func (l *local) blocks() int64 {
	size := l.size.Load()
	if size < 0 {
		return MaxBlocks
	}
	return (size + l.bs - 1) / l.bs
}

// blockLen returns the length of block b; 0 past the end.
func (l *local) blockLen(b int64) int {
	if size := l.size.Load(); size >= 0 {
		return int(max(0, min(l.bs, size-b*l.bs)))
	}
	return int(l.bs)
}

// setSize makes the size known, after a forward source came to its end.
func (l *local) setSize(n int64) error {
	if err := l.sf.SetSize(n); err != nil {
		return err
	}
	l.size.Store(n)
	return nil
}

// zero reports whether block b is known to hold only zeros, without asking
// either the disk or the source.
func (l *local) zero(b int64) bool {
	if sums := l.sums(); sums != nil {
		if zero, ok := sums.Known(b); ok && zero {
			return true
		}
	}
	if l.data == nil {
		return false
	}
	off := b * l.bs
	i := l.extent(off)
	return i == len(l.data) || l.data[i].Off >= off+l.bs
}

// sums are what is known of single blocks: given, or learned since; nil:
// nothing.
func (l *local) sums() BlockSums {
	if l.given != nil {
		return l.given
	}
	if t := l.learned.Load(); t != nil {
		return tableSums{t}
	}
	return nil
}

// known reports whether block b has a sum of its own.
func (l *local) known(b int64) bool {
	sums := l.sums()
	if sums == nil {
		return false
	}
	_, ok := sums.Known(b)
	return ok
}

// allKnown reports whether every block has a sum of its own.
func (l *local) allKnown() bool {
	if l.sums() == nil {
		return false
	}
	for b := range l.blocks() {
		if !l.known(b) {
			return false
		}
	}
	return true
}

// compare compares a fetched block with its sum, if it has one. The error is a
// *BlockError, or says why the sum cannot be had.
func (l *local) compare(ctx context.Context, b int64, data []byte) error {
	want, ok, err := l.sum(ctx, b)
	if !ok || err != nil {
		return err
	}
	if got := sha256.Sum256(data); got != want {
		l.s.count.wrong.Add(1)
		return &BlockError{File: l.label, Block: b, Off: b * l.bs, Got: got, Want: want}
	}
	return nil
}

// sum returns the sum of block b; not ok: it has none, or is known to be zero.
func (l *local) sum(ctx context.Context, b int64) (sum [32]byte, ok bool, err error) {
	sums := l.sums()
	if sums == nil {
		return sum, false, nil
	}
	if zero, ok := sums.Known(b); !ok || zero {
		return sum, false, nil
	}
	sum, err = sums.Sum(ctx, b)
	if err != nil {
		err = fmt.Errorf("the sum of block %d of %q is not to be had: %w", b, l.label, err)
	}
	return sum, true, err
}

// here reports whether block b can be served without a fetch.
func (l *local) here(b int64) bool { return l.sf.Has(b) || l.zero(b) }

// nextMissing is the first block from b on that is not here, or blocks().
func (l *local) nextMissing(b int64) int64 {
	for n := l.blocks(); b < n; {
		if b = l.sf.NextMissing(b); b >= n || !l.zero(b) {
			return b
		}
		b = max(b+1, l.zeroEnd(b*l.bs)/l.bs)
	}
	return b
}

// complete reports whether every block is here. It is cheap as long as one that
// was missing before is missing still.
func (l *local) complete() bool {
	if l.size.Load() < 0 {
		return false
	}
	from := l.reached.Load()
	b := l.nextMissing(from)
	if b >= l.blocks() && from > 0 {
		b = l.nextMissing(0) // what was here may have been evicted
	}
	l.reached.Store(min(b, l.blocks()))
	return b >= l.blocks()
}

// keepZeros has the store know the zeros of a file that is complete, and reports
// whether the store has all of it then.
func (l *local) keepZeros() bool {
	b := l.sf.NextMissing(0)
	for b < l.blocks() && l.zero(b) && l.sf.WriteZeros(b, l.zeroRun(b)) == nil {
		b = l.sf.NextMissing(b)
	}
	return b >= l.blocks()
}

// read copies what p can take of block b, from skip on, if it is here. An error
// that is no store.ErrAbsent means a broken disk.
func (l *local) read(b int64, skip int, p []byte) (n int, err error) {
	length := l.blockLen(b)
	if skip >= length {
		return 0, store.ErrAbsent // the size has just become known
	}
	if l.zero(b) {
		n = min(length-skip, len(p))
		clear(p[:n])
		return n, nil
	}
	key := blockKey(l.id, b)
	if l.id != 0 {
		if buf := l.s.mem.get(key); buf != nil {
			n = copy(p, buf.data[min(skip, len(buf.data)):])
			buf.release()
			l.s.count.memoryHits.Add(1)
			return n, nil
		}
	}
	if skip == 0 && len(p) >= length {
		n, err = l.sf.ReadBlock(b, p[:length])
	} else { // a part of the block; another part is likely to be wanted soon
		var buf *buffer
		if buf, err = l.stored(b); err == nil {
			buf.publish(key, 1)
			n = copy(p, buf.data[min(skip, len(buf.data)):])
			l.keep(buf)
			buf.release()
		}
	}
	if err == nil {
		l.s.count.diskHits.Add(1)
	}
	return n, err
}

// stored reads a block from the disk into an unpublished buffer of its true length: the size may have
// become known since blockLen was asked.
func (l *local) stored(b int64) (*buffer, error) {
	buf := l.s.buffers.get(l.blockLen(b))
	n, err := l.sf.ReadBlock(b, buf.data)
	if err != nil {
		buf.discard()
		return nil, err
	}
	buf.data = buf.data[:n]
	return buf, nil
}

// keep offers a published block to the memory tier.
func (l *local) keep(buf *buffer) {
	if l.id != 0 {
		l.s.mem.put(buf)
	}
}

// forget gives back the room of a table of sums that is not used any more.
func (l *local) forget(t *sums.Table) {
	if t != nil {
		l.s.tables.Add(-roomOf(t))
	}
}

// extent returns the index of the first extent that ends after off.
func (l *local) extent(off int64) int {
	return sort.Search(len(l.data), func(i int) bool { return l.data[i].Off+l.data[i].Len > off })
}

// zeroRun returns how many blocks from b on are zero.
func (l *local) zeroRun(b int64) (n int64) {
	for b+n < l.blocks() && l.zero(b+n) {
		n++
	}
	return n
}

// damaged reports whether a block was lost because the disk had changed it.
func damaged(err error) bool {
	var d *store.DamagedError
	return errors.As(err, &d)
}
