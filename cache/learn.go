package cache

import (
	"crypto/sha256"
	"vmcastfs/xvm/sums"
)

// learner computes the sum of each block of a file while the whole is checked.
type learner struct {
	local *local
	table *sums.Table // nil until the first block: the size is known then
	full  bool        // too many blocks
}

// block adds the next block. Of a file whose size is unknown the sums are
// kept by number until it is.
func (l *learner) block(p []byte) {
	if l.full {
		return
	}
	if l.table == nil {
		l.table = sums.NewTable(sums.Unknown, int(l.local.bs))
	}
	if l.table.Len()%tableStep == 0 && !l.reserve(tableStep*32) {
		l.drop()
		return
	}
	zero := sums.Zero(p)
	var sum [32]byte
	if !zero {
		sum = sha256.Sum256(p)
	}
	if !l.table.Append(sum, zero) {
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

// roomOf is what reserve took for a table.
func roomOf(t *sums.Table) int64 { return (t.Len() + tableStep - 1) / tableStep * tableStep * 32 }

func (l *learner) reserve(n int64) bool {
	if l.local.s.tables.Add(n) > maxTables {
		l.local.s.tables.Add(-n)
		return false
	}
	return true
}

// drop gives up, for good.
func (l *learner) drop() {
	if l == nil {
		return
	}
	l.full = true
	l.local.forget(l.table)
	l.table = nil
}

// table returns the sums of the whole, or nil.
func (l *learner) done() *sums.Table {
	if l == nil || l.full || l.table == nil {
		return nil
	}
	if !l.table.End(l.local.size.Load()) {
		l.drop()
		return nil
	}
	return l.table
}
