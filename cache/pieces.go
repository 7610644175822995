package cache

import (
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
)

// Piece is the state of a stretch of a file, in blocks.
type Piece struct {
	store.Column
	Coming int64 `json:"coming,omitempty"` // on their way
}

// RunsOf are the blocks of runs.
func RunsOf(l trace.Runs) (list []store.Run) {
	for _, a := range l {
		list = append(list, store.Run{Block: int64(a.Block), N: int64(a.N)})
	}
	return list
}

// Pieces divides the file into n stretches at most; elsewhere did not come from the
// server of the feed. What is known to be zero without asking is here. nil: the size
// is not known yet.
func (h *File) Pieces(n int, elsewhere trace.Runs) []Piece {
	h.use.RLock()
	defer h.use.RUnlock()
	if h.closed {
		return nil
	}
	l, fl := h.e.local, h.e.flights
	columns := store.Columns(l.sf, n, RunsOf(elsewhere))
	list := make([]Piece, len(columns))
	blocks := l.blocks()
	for i, c := range columns {
		list[i].Column = c
		if c.Zero == c.Blocks {
			continue
		}
		from, to := store.ColumnStart(i, len(columns), blocks), store.ColumnStart(i+1, len(columns), blocks)
		if zeros := h.e.zeros(from, to); zeros > c.Zero { // the store does not have them yet
			list[i].Here += zeros - c.Zero
			list[i].Zero = zeros
		}
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for b := range fl.table {
		if b < blocks && len(list) > 0 {
			list[columnOf(b, len(list), blocks)].Coming++
		}
	}
	return list
}

// columnOf is the column of n that block b is in.
func columnOf(b int64, n int, blocks int64) int {
	i := int(float64(b) / float64(blocks) * float64(n))
	for i > 0 && store.ColumnStart(i, n, blocks) > b {
		i--
	}
	for i < n-1 && store.ColumnStart(i+1, n, blocks) <= b {
		i++
	}
	return i
}

// zerosLooked is how many blocks of a stretch are asked one by one.
const zerosLooked = 4096

// zeros is how many of the blocks from..to-1 are known to be zero, by extents or
// sums; of a long stretch about how many.
func (e *entry) zeros(from, to int64) (n int64) {
	l := e.local
	if l.data == nil && l.sums() == nil {
		return 0
	}
	step := (to-from-1)/zerosLooked + 1
	for b := from; b < to; b += step {
		if l.zero(b) {
			n += min(step, to-b)
		}
	}
	return n
}
