package cache

import (
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
	l := h.e.local
	size := l.size.Load()
	for off >= 0 && off < size {
		end := l.zeroEnd(off)
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
	l := h.e.local
	size := l.size.Load()
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	if l.zeroEnd(off) > off {
		return off, nil
	}
	hole := min(size, l.sf.NextHole(off))
	if i := l.extent(off); l.data != nil && i < len(l.data) {
		hole = min(hole, l.data[i].Off+l.data[i].Len)
	}
	if sums := l.sums(); sums != nil {
		for b := off/l.bs + 1; b*l.bs < hole; b++ {
			if zero, ok := sums.Known(b); ok && zero {
				hole = b * l.bs
			}
		}
	}
	return hole, nil
}
