package archive

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"sync/atomic"

	"vmcastfs/cache/source"
	"vmcastfs/xvm"
)

const (
	// tailBytes of an archive are asked for at once when it is indexed. Its last
	// header is there, or the end mark, because the last member is often the
	// image.
	tailBytes = 16 << 10
	// listAhead is the longest block list that is read on the way rather than
	// skipped and asked for later. behindList is what comes along behind it: the
	// boot profile and the header of the first image.
	listAhead  = 4 << 20
	behindList = 64 << 10
)

// headBytes are the first bytes of an archive, which come with opening it, and
// what its indexing will want next. They are given up once it is indexed. A nil
// one holds nothing.
type headBytes struct{ atomic.Pointer[heldBytes] }

type heldBytes struct {
	head   []byte
	pieces []*prefetched // in order, apart from each other
}

// prefetched is a part of the archive on its way. It is only a hint: a reader that
// misses it asks again.
type prefetched struct {
	off, n int64
	done   chan struct{} // closed when data is set, or never will be
	data   []byte
}

func (p *prefetched) fetch(ctx context.Context, from source.Source) {
	defer close(p.done)
	body, err := from.Fetch(ctx, p.off, p.n, source.Demand)
	if err != nil {
		return
	}
	defer body.Close()
	data := make([]byte, p.n)
	if _, err := io.ReadFull(body, data); err == nil {
		p.data = data
	}
}

func newHead(head []byte) *headBytes {
	h := new(headBytes)
	h.Store(&heldBytes{head: head})
	return h
}

func (h *headBytes) drop() {
	if h != nil {
		h.Store(nil)
	}
}

// reach is up to where the bytes from off on are held, or are coming; off if
// they are not.
func (h *headBytes) reach(off int64) int64 {
	if h == nil {
		return off
	}
	held := h.Load()
	if held == nil {
		return off
	}
	if off < int64(len(held.head)) {
		off = int64(len(held.head))
	}
	for _, p := range held.pieces {
		if p.off <= off {
			off = max(off, p.off+p.n)
		}
	}
	return off
}

// copy fills p with what is held from off on, having waited for what is coming.
func (h *headBytes) copy(ctx context.Context, p []byte, off int64) (n int) {
	if h == nil {
		return 0
	}
	held := h.Load()
	if held == nil {
		return 0
	}
	if off < int64(len(held.head)) {
		n = copy(p, held.head[off:])
	}
	for _, x := range held.pieces {
		at := off + int64(n)
		if n == len(p) || at < x.off || at >= x.off+x.n {
			continue
		}
		select {
		case <-x.done:
		case <-ctx.Done():
			return n
		}
		if x.data == nil {
			return n
		}
		n += copy(p[n:], x.data[at-x.off:])
	}
	return n
}

// prefetch asks for what indexing an archive of size bytes is going to want. Run is
// Env.Go.
func (h *headBytes) prefetch(ctx context.Context, from source.Source, size int64, run func(func(context.Context)) bool) {
	if h == nil {
		return
	}
	held := h.Load()
	if held == nil {
		return
	}
	begin := int64(len(held.head))
	var pieces []*prefetched
	add := func(off, end int64) {
		p := &prefetched{off: off, n: end - off, done: make(chan struct{})}
		if run(func(context.Context) { p.fetch(ctx, from) }) {
			pieces = append(pieces, p)
		}
	}
	if end := blockListEnd(held.head); end > begin && end < size && end-begin <= listAhead {
		end = min(end+behindList, size)
		add(begin, end)
		begin = end
	}
	if size-tailBytes > begin {
		add(size-tailBytes, size)
	}
	h.Store(&heldBytes{held.head, pieces})
}

// blockListEnd is where in an archive that begins with head its block list
// ends; 0 if there is none, or not where it is expected. It is a guess: what the
// archive holds is for xvm.Walk to say.
func blockListEnd(head []byte) int64 {
	for off := int64(0); off+512 <= int64(len(head)); {
		h := head[off : off+512]
		name, _, _ := bytes.Cut(h[:100], []byte{0})
		size, err := strconv.ParseInt(string(bytes.Trim(h[124:136], " \x00")), 8, 64)
		if err != nil || size < 0 || size > listAhead {
			return 0
		}
		off += 512 + (size+511)&^511
		if string(name) == xvm.BlockListName {
			return off
		}
	}
	return 0
}
