package catalog

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"vmcastfs/cache"
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
		return nil, fmt.Errorf("%w: %s gives %s a size of %d bytes, it has %d", ErrNotPackage, b.label, name, ib.Size, size)
	case ib.Member != "" && (ib.Member != member || ib.Stored != stored):
		return nil, fmt.Errorf("%w: %s takes %s from %d bytes of %q, which is another member than this one", ErrNotPackage, b.label, name, ib.Stored, ib.Member)
	}
	return ib, nil
}

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

// ownBlocks is set up when the package has a block list that its manifest
// vouches for.
func (p *Package) ownBlocks() *blockSums {
	for _, m := range p.doc.Index.Members {
		if m.Name != xvm.BlockListName {
			continue
		}
		switch {
		case p.manifest == nil || len(wholeSums(p.manifest, m.Name)) == 0:
			p.warnings = append(p.warnings, fmt.Sprintf("%s is not used: no manifest lists it", m.Name))
			return nil
		case p.cat.cfg.RequireSigned && p.manifest.Unvouched(m.Name) != "":
			p.warnings = append(p.warnings, fmt.Sprintf("%s is not used: %s", m.Name, p.manifest.Unvouched(m.Name)))
			return nil
		case m.Size > xvm.MaxBlockListSize || m.Segments != nil:
			p.warnings = append(p.warnings, fmt.Sprintf("%s is not used: it is too large, or sparse", m.Name))
			return nil
		}
		return &blockSums{cat: p.cat, label: p.release.Name() + "/" + m.Name, id: ownList, load: p.readBlockList, size: m.Size, most: listBytes(m.Size)}
	}
	return nil
}

// earlyBlocks reads a block list that has come with the archive's first bytes.
func (p *Package) earlyBlocks(ctx context.Context) {
	f := p.byName[xvm.BlockListName]
	if p.blocks == nil || f == nil {
		return
	}
	for _, m := range p.doc.Index.Members {
		if m.Name == f.name && m.Offset+m.Stored <= p.archive.head.reach(0) && p.blocks.hold(ctx) == nil {
			p.blocks.letGo() // an error is told to who opens an image
		}
	}
}

// ownList is the blockSums.id of a package's own list: its identity is that of
// the package.
const ownList = "own"

// wholeSums are the digests of a whole member.
func wholeSums(m *xvm.Manifest, name string) []xvm.Sum {
	var out []xvm.Sum
	for _, s := range m.Sums(name) {
		if s.Prefix == 0 {
			out = append(out, s)
		}
	}
	return out
}

// readBlockList reads the package's own block list. Nothing of it is believed
// before the whole has matched the manifest.
func (p *Package) readBlockList(ctx context.Context) (*xvm.BlockList, error) {
	f := p.byName[xvm.BlockListName]
	file, err := f.image.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer f.image.drop()
	in := &digestReader{r: io.NewSectionReader(readerAt{ctx, file}, 0, f.size)}
	sums := wholeSums(p.manifest, f.name)
	for _, s := range sums {
		h := s.NewHash()
		if h == nil {
			return nil, fmt.Errorf("unknown digest %q", s.Algo)
		}
		in.hashes = append(in.hashes, h)
	}
	list, parseErr := xvm.ParseBlockList(bufio.NewReaderSize(in, 1<<20))
	if in.err != nil {
		return nil, in.err // of the network, or it is known to be corrupt
	}
	if parseErr != nil { // the sums tell why, if they can
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, err
		}
	}
	for i, h := range in.hashes {
		if got := hex.EncodeToString(h.Sum(nil)); got != sums[i].Hex {
			if err := file.Complete(ctx); err != nil { // which makes that official
				return nil, err
			}
			return nil, fmt.Errorf("%w: %s is %s, the manifest says %s", cache.ErrCorrupt, sums[i].Algo, got, sums[i].Hex)
		}
	}
	return list, parseErr
}

