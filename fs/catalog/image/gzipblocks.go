package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// gzipBlocks makes the plain content of a member whose blocks are compressed one
// by one. Any run of blocks is one range of the stored member, inflated on as
// many cores as there are blocks. What is stored is not kept in the cache, unless
// somebody has read the stored file.
//
// What does not inflate is given out as zeros, since the cache compares each
// block with its sum. So a damaged block fails alone, and its neighbours that
// came in the same range do not.
type gzipBlocks struct {
	order
	held *store.File // what the cache has of the member as stored; may be nil
}

func newGzipBlocks(o order) (recipe, bool) {
	return &gzipBlocks{order: o}, o.listed != nil && o.listed.Member != ""
}

func (g *gzipBlocks) open() (cache.Spec, error) {
	if err := g.set.Content.Acquire(); err != nil {
		return cache.Spec{}, err
	}
	stored := g.base.stored()
	from := g.from(stored)
	if _, err := g.set.Store.Stamp(stored.Key); err == nil {
		if g.held, err = g.set.Store.File(stored.Key, stored.Size, cache.DefaultBlockSize); err == nil {
			from = localFirst(from, g.held)
		}
	}
	return cache.Spec{Size: g.listed.Size, Source: blockSource{from, g.listed, g.set.Pool}}, nil
}

func (g *gzipBlocks) close() {
	if g.held != nil {
		g.held.Close()
	}
	g.set.Content.Release()
}

func (*gzipBlocks) checksBlocks() bool { return false }

// blockSource supplies the plain bytes of a member's blocks.
type blockSource struct {
	stored source.Source // of the member
	blocks *listedBlocks
	pool   *BlockPool
}

const (
	// blockGap is how many bytes between two wanted blocks (of blocks of zeros)
	// are fetched rather than asked around.
	blockGap = 16 << 10
	// blocksAhead bounds the plain bytes that one range has in work.
	blocksAhead = 512 << 10
)

// storedBlock is one block on its way from the member.
type storedBlock struct {
	zero    bool
	off, n  int64 // in the member
	plain   int
	content chan []byte // receives the plain bytes, once
}

// Fetch is for the cache, which asks for whole blocks.
func (g blockSource) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	bs := int64(g.blocks.BlockSize)
	if off%bs != 0 || n <= 0 || off+n > g.blocks.Size || n%bs != 0 && off+n != g.blocks.Size {
		return nil, fmt.Errorf("%d bytes at %d are no blocks of %d", n, off, bs)
	}
	var list []*storedBlock
	for b := off / bs; b*bs < off+n; b++ {
		x := &storedBlock{plain: int(min(bs, g.blocks.Size-b*bs)), content: make(chan []byte, 1)}
		var ok bool
		var err error
		if x.off, x.n, ok, err = g.blocks.Place(ctx, b); err != nil {
			return nil, err
		}
		if !ok || x.n > xvm.MaxStored(x.plain) {
			x.zero = true
		}
		list = append(list, x)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &blockStream{cancel: cancel, pool: g.pool, order: make(chan *storedBlock, max(1, min(8, blocksAhead/bs)))}
	r.work.Go(func() {
		r.err = r.run(ctx, g.stored, list, u)
		close(r.order)
	})
	return r, nil
}

// blockStream gives out blocks in order while later ones are fetched and
// inflated.
type blockStream struct {
	cancel context.CancelFunc
	pool   *BlockPool
	order  chan *storedBlock // closed at the end; err is set by then
	work   sync.WaitGroup
	err    error
	rest   []byte // of the block being read
	buffer []byte // that rest is in
}

// run reads the stored blocks, in as few ranges as make sense.
func (r *blockStream) run(ctx context.Context, src source.Source, list []*storedBlock, u source.Urgency) error {
	var body io.ReadCloser
	var at, end int64 // of body
	defer func() {
		if body != nil {
			body.Close()
		}
	}()
	for i, x := range list {
		if x.zero {
			x.content <- r.pool.take(x.plain, true)
		} else {
			if body == nil || x.off+x.n > end {
				if body != nil {
					body.Close()
				}
				at, end = x.off, x.off+x.n
				for _, next := range list[i+1:] {
					if !next.zero && next.off-end > blockGap {
						break
					}
					if !next.zero {
						end = next.off + next.n
					}
				}
				var err error
				if body, err = src.Fetch(ctx, at, end-at, u); err != nil {
					return err
				}
			}
			if _, err := io.CopyN(io.Discard, body, x.off-at); err != nil {
				return cutShort(err)
			}
			stored := r.pool.take(int(x.n), false)
			if _, err := io.ReadFull(body, stored); err != nil {
				return cutShort(err)
			}
			at = x.off + x.n
			r.work.Go(func() {
				x.content <- r.pool.inflate(stored, x.plain)
				r.pool.give(stored)
			})
		}
		select {
		case r.order <- x:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *blockStream) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.buffer != nil {
			r.pool.give(r.buffer)
			r.buffer = nil
		}
		x, ok := <-r.order
		if !ok {
			if r.err != nil {
				return 0, r.err
			}
			return 0, io.EOF
		}
		r.buffer = <-x.content
		r.rest = r.buffer
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends what is under way and waits for it.
func (r *blockStream) Close() error {
	r.cancel()
	for range r.order { // so that run comes to its end
	}
	r.work.Wait()
	return nil
}

// localFirst takes a range of a member from the cache, if that has all its blocks
// as stored, and else from its source.
func localFirst(from source.Source, file *store.File) source.Source {
	return source.Func(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		if p, ok := readHeld(file, off, n); ok {
			return io.NopCloser(bytes.NewReader(p)), nil
		}
		return from.Fetch(ctx, off, n, u)
	})
}

// readHeld reads n bytes from off if the cache has them all.
func readHeld(file *store.File, off, n int64) ([]byte, bool) {
	bs := int64(file.BlockSize())
	for b := off / bs; b*bs < off+n; b++ {
		if !file.Has(b) {
			return nil, false
		}
	}
	out := make([]byte, 0, n)
	buf := make([]byte, bs)
	for b := off / bs; b*bs < off+n; b++ {
		k, err := file.ReadBlock(b, buf)
		if err != nil {
			return nil, false
		}
		out = append(out, buf[max(0, off-b*bs):min(int64(k), off+n-b*bs)]...)
	}
	return out, int64(len(out)) == n
}
