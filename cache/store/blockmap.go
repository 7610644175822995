package store

import (
	"math/bits"
	"sync/atomic"
)

const (
	pageBlocks = 1024
	pageWords  = pageBlocks / 64
)

// A page holds what is known of 1024 blocks. Its checksums reach as far as its last block of data, about:
// most files are small.
type page struct {
	present [pageWords]uint64
	zero    [pageWords]uint64 // subset of present
	used    [2][pageWords]atomic.Uint64
	sums    []uint32
}

// zeroPage stands for every page that is zeros throughout, so that a hole of a terabyte costs 8 bytes per 1024 blocks.
// Nobody writes to it: a page that is to differ takes its place.
var zeroPage = func() *page {
	p := new(page)
	for w := range pageWords {
		p.present[w], p.zero[w] = ^uint64(0), ^uint64(0)
	}
	return p
}()

// blockMap is the presence of a file's blocks in memory. Pages come into being when they are first written to.
// It has no lock: presence.mu guards it. Only use may be called under a read lock.
type blockMap struct {
	pages   []*page
	present int64 // blocks, those of zeros included
	zeros   int64 // blocks
	era     int   // which of a page's used maps is the current one
}

func (m *blockMap) page(b int64) *page {
	if i := b / pageBlocks; i < int64(len(m.pages)) {
		return m.pages[i]
	}
	return nil
}

// makePage returns the page of b, to be written to.
func (m *blockMap) makePage(b int64) *page {
	i := m.reach(b)
	switch m.pages[i] {
	case nil:
		m.pages[i] = new(page)
	case zeroPage:
		m.pages[i] = &page{present: zeroPage.present, zero: zeroPage.zero}
	}
	return m.pages[i]
}

// reach makes the table long enough for b, and returns the number of its page.
func (m *blockMap) reach(b int64) int {
	i := int(b / pageBlocks)
	if i >= len(m.pages) {
		m.pages = append(m.pages, make([]*page, i+1-len(m.pages))...)
	}
	return i
}

func bitOf(b int64) (word int, bit uint64) {
	return int(b % pageBlocks / 64), 1 << (b % 64)
}

func (m *blockMap) get(b int64) (sum uint32, zero, ok bool) {
	p := m.page(b)
	if p == nil {
		return 0, false, false
	}
	w, bit := bitOf(b)
	if p.present[w]&bit == 0 {
		return 0, false, false
	}
	if p.zero[w]&bit != 0 {
		return 0, true, true
	}
	return p.sums[b%pageBlocks], false, true
}

func (m *blockMap) set(b int64, sum uint32) {
	p := m.makePage(b)
	w, bit := bitOf(b)
	if p.present[w]&bit == 0 {
		m.present++
	}
	if p.zero[w]&bit != 0 {
		m.zeros--
	}
	p.present[w] |= bit
	p.zero[w] &^= bit
	i := int(b % pageBlocks)
	if i >= len(p.sums) {
		more := make([]uint32, max(8, 1<<bits.Len(uint(i))))
		copy(more, p.sums)
		p.sums = more
	}
	p.sums[i] = sum
}

func (m *blockMap) setZeros(b, n int64) {
	for n > 0 {
		if b%pageBlocks == 0 && n >= pageBlocks {
			m.drop(b, pageBlocks)
			m.pages[m.reach(b)] = zeroPage
			m.present += pageBlocks
			m.zeros += pageBlocks
			b, n = b+pageBlocks, n-pageBlocks
			continue
		}
		w, mask, k := wordMask(b, n)
		if m.page(b) == zeroPage {
			b, n = b+k, n-k
			continue
		}
		p := m.makePage(b)
		m.present += int64(bits.OnesCount64(mask &^ p.present[w]))
		m.zeros += int64(bits.OnesCount64(mask &^ p.zero[w]))
		p.present[w] |= mask
		p.zero[w] |= mask
		b, n = b+k, n-k
	}
}

func (m *blockMap) drop(b, n int64) {
	for n > 0 && b < int64(len(m.pages))*pageBlocks {
		w, mask, k := wordMask(b, n)
		p := m.page(b)
		if p == zeroPage {
			if b%pageBlocks == 0 && n >= pageBlocks {
				m.pages[b/pageBlocks] = nil
				m.present -= pageBlocks
				m.zeros -= pageBlocks
				b, n = b+pageBlocks, n-pageBlocks
				continue
			}
			p = m.makePage(b)
		}
		if p != nil {
			m.present -= int64(bits.OnesCount64(mask & p.present[w]))
			m.zeros -= int64(bits.OnesCount64(mask & p.zero[w]))
			p.present[w] &^= mask
			p.zero[w] &^= mask
		} else {
			k = min(n, pageBlocks-b%pageBlocks)
		}
		b, n = b+k, n-k
	}
}

// wordMask gives the bits of the word holding b that lie in [b, b+n), and how many blocks that covers.
func wordMask(b, n int64) (word int, mask uint64, covered int64) {
	at := b % 64
	covered = min(n, 64-at)
	mask = ^uint64(0) >> (64 - covered) << at
	return int(b % pageBlocks / 64), mask, covered
}

// The words of a page by which next looks for blocks.
func presentWord(p *page, w int) uint64 { return p.present[w] }
func missingWord(p *page, w int) uint64 { return ^p.present[w] }
func zeroWord(p *page, w int) uint64    { return p.zero[w] }
func nonzeroWord(p *page, w int) uint64 { return ^p.zero[w] }

// coldWord has the blocks that take disk space and were not used in this era or the one before.
func coldWord(p *page, w int) uint64 {
	return p.present[w] &^ p.zero[w] &^ p.used[0][w].Load() &^ p.used[1][w].Load()
}

// emptyPage stands for every page that does not exist. Nobody writes to it.
var emptyPage = new(page)

// next returns the first block in [b, end) whose bit is set in the words of its page; else end.
func (m *blockMap) next(b, end int64, word func(p *page, w int) uint64) int64 {
	for b < end {
		p := m.page(b)
		if p == nil {
			p = emptyPage
		}
		if (p == emptyPage || p == zeroPage) && word(p, 0) == 0 { // all words of such a page are the same
			if b >= int64(len(m.pages))*pageBlocks {
				return end
			}
			b += pageBlocks - b%pageBlocks
			continue
		}
		w, mask, k := wordMask(b, end-b)
		if x := word(p, w) & mask; x != 0 {
			return b - b%64 + int64(bits.TrailingZeros64(x))
		}
		b += k
	}
	return end
}

// use notes that a block was wanted. Safe under a read lock.
func (m *blockMap) use(b int64) {
	p := m.page(b)
	if p == nil || p == zeroPage {
		return
	}
	w, bit := bitOf(b)
	if u := &p.used[m.era][w]; u.Load()&bit == 0 {
		u.Or(bit)
	}
}

// age begins a new era: what was used in the last but one, and not since, is cold.
func (m *blockMap) age() {
	m.era ^= 1
	for _, p := range m.pages {
		if p == nil || p == zeroPage {
			continue
		}
		for w := range p.used[m.era] {
			p.used[m.era][w].Store(0)
		}
	}
}

// takeUse copies the eras of another map of the same file.
func (m *blockMap) takeUse(o *blockMap) {
	m.era = o.era
	for i, p := range m.pages {
		if p == nil || p == zeroPage || i >= len(o.pages) || o.pages[i] == nil {
			continue
		}
		for e := range p.used {
			for w := range p.used[e] {
				p.used[e][w].Store(o.pages[i].used[e][w].Load())
			}
		}
	}
}