// digestReader computes digests of what is read, and remembers why reading
// failed.
type digestReader struct {
	r      io.Reader
	hashes []hash.Hash
	err    error
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for _, h := range d.hashes {
		h.Write(p[:n])
	}
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

// blockSums are what the image's blocks are checked against; nil for the block
// list itself.
func (im *image) blockSums() *blockSums {
	if im.f.name == xvm.BlockListName {
		return nil
	}
	return im.f.pkg.blocks
}

// checkBlocks completes the spec of an image whose blocks are known: from a
// list, or from an earlier check of the whole; else it has them learned, and
// where nothing but sums of the whole tells versions of the archive apart, they
// are compared before the first byte is served. The sums of the whole are not
// needed when every block has one that stems from them.
func (im *image) checkBlocks(spec *cache.Spec, ib *xvm.ImageBlocks) {
	cat := im.f.pkg.cat
	im.mode.Store(lazyMode)
	switch {
	case ib != nil:
		spec.Blocks, spec.BlockSize = ib, ib.BlockSize
		im.mode.Store(blockMode)
		im.shareBlocks(spec, func() *cache.SumTable { return tableOf(ib) })
	case spec.Size >= 0:
		if t := cat.learnedSums(im.f.key); t != nil && t.Size() == spec.Size && t.BlockSize() == cache.DefaultBlockSize && im.roomFor(t) {
			spec.Blocks, spec.Sums, spec.Judge = t, nil, nil
			im.mode.Store(learnedMode)
			im.shareBlocks(spec, nil)
			return
		}
		fallthrough
	default:
		if im.f.pkg.unpinned() && im.summed() {
			spec.Policy = cache.Strict
			im.mode.Store(strictMode)
		}
		spec.Learned = func(t *cache.SumTable) {
			im.mode.Store(learnedMode)
			cat.keepSums(im.f.key, t)
		}
	}
}

// maxLearned bounds the kept sums in memory, of all open images together.
const maxLearned = 64 << 20

// roomFor takes room for sums until the image is closed; without any it is read
// as if there were none.
func (im *image) roomFor(t *cache.SumTable) bool {
	learned := &im.f.pkg.cat.learned
	if learned.Add(t.Bytes()) > maxLearned {
		learned.Add(-t.Bytes())
		return false
	}
	im.learned = t.Bytes()
	return true
}

// How the blocks of an image are checked before they are served.
const (
	unknownMode = iota // it has not been opened yet
	lazyMode           // not one by one
	blockMode          // against the block list
	learnedMode        // against sums kept from an earlier check of the whole
	strictMode         // the whole first, though Config.Strict does not ask for it
)

// noValidator is why an image is read like that.
const noValidator = "server gives no validator"

// unpinned tells whether the archive's length is all that its server says of
// which version it is.
func (p *Package) unpinned() bool { return !p.doc.Identity.Pinned() }

// summed tells whether the manifest sums the whole of the image, or of what it
// is inflated from.
func (im *image) summed() bool {
	m := im.f.pkg.manifest
	if m == nil {
		return false
	}
	all := wholeSums(m, im.f.name)
	if told, ok := m.Plain(im.f.name); ok {
		all = append(all, told.Any...)
	}
	whole := func(s xvm.Sum) bool { return s.Prefix == 0 }
	return slices.ContainsFunc(all, whole) || im.base != nil && im.base.summed()
}

// strict tells whether all of the image is checked before its first byte is
// served. The image has been opened.
func (im *image) strict() bool {
	return im.f.pkg.cat.cfg.Strict || im.mode.Load() == strictMode
}

// verify is FileStatus.Verify.
func (im *image) verify() string {
	switch {
	case im.mode.Load() == blockMode:
		return "block"
	case im.strict():
		return "strict"
	case im.mode.Load() == learnedMode:
		return "kept"
	case im.mode.Load() == lazyMode:
		return "whole"
	}
	return ""
}

// verifyNote is FileStatus.VerifyNote.
func (im *image) verifyNote() string {
	mode := im.mode.Load()
	likely := mode == unknownMode && im.blockSums() == nil // how it will be opened
	switch {
	case !im.f.pkg.unpinned():
		return ""
	case mode == strictMode, likely && im.summed():
		return noValidator
	case mode == lazyMode, likely:
		return noValidator + ", and no sum tells its versions apart: what is read may be of several"
	}
	return ""
}

// tableOf copies what a list says of an image, to be kept; nil if that is too
// much.
func tableOf(ib *xvm.ImageBlocks) *cache.SumTable {
	t := cache.NewSumTable(ib.Size, ib.BlockSize)
	for b := range ib.Blocks() {
		sum, zero, _ := ib.Sum(b)
		if !t.Append(sum, zero) {
			return nil
		}
	}
	return t
}
