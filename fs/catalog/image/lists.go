package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// BlockSums are what the blocks of a package's images are checked against: its
// own block list, or that of a sidecar. What the list tells of blocks but their sums
// is in memory while one of the images is open, and a while longer if there is room.
// The sums are read by pages of the list's text. A nil *BlockSums is of a package that
// has none.
//
// mu guards what follows it. It is a leaf, but for ListMemory.mu, which comes
// before it.
type BlockSums struct {
	ListSpec
	lists *ListMemory
	run   func(func(ctx context.Context)) bool // in the background

	mu      sync.Mutex
	users   int
	list    *List            // nil: not in memory
	data    map[string]int64 // ListSpec.Data, as far as it is known now; nil: not at all
	loading *listLoad
	used    time.Time // when the last user let go

	held int64 // bytes of memory; guarded by ListMemory.mu
}

// List is a block list that has been read.
type List struct {
	Blocks *xvm.BlockList    // as xvm.OutlineBlockList reads it
	Points map[string][]byte // seek points of a sidecar, by member, until they are taken
	Bytes  int64             // of memory that both take
	// Text reads n bytes of the list's text at off. It may wait for the network.
	Text func(ctx context.Context, off int64, n int) ([]byte, error)
}

// ListSpec says which block list it is.
type ListSpec struct {
	Label string // of the list, for people
	// ID tells lists apart that one package may have been read with: blocks
	// checked against one are not taken for checked against another.
	ID string
	// Own: it is the package's own list, so that what it says is for good.
	Own bool
	// Origin is whose share of ListMemory it takes.
	Origin string
	// Load reads the list. It asks room before it takes more memory.
	Load func(ctx context.Context, room func(bytes int64) error) (*List, error)
	Text int64 // bytes of the list as text; 0: not known
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

// dataOf is how many bytes of an image are in blocks that are not all zeros; not
// known: the list has not been read, or does not have the image.
func (b *BlockSums) dataOf(name string) (n int64, known bool) {
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, known = b.data[name]
	return n, known
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
	idle := b.users == 0
	b.mu.Unlock()
	if idle {
		b.lists.rest()
	}
}

// read brings the list into memory.
func (b *BlockSums) read(ctx context.Context, l *listLoad) {
	list, err := b.Load(ctx, func(bytes int64) error { return b.lists.take(b, bytes) })
	if err != nil {
		b.lists.free(b)
		err = fmt.Errorf("the block list %s cannot be used: %w", b.Label, err)
	} else {
		b.learnData(list.Blocks)
	}
	b.mu.Lock()
	b.list, b.loading, l.err = list, nil, err
	b.used = time.Now()
	b.mu.Unlock()
	close(l.done)
}

// image finds the blocks of an image, by its plain name; nil if the list does not
// have it. The caller holds the list. Member and stored are the compressed member
// the image comes from and its length, "" and 0 for one stored plain. Size is the
// image's, or store.Unknown.
func (b *BlockSums) image(name, member string, stored, size int64) (*listedBlocks, error) {
	if b == nil {
		return nil, nil
	}
	b.mu.Lock()
	list := b.list
	b.mu.Unlock()
	if list == nil {
		return nil, errors.New("the block list is not in memory")
	}
	ib := list.Blocks.Image(name)
	switch {
	case ib == nil:
		return nil, nil
	case size != store.Unknown && ib.Size != size:
		return nil, fmt.Errorf("%w: %s gives %s a size of %d bytes, it has %d", xvm.ErrNotPackage, b.Label, name, ib.Size, size)
	case ib.Member != "" && (ib.Member != member || ib.Stored != stored):
		return nil, fmt.Errorf("%w: %s takes %s from %d bytes of %q, which is another member than this one", xvm.ErrNotPackage, b.Label, name, ib.Stored, ib.Member)
	}
	return &listedBlocks{ib, list.Text, b.lists}, nil
}

// Offer gives the list to those that will want it soon, if there is room.
func (b *BlockSums) Offer(list *List) {
	if b == nil || b.lists.take(b, list.Bytes) != nil {
		return
	}
	b.learnData(list.Blocks)
	b.mu.Lock()
	b.list, b.used = list, time.Now()
	b.mu.Unlock()
	b.lists.rest()
}

// takePoints returns the list's seek points of a member, once: its caller keeps
// them on the disk.
func (b *BlockSums) takePoints(member string) []byte {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.list == nil {
		return nil
	}
	points := b.list.Points[member]
	delete(b.list.Points, member)
	return points
}
