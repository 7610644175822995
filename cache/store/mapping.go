package store

import (
	"bytes"
	"encoding/binary"
)

// mapping is what a journal says of one file. presence.mu guards the one in use.
type mapping struct {
	blockMap
	blockSize int
	size      int64 // or Unknown
	state     FileState
	note      string
}

func newMapping(blockSize int) *mapping { return &mapping{blockSize: blockSize, size: Unknown} }

// end is the number of blocks, or the greatest possible number while the size is unknown.
func (m *mapping) end() int64 {
	if m.size == Unknown {
		return MaxBlocks
	}
	return blocksOf(m.size, m.blockSize)
}

// blockLen is the length of block b in bytes: only the last one of a file may be short.
func (m *mapping) blockLen(b int64) int {
	if m.size == Unknown {
		return m.blockSize
	}
	return int(min(int64(m.blockSize), m.size-b*int64(m.blockSize)))
}

func (m *mapping) has(b int64) bool {
	_, _, ok := m.get(b)
	return ok
}

func (m *mapping) complete() bool { return m.size != Unknown && m.present == m.end() }

// setSize makes the size known and forgets what lies behind it.
func (m *mapping) setSize(n int64) {
	m.size = n
	m.drop(m.end(), MaxBlocks)
}

// dropped takes blocks away; a whole that was checked is one no longer.
func (m *mapping) dropped(b, n int64) {
	m.drop(b, n)
	if m.state == Verified {
		m.state, m.note = Partial, ""
	}
}

// apply replays one record. It reports false for what cannot be true of this file; such a record changes nothing.
func (m *mapping) apply(r record) bool {
	in := func(n int64) bool { return n > 0 && r.pos >= 0 && r.pos < m.end() && n <= m.end()-r.pos }
	switch r.kind {
	case kindSize:
		if checkSize(r.pos, m.blockSize) != nil || m.size != Unknown && m.size != r.pos {
			return false
		}
		m.setSize(r.pos)
	case kindState:
		if r.pos > int64(Corrupt) || len(r.payload) > maxNote {
			return false
		}
		m.state, m.note = FileState(r.pos), string(bytes.TrimRight(r.payload, "\x00"))
	case kindBlocks:
		if len(r.payload) == 0 {
			if !in(1) {
				return false
			}
			m.set(r.pos, r.value)
			return true
		}
		n := int64(len(r.payload) / 4)
		if !in(n) {
			return false
		}
		for i := range n {
			m.set(r.pos+i, binary.LittleEndian.Uint32(r.payload[4*i:]))
		}
	case kindZeros:
		// Without a size there is no bound to what one record could make us allocate.
		if !in(int64(r.value)) || m.size == Unknown && r.value > maxZeros {
			return false
		}
		m.setZeros(r.pos, int64(r.value))
	case kindDrop:
		if !in(int64(r.value)) {
			return false
		}
		m.dropped(r.pos, int64(r.value))
	}
	return true
}

// maxZeros bounds a run of zero blocks in a file of unknown size.
const maxZeros = 1 << 16

// encode writes the mapping as the shortest journal that gives it back, leaving out the blocks in skip.
func (m *mapping) encode(h header, skip map[int64]uint64) []byte {
	w := runWriter{buf: h.encode(), salt: h.salt}
	if m.size != Unknown {
		w.buf = appendRecord(w.buf, w.salt, record{kind: kindSize, pos: m.size})
	}
	end := m.end()
	for b := m.next(0, end, presentWord); b < end; b = m.next(b+1, end, presentWord) {
		if _, not := skip[b]; not {
			continue
		}
		sum, zero, _ := m.get(b)
		if zero && m.size == Unknown && w.n >= maxZeros {
			w.end()
		}
		w.add(b, sum, zero)
		if zero && m.size != Unknown && len(skip) == 0 { // the run at once: it may be of terabytes
			last := m.next(b, end, nonzeroWord) - 1
			w.n, b = w.n+last-b, last
		}
	}
	w.end()
	if m.state != Partial || m.note != "" {
		w.buf = appendRecord(w.buf, w.salt, stateRecord(m.state, m.note))
	}
	return w.buf
}
