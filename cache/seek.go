package cache

import (
	"sort"
	"syscall"
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
	f := h.f
	size := f.size.Load()
	for off >= 0 && off < size {
		end := f.zeroEnd(off)
		if end <= off {
			return off, nil
		}
		off = end
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
	f := h.f
	size := f.size.Load()
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	if f.zeroEnd(off) > off {
		return off, nil
	}
	hole := min(size, f.sf.NextHole(off))
	if i := f.extent(off); f.data != nil && i < len(f.data) {
		hole = min(hole, f.data[i].Off+f.data[i].Len)
	}
	if sums := f.blockSums(); sums != nil {
		for b := off/f.bs + 1; b*f.bs < hole; b++ {
			if _, zero, ok := sums.Sum(b); ok && zero {
				hole = b * f.bs
			}
		}
	}
	return hole, nil
}

// zeroRun returns how many blocks from b on are zero.
func (f *content) zeroRun(b int64) (n int64) {
	for b+n < f.blocks() && f.zero(b+n) {
		n++
	}
	return n
}

// extent returns the index of the first extent that ends after off.
func (f *content) extent(off int64) int {
	return sort.Search(len(f.data), func(i int) bool { return f.data[i].Off+f.data[i].Len > off })
}

// zeroEnd returns where the longest zeros known by any one authority end that
// begin at off; off if there are none.
func (f *content) zeroEnd(off int64) int64 {
	size := f.size.Load()
	end := min(size, f.sf.NextData(off))
	if f.data != nil {
		if i := f.extent(off); i == len(f.data) {
			end = size
		} else {
			end = max(end, f.data[i].Off)
		}
	}
	if sums := f.blockSums(); sums != nil {
		b := off / f.bs
		for ; b < f.blocks(); b++ {
			if _, zero, ok := sums.Sum(b); !ok || !zero {
				break
			}
		}
		if b > off/f.bs {
			end = max(end, min(size, b*f.bs))
		}
	}
	return end
}
