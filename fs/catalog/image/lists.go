package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// BlockSums are what the blocks of a package's images are checked against: its
// own block list, or that of a sidecar. The list is in memory while one of the
// images is open, and a while longer if there is room. A nil *BlockSums is of a
// package that has none.
//
// mu guards what follows it. It is a leaf, but for listMemory.mu, which comes
// before it.
type BlockSums struct {
	ListSpec
	lists *ListMemory
	run   func(func(ctx context.Context)) bool // in the background

	mu      sync.Mutex
	users   int
	list    *xvm.BlockList    // nil: not in memory
	data    map[string]int64  // ListSpec.Data, as far as it is known now; nil: not at all
	points  map[string][]byte // seek points of a sidecar, by member, until they are taken
	loading *listLoad
	used    time.Time // when the last user let go
}

// ListSpec says which block list it is.
type ListSpec struct {
	Label string // of the list, for people
	// ID tells lists apart that one package may have been read with: blocks
	// checked against one are not taken for checked against another.
	ID string
	// Own: it is the package's own list, so that what it says is for good.
	Own bool
	// Load reads the list, and seek points by member, which may be nil.
	Load func(ctx context.Context) (*xvm.BlockList, map[string][]byte, error)
	Text int64 // bytes of the list as text; 0: not known
	Most int64 // bytes of memory it may take
	// Data is how many bytes of each image are in blocks that are not all zeros,
	// if that has been learned already; DataFound is told when it is learned. Each
	// may be nil.
	Data      map[string]int64
	DataFound func(map[string]int64)
}

// NewBlockSums makes one whose list is read when it is wanted first. Run is
// Env.Go.
func NewBlockSums(spec ListSpec, lists *ListMemory, run func(func(ctx context.Context)) bool) *BlockSums {
	return &BlockSums{ListSpec: spec, lists: lists, run: run, data: spec.Data}
}

// dataOf is how many bytes of an image may be other than zero; known: nothing will
// be learned any more.
func (b *BlockSums) dataOf(name string, size int64) (n int64, known bool) {
	if b == nil {
		return size, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, ok := b.data[name]; ok {
		return n, true
	}
	return size, b.data != nil
}

// learnData takes note of where the images have data, once.
func (b *BlockSums) learnData(list *xvm.BlockList) {
	data := list.Data()
	b.mu.Lock()
	fresh := b.data == nil
	if fresh {
		b.data = data
	}
	b.mu.Unlock()
	if fresh && b.DataFound != nil {
		b.DataFound(data)
	}
}

type listLoad struct {
	done chan struct{}
	err  error
}

// Hold keeps the list in memory until LetGo, reading it first if need be. ctx
// ends only this caller's waiting.
func (b *BlockSums) Hold(ctx context.Context) error {
	if b == nil {
		return nil
	}
	for {
		b.mu.Lock()
		if b.list != nil {
			b.users++
			b.mu.Unlock()
			return nil
		}
		l := b.loading
		if l == nil {
			l = &listLoad{done: make(chan struct{})}
			b.loading = l
			if !b.run(func(ctx context.Context) { b.read(ctx, l) }) {
				b.loading = nil
				b.mu.Unlock()
				return context.Canceled
			}
		}
		b.mu.Unlock()
		select {
		case <-l.done:
			if l.err != nil {
				return l.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *BlockSums) LetGo() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.users--
	b.used = time.Now()
	b.mu.Unlock()
}

// read brings the list into memory.
func (b *BlockSums) read(ctx context.Context, l *listLoad) {
	err := b.lists.reserve(b)
	var list *xvm.BlockList
	var points map[string][]byte
	if err == nil {
		if list, points, err = b.Load(ctx); err != nil {
			b.lists.free(b)
		}
	}
	if err != nil {
		err = fmt.Errorf("the block list %s cannot be used: %w", b.Label, err)
	} else {
		b.learnData(list)
	}
	b.mu.Lock()
	b.list, b.points, b.loading, l.err = list, points, nil, err
	b.used = time.Now()
	b.mu.Unlock()
	close(l.done)
}

// image finds the blocks of an image, by its plain name; nil if the list does not
// have it. The caller holds the list. Member and stored are the compressed member
// the image comes from and its length, "" and 0 for one stored plain. Size is the
// image's, or store.Unknown.
func (b *BlockSums) image(name, member string, stored, size int64) (*xvm.ImageBlocks, error) {
	if b == nil {
		return nil, nil
	}
	b.mu.Lock()
	list := b.list
	b.mu.Unlock()
	if list == nil {
		return nil, errors.New("the block list is not in memory")
	}
	ib := list.Image(name)
	switch {
	case ib == nil:
		return nil, nil
	case size != store.Unknown && ib.Size != size:
		return nil, fmt.Errorf("%w: %s gives %s a size of %d bytes, it has %d", xvm.ErrNotPackage, b.Label, name, ib.Size, size)
	case ib.Member != "" && (ib.Member != member || ib.Stored != stored):
		return nil, fmt.Errorf("%w: %s takes %s from %d bytes of %q, which is another member than this one", xvm.ErrNotPackage, b.Label, name, ib.Stored, ib.Member)
	}
	return ib, nil
}

// Offer gives the list to those that will want it soon, if there is room.
func (b *BlockSums) Offer(list *xvm.BlockList, points map[string][]byte) {
	if b == nil || b.lists.reserve(b) != nil {
		return
	}
	b.learnData(list)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list, b.points, b.used = list, maps.Clone(points), time.Now()
}

// takePoints returns the list's seek points of a member, once: its caller keeps
// them on the disk.
func (b *BlockSums) takePoints(member string) []byte {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	points := b.points[member]
	delete(b.points, member)
	return points
}

// Limits of block lists in memory.
const (
	maxListMemory  = 256 << 20 // all of them
	idleListMemory = 48 << 20  // those that no open image needs
)

// ListMemory bounds what all block lists take together.
//
// mu guards what follows it; it comes before BlockSums.mu.
type ListMemory struct {
	mu    sync.Mutex
	lists map[*BlockSums]struct{} // in memory, or about to be
}

// reserve makes room for a list, letting go of idle ones.
func (m *ListMemory) reserve(b *BlockSums) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		var total, idle int64
		var oldest *BlockSums
		var since time.Time
		for l := range m.lists {
			total += l.Most
			l.mu.Lock()
			if l.list != nil && l.users == 0 {
				idle += l.Most
				if oldest == nil || l.used.Before(since) {
					oldest, since = l, l.used
				}
			}
			l.mu.Unlock()
		}
		if total+b.Most <= maxListMemory && idle <= idleListMemory {
			break
		}
		if oldest == nil {
			if total == 0 {
				break // one alone has its own limit
			}
			return fmt.Errorf("the block lists in use take %d MiB of memory, and this one needs %d more, beyond the limit of %d",
				total>>20, b.Most>>20, maxListMemory>>20)
		}
		oldest.mu.Lock()
		if oldest.users == 0 {
			oldest.list, oldest.points = nil, nil
			delete(m.lists, oldest)
		}
		oldest.mu.Unlock()
	}
	if m.lists == nil {
		m.lists = make(map[*BlockSums]struct{})
	}
	m.lists[b] = struct{}{}
	return nil
}

func (m *ListMemory) free(b *BlockSums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lists, b)
}

// ListBytes is what a list of n bytes of text may take. That is 40 bytes for each
// line of 65, a quarter more while it grows, and 1.5 bits for each block of
// zeros.
func ListBytes(n int64) int64 { return n*4/5 + xvm.MaxListBlocks*3/16 }
