package store

import "math/bits"

// Column is what is known of a stretch of a file, in blocks.
type Column struct {
	Blocks int64 `json:"blocks"`
	Here   int64 `json:"here"` // those of zeros included
	Zero   int64 `json:"zero,omitempty"`
	// Elsewhere are those of the runs that were asked for that are here and no zeros.
	Elsewhere int64 `json:"elsewhere,omitempty"`
}

// Run is a run of blocks.
type Run struct{ Block, N int64 }

// KeyOf is the name of a file in its store.
func KeyOf(f *File) Key { return f.key }

// Columns divides a file into n stretches of the same length, or into its blocks if
// it has fewer. The runs of elsewhere are in order. nil: the size is unknown, or 0.
func Columns(f *File, n int, elsewhere []Run) []Column {
	f.j.poll()
	p := f.present
	p.mu.RLock()
	defer p.mu.RUnlock()
	m := p.mapping
	end := m.end()
	if m.size == Unknown || end == 0 || n < 1 {
		return nil
	}
	n = int(min(int64(n), end))
	list := make([]Column, n)
	for i := range list {
		from, to := ColumnStart(i, n, end), ColumnStart(i+1, n, end)
		list[i] = Column{Blocks: to - from}
		list[i].Here, list[i].Zero = m.count(from, to)
		for len(elsewhere) > 0 && elsewhere[0].Block < to {
			r := elsewhere[0]
			here, zero := m.count(max(r.Block, from), min(r.Block+r.N, to))
			list[i].Elsewhere += here - zero
			if r.Block+r.N > to {
				break // it goes on in the next column
			}
			elsewhere = elsewhere[1:]
		}
	}
	return list
}

// ColumnStart is the first block of column i of n of a file of so many blocks.
func ColumnStart(i, n int, blocks int64) int64 {
	return blocks/int64(n)*int64(i) + blocks%int64(n)*int64(i)/int64(n)
}

// count counts the blocks from b to end-1 that are present, and zeros.
func (m *blockMap) count(b, end int64) (present, zero int64) {
	for b < end {
		p := m.page(b)
		if p == nil || p == zeroPage {
			k := min(end-b, pageBlocks-b%pageBlocks)
			if p == zeroPage {
				present, zero = present+k, zero+k
			}
			b += k
			continue
		}
		w, mask, k := wordMask(b, end-b)
		present += int64(bits.OnesCount64(mask & p.present[w]))
		zero += int64(bits.OnesCount64(mask & p.zero[w]))
		b += k
	}
	return present, zero
}

// ColumnsOf are those of a file that need not be open; nil: nothing of it is here.
func ColumnsOf(s *Store, k Key, n int, elsewhere []Run) []Column {
	if _, err := s.Stamp(k); err != nil {
		return nil
	}
	f, err := OpenExisting(s, k)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // nothing was written
	return Columns(f, n, elsewhere)
}

// OpenExisting opens a file that the store has.
func OpenExisting(s *Store, k Key) (*File, error) { return s.acquire(k, 0) }
