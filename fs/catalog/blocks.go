package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// blockSums are what the blocks of a package's images are checked against: its
// own block list, or that of a sidecar. The list is in memory while one of the
// images is open, and a while longer if there is room. A nil *blockSums is of a
// package that has none.
//
// mu guards what follows it. It is a leaf, but for listMemory.mu, which comes
// before it.
type blockSums struct {
	cat   *Catalog
	label string // of the list, for people
	// id tells lists apart that one package may have been read with: blocks
	// checked against one are not taken for checked against another.
	id   string
	load func(ctx context.Context) (*xvm.BlockList, error)
	size int64 // bytes of the list, as text
	most int64 // bytes of memory it may take

	mu      sync.Mutex
	users   int
	list    *xvm.BlockList    // nil: not in memory
	points  map[string][]byte // seek points of a sidecar, by member, until they are taken
	loading *listLoad
	used    time.Time // when the last user let go
}

type listLoad struct {
	done chan struct{}
	err  error
}

// hold keeps the list in memory until letGo, reading it first if need be. ctx
// ends only this caller's waiting.
func (b *blockSums) hold(ctx context.Context) error {
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
			if !b.cat.background(func(ctx context.Context) { b.read(ctx, l) }) {
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

func (b *blockSums) letGo() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.users--
	b.used = time.Now()
	b.mu.Unlock()
}

// read brings the list into memory.
func (b *blockSums) read(ctx context.Context, l *listLoad) {
	err := b.cat.lists.reserve(b)
	var list *xvm.BlockList
	if err == nil {
		if list, err = b.load(ctx); err != nil {
			b.cat.lists.free(b)
		}
	}
	if err != nil {
		err = fmt.Errorf("the block list %s cannot be used: %w", b.label, err)
	}
	b.mu.Lock()
	b.list, b.loading, l.err = list, nil, err
	b.used = time.Now()
	b.mu.Unlock()
	close(l.done)
}

// image finds the blocks of an image, by its plain name; nil if the list does
// not have it. The caller holds the list. member and stored are the compressed
// member the image comes from and its length, "" and 0 for one stored plain;
// size is the image's, or store.Unknown.
func (b *blockSums) image(name, member string, stored, size int64) (*xvm.ImageBlocks, error) {
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
		return nil, fmt.Errorf("%w: %s gives %s a size of %d bytes, it has %d", xvm.ErrNotPackage, b.label, name, ib.Size, size)
	case ib.Member != "" && (ib.Member != member || ib.Stored != stored):
		return nil, fmt.Errorf("%w: %s takes %s from %d bytes of %q, which is another member than this one", xvm.ErrNotPackage, b.label, name, ib.Stored, ib.Member)
	}
	return ib, nil
}
