package cache

import (
	"syscall"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// SeekData returns the first offset ≥ off whose byte is not known to be zero,
// as lseek(2) has it for SEEK_DATA: ENXIO if there is none, or if the size is
// not known. What is absent counts as data.
func (h *File) SeekData(off int64) (int64, error) {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return 0, ErrClosed
	}
	if off >= 0 {
		if at := h.e.local.dataFrom(off); at < h.e.local.size.Load() {
			return at, nil
		}
	}
	return 0, syscall.ENXIO
}

// SeekHole returns the first offset ≥ off from which on bytes are known to be
// zero, or the size; ENXIO if off is not inside the file.
func (h *File) SeekHole(off int64) (int64, error) {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return 0, ErrClosed
	}
	if off < 0 || off >= h.e.local.size.Load() {
		return 0, syscall.ENXIO
	}
	return h.e.local.holeFrom(off), nil
}

// DataBytes counts what SeekData and SeekHole show as data; -1 while the size is not
// known.
func (h *File) DataBytes() int64 {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed || h.e.local.size.Load() < 0 {
		return -1
	}
	return h.e.local.dataBytes()
}

// DataBytesOf is DataBytes of a file of this size that need not be open and has no
// sums of blocks: by what a store has of it, and by extents as those of [Spec].
func DataBytesOf(s *store.Store, k store.Key, size int64, data []Extent) int64 {
	l := &local{data: mergeExtents(data, size), bs: DefaultBlockSize}
	l.size.Store(size)
	if _, err := s.Stamp(k); err == nil {
		if f, err := store.OpenExisting(s, k); err == nil {
			defer f.Close() //nolint:errcheck // nothing was written
			l.sf, l.bs = f, int64(f.BlockSize())
		}
	}
	return l.dataBytes()
}

// dataCount is the last answer of dataBytes, and what it depends on.
type dataCount struct {
	size, zeros int64
	learned     *sums.Table
	bytes       int64
}

// dataBytes counts the bytes that are not in holes. Only what has become known since
// the last time makes that a walk over them.
func (l *local) dataBytes() int64 {
	now := dataCount{size: l.size.Load(), learned: l.learned.Load()}
	if l.sf != nil && l.given == nil {
		now.zeros = store.ZerosOf(l.sf)
	}
	if c := l.counted.Load(); c != nil && c.size == now.size && c.zeros == now.zeros && c.learned == now.learned {
		return c.bytes
	}
	for off := l.dataFrom(0); off < now.size; {
		hole := l.holeFrom(off)
		now.bytes += hole - off
		off = l.dataFrom(hole)
	}
	l.counted.Store(&now)
	return now.bytes
}

// dataFrom is the first offset from off on that is not in a hole, or the size.
func (l *local) dataFrom(off int64) int64 {
	for size := l.size.Load(); off < size; {
		end := l.zeroEnd(off)
		if end <= off {
			return off
		}
		off = end
	}
	return l.size.Load()
}

// holeFrom is the first offset from off on that is in a hole, or the size.
func (l *local) holeFrom(off int64) int64 {
	if l.zeroEnd(off) > off {
		return off
	}
	hole := l.size.Load()
	if l.given == nil {
		if l.sf != nil {
			hole = min(hole, l.sf.NextHole(off))
		}
		if i := l.extent(off); l.data != nil && i < len(l.data) {
			hole = min(hole, l.data[i].Off+l.data[i].Len)
		}
	}
	if sums := l.sums(); sums != nil {
		for b := off/l.bs + 1; b*l.bs < hole; b++ {
			if zero, ok := sums.Known(b); ok && zero {
				hole = b * l.bs
			}
		}
	}
	return hole
}

// zeroEnd returns where the longest zeros known by any one authority end that
// begin at off; off if there are none. Sums that were given are the only authority:
// what they say does not change as blocks come and go.
func (l *local) zeroEnd(off int64) int64 {
	size := l.size.Load()
	end := off
	if l.given == nil {
		if l.sf != nil {
			end = max(end, min(size, l.sf.NextData(off)))
		}
		if l.data != nil {
			if i := l.extent(off); i == len(l.data) {
				end = size
			} else {
				end = max(end, l.data[i].Off)
			}
		}
	}
	if sums := l.sums(); sums != nil {
		b := off / l.bs
		for ; b < l.blocks(); b++ {
			if zero, ok := sums.Known(b); !ok || !zero {
				break
			}
		}
		if b > off/l.bs {
			end = max(end, min(size, b*l.bs))
		}
	}
	return end
}
