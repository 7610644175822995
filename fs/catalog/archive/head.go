package archive

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"sync/atomic"

	"vmcastfs/cache/source"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
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
	check  func(data []byte) bool // whether it is right; nil: that cannot be told
	done   chan struct{}          // closed when data is set, or never will be
	data   []byte
}

func (p *prefetched) fetch(ctx context.Context, from source.Source) {
	defer close(p.done)
	if p.check == nil {
		p.data, _ = p.read(ctx, from)
		return
	}
	mirrored, trial := source.WithTrial(ctx)
	data, err := p.read(mirrored, from)
	if err == nil && !p.check(data) {
		settle := trial.Accuse()
		if settle == nil {
			settle = func(bool) {}
		}
		data, err = p.read(ctx, from)
		settle(err == nil && p.check(data))
	}
	p.data = data
}

func (p *prefetched) read(ctx context.Context, from source.Source) ([]byte, error) {
	body, err := from.Fetch(ctx, p.off, p.n, source.UrgencyOf(ctx))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, p.n)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, err
	}
	return data, nil
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
// Env.Go. With mirrored the block list comes by itself, which all hosts do alike: the
// manifest proves it. Then warm has a mirror fetch what else a host wants that cannot ask the
// origin; nil: it does not.
func (h *headBytes) prefetch(ctx context.Context, from source.Source, size int64, run func(func(context.Context)) bool, mirrored bool, warm func(context.Context, ...[2]int64)) {
	if h == nil {
		return
	}
	held := h.Load()
	if held == nil {
		return
	}
	begin := int64(len(held.head))
	var pieces []*prefetched
	var spans [][2]int64
	add := func(off, end int64, check func([]byte) bool) {
		spans = append(spans, [2]int64{off, end})
		p := &prefetched{off: off, n: end - off, check: check, done: make(chan struct{})}
		if run(func(context.Context) { p.fetch(ctx, from) }) {
			pieces = append(pieces, p)
		}
	}
	list, length, manifest := findBlockList(held.head)
	if end := list + (length+511)&^511; end > begin && end < size && end-begin <= listAhead {
		if check := listCheck(held.head, list, length, manifest); mirrored && check != nil {
			add(begin, end, check)
			begin = end
		}
		end = min(end+behindList, size)
		add(begin, end, nil)
		begin = end
	}
	if size-tailBytes > begin {
		add(size-tailBytes, size, nil)
	}
	h.Store(&heldBytes{held.head, pieces})
	if list > 0 && warm != nil {
		run(func(ctx context.Context) { warm(ctx, spans...) })
	}
}

// findBlockList is where in an archive that begins with head its block list is, 0 if there is
// none, or not where it is expected, and the manifest if that comes before it. It is a guess:
// what the archive holds is for xvm.Walk to say.
func findBlockList(head []byte) (at, length int64, manifest []byte) {
	for off := int64(0); off+512 <= int64(len(head)); {
		h := head[off : off+512]
		name, _, _ := bytes.Cut(h[:100], []byte{0})
		size, err := strconv.ParseInt(string(bytes.Trim(h[124:136], " \x00")), 8, 64)
		if err != nil || size < 0 || size > listAhead {
			return 0, 0, nil
		}
		off += 512
		switch string(name) {
		case xvm.BlockListName:
			return off, size, manifest
		case xvm.ManifestName:
			manifest = head[off:min(off+size, int64(len(head)))]
		}
		off += (size + 511) &^ 511
	}
	return 0, 0, nil
}

// listCheck tells whether what follows head is the block list that the manifest sums; nil: it
// does not, by a sum that proves anything.
func listCheck(head []byte, at, length int64, manifest []byte) func([]byte) bool {
	m, err := xvm.ParseManifest(xvm.ManifestName, manifest)
	if err != nil || at > int64(len(head)) {
		return nil
	}
	strong := slices.DeleteFunc(m.Sums(xvm.BlockListName), func(s sums.Sum) bool { return s.Prefix != 0 || s.Algo != sums.SHA256 && s.Algo != sums.SHA512 })
	if len(strong) == 0 {
		return nil
	}
	return func(data []byte) bool {
		begun := head[at:]
		rest := length - int64(len(begun))
		if rest > int64(len(data)) {
			return false
		}
		d := sums.NewDigests(strong)
		_, _ = d.Write(begun)
		_, _ = d.Write(data[:rest])
		_, _, mismatch := d.Compare()
		return mismatch == ""
	}
}

// Quietly has what is fetched with the context give way to all else, as long as quiet
// says so.
func Quietly(ctx context.Context, quiet func() bool) context.Context {
	return source.WithUrgency(ctx, func() source.Urgency {
		if quiet() {
			return source.Background
		}
		return source.Demand
	})
}
