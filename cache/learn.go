package cache

import (
	"bytes"
	"crypto/sha256"
)

// learner computes the sum of each block of a file while the whole is checked.
type learner struct {
	local *local
	sums  *SumTable // nil until the first block: the size is known then
	full  bool      // too many blocks
}

// block adds the next block. Of a file whose size is unknown the sums are
// kept by number until it is.
func (l *learner) block(p []byte) {
	if l.full {
		return
	}
	if l.sums == nil {
		l.sums = NewSumTable(maxTableSums*l.local.bs, int(l.local.bs))
	}
	if l.sums.count%tableStep == 0 && !l.reserve(tableStep*32) {
		l.drop()
		return
	}
	zero := allZero(p)
	var sum [32]byte
	if !zero {
		sum = sha256.Sum256(p)
	}
	if !l.sums.Append(sum, zero) {
		l.drop()
	}
}

const (
	// maxTables bounds the sums learned in memory, of all open files together.
	// Files beyond it do without.
	maxTables = 64 << 20
	// tableStep is for how many blocks room is taken at a time.
	tableStep = 1024
)

func (l *learner) reserve(n int64) bool {
	if l.local.s.tables.Add(n) > maxTables {
		l.local.s.tables.Add(-n)
		return false
	}
	l.sums.room += n
	return true
}

// drop gives up, for good.
func (l *learner) drop() {
	if l == nil {
		return
	}
	l.full = true
	l.local.forget(l.sums)
	l.sums = nil
}

// table returns the sums of the whole, or nil.
func (l *learner) table() *SumTable {
	if l == nil || l.full || l.sums == nil {
		return nil
	}
	l.sums.size = l.local.size.Load()
	if !l.sums.complete() {
		l.drop()
		return nil
	}
	return l.sums
}

func allZero(p []byte) bool { return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }
