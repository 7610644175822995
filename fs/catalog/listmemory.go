package catalog

import (
	"fmt"
	"sync"
	"time"

	"vmcastfs/xvm"
)

// Limits of block lists in memory.
const (
	maxListMemory  = 256 << 20 // all of them
	idleListMemory = 48 << 20  // those that no open image needs
)

// listMemory bounds what all block lists take together.
//
// mu guards what follows it; it comes before blockSums.mu.
type listMemory struct {
	mu    sync.Mutex
	lists map[*blockSums]struct{} // in memory, or about to be
}

// reserve makes room for a list, letting go of idle ones.
func (m *listMemory) reserve(b *blockSums) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		var total, idle int64
		var oldest *blockSums
		var since time.Time
		for l := range m.lists {
			total += l.most
			l.mu.Lock()
			if l.list != nil && l.users == 0 {
				idle += l.most
				if oldest == nil || l.used.Before(since) {
					oldest, since = l, l.used
				}
			}
			l.mu.Unlock()
		}
		if total+b.most <= maxListMemory && idle <= idleListMemory {
			break
		}
		if oldest == nil {
			if total == 0 {
				break // one alone has its own limit
			}
			return fmt.Errorf("the block lists in use take %d MiB of memory, and this one needs %d more, beyond the limit of %d",
				total>>20, b.most>>20, maxListMemory>>20)
		}
		oldest.mu.Lock()
		if oldest.users == 0 {
			oldest.list, oldest.points = nil, nil
			delete(m.lists, oldest)
		}
		oldest.mu.Unlock()
	}
	if m.lists == nil {
		m.lists = make(map[*blockSums]struct{})
	}
	m.lists[b] = struct{}{}
	return nil
}

func (m *listMemory) free(b *blockSums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lists, b)
}

// listBytes is what a list of n bytes of text may take: 40 bytes for each line
// of 65, while it grows a quarter more, and 1.5 bits for each block of zeros.
func listBytes(n int64) int64 { return n*4/5 + xvm.MaxListBlocks*3/16 }
