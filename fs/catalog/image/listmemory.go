package image

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"vmcastfs/cache"
	"vmcastfs/xvm"
)

// Limits of block lists in memory. What a list takes by itself is 2 bits for a block
// of it; its sums are in pages.
const (
	maxListMemory = 32 << 20 // all of them
	maxIdleLists  = 64       // of packages that no image is open of: they hold the package
	maxPages      = 200      // of 20 KiB: all together
)

// ListMemory bounds what all block lists take together.
//
// mu guards what follows it; it comes before BlockSums.mu.
type ListMemory struct {
	mu    sync.Mutex
	total int64
	lists map[*BlockSums]struct{} // in memory, or about to be

	pages pageCache
}

// take takes bytes of memory for a list, and lets go of idle ones for that. What all
// lists take is bounded, but a package has its share whatever others have: of its
// origin's, or of all packages'. So no list, however large, keeps another from being
// used.
func (m *ListMemory) take(b *BlockSums, bytes int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.total+bytes > maxListMemory && m.dropIdle(0) {
	}
	if m.total+bytes > maxListMemory {
		origins := map[string]int64{b.Origin: 0}
		for l := range m.lists {
			origins[l.Origin] += l.held
		}
		_, known := m.lists[b]
		packages := int64(len(m.lists))
		if !known {
			packages++
		}
		if share := maxListMemory / packages; b.held+bytes > share && origins[b.Origin]+bytes > maxListMemory/int64(len(origins)) {
			return fmt.Errorf("the block lists in use take %d MiB of memory, and this one takes more than its share of %d KiB", m.total>>20, share>>10)
		}
	}
	if m.lists == nil {
		m.lists = make(map[*BlockSums]struct{})
	}
	m.lists[b] = struct{}{}
	b.held += bytes
	m.total += bytes
	return nil
}

// rest is called when a list may have become idle.
func (m *ListMemory) rest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropIdle(maxIdleLists)
}

// dropIdle lets go of the list that has been idle for longest, if more than spare are;
// false: it has not. mu is held.
func (m *ListMemory) dropIdle(spare int) bool {
	var oldest *BlockSums
	idle := 0
	var since time.Time
	for l := range m.lists {
		l.mu.Lock()
		if l.list != nil && l.users == 0 {
			idle++
			if oldest == nil || l.used.Before(since) {
				oldest, since = l, l.used
			}
		}
		l.mu.Unlock()
	}
	if oldest == nil || idle <= spare {
		return false
	}
	oldest.mu.Lock()
	defer oldest.mu.Unlock()
	if oldest.users == 0 {
		oldest.list = nil
		m.drop(oldest)
	}
	return true
}

// drop takes note of a list that is not in memory any more; mu is held.
func (m *ListMemory) drop(b *BlockSums) {
	delete(m.lists, b)
	m.total -= b.held
	b.held = 0
}

func (m *ListMemory) free(b *BlockSums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(b)
}

// listedBlocks are the blocks of an image in a list.
type listedBlocks struct {
	*xvm.ImageBlocks
	text  func(ctx context.Context, off int64, n int) ([]byte, error)
	lists *ListMemory
}

var _ cache.BlockSums = (*listedBlocks)(nil)

// Known is that of the outline.
func (l *listedBlocks) Known(b int64) (zero, ok bool) { return l.Outline().Known(b) }

// Sum reads the sum of a block.
func (l *listedBlocks) Sum(ctx context.Context, b int64) (sum [32]byte, err error) {
	page, err := l.page(ctx, b)
	if err != nil || page == nil {
		return sum, err
	}
	sum, _, _ = l.InPage(page, b)
	return sum, nil
}

// Place says where in Member the compressed form of a block lies; not ok: it is all
// zeros.
func (l *listedBlocks) Place(ctx context.Context, b int64) (off, n int64, ok bool, err error) {
	page, err := l.page(ctx, b)
	if err != nil || page == nil {
		return 0, 0, false, err
	}
	_, off, n = l.InPage(page, b)
	return off, n, true, nil
}

// page is the page that has the sum of a block, nil if it has none.
func (l *listedBlocks) page(ctx context.Context, b int64) (*xvm.ListPage, error) {
	spot, ok := l.Page(b)
	if !ok {
		return nil, nil
	}
	at := pageKey{l.ImageBlocks, spot.Number}
	if page := l.lists.pages.get(at); page != nil {
		return page, nil
	}
	text, err := l.text(ctx, spot.Off, spot.Len)
	if err != nil {
		return nil, err
	}
	page, err := l.ParsePage(spot, text)
	if err == nil {
		l.lists.pages.put(at, page)
	}
	return page, err
}

// A pageCache has the pages that were used last.
//
// mu guards what follows it; it is a leaf.
type pageCache struct {
	mu    sync.Mutex
	order list.List // of *cachedPage, the last used first
	byKey map[pageKey]*list.Element
}

type pageKey struct {
	image  *xvm.ImageBlocks
	number int
}

type cachedPage struct {
	key  pageKey
	page *xvm.ListPage
}

func (c *pageCache) get(key pageKey) *xvm.ListPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedPage).page
}

func (c *pageCache) put(key pageKey, page *xvm.ListPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = make(map[pageKey]*list.Element)
	}
	if c.byKey[key] != nil {
		return
	}
	c.byKey[key] = c.order.PushFront(&cachedPage{key, page})
	if c.order.Len() > maxPages {
		last := c.order.Remove(c.order.Back()).(*cachedPage)
		delete(c.byKey, last.key)
	}
}
