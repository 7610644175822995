package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// image is a file that comes through the cache. It is open in the cache while
// somebody has it open, and for as long the rest of it is completed in the
// background; a mere listing or a sniff of its first bytes does not begin that.
//
// mu guards opens, file, last, seen, disk, sharing, before and profiled. It is held while the file is opened
// and closed in the cache (local work only), and before any lock of cache.
type image struct {
	f     *File
	data  []cache.Extent                      // what is not a hole; nil: everything
	setUp func() (spec cache.Spec, err error) // what to open; local work only
	// release undoes setUp, after the cache has let go of the file.
	release func()
	// base is, for plain content, the compressed member it is inflated from.
	base *image
	// source is, for a member, its bytes as stored.
	source source.Source
	// told is one more than the size that a sidecar gives; 0: none does.
	told atomic.Int64
	// exam are the first bytes, since they have been examined; nil when it is
	// not open.
	exam atomic.Pointer[examined]
	// mode is how its blocks are checked, once it has been opened.
	mode atomic.Int32

	mu      sync.Mutex
	opens   int
	file    *cache.File
	last    cache.Status // when it was last closed, or looked at since
	seen    store.Stamp  // what last is of
	disk    *xvm.Disk    // what its first bytes show; nil: not looked at yet
	sharing bool         // it takes blocks from other images
	learned int64        // bytes of Catalog.learned it takes
	before  *store.File  // the same image as cached without a block list
	// profiled: since it is open, a profile has been looked for.
	profiled bool
	// recorder notes what is read; nil: nobody wants to know. Set under mu.
	recorder atomic.Pointer[recorder]
}

// newMemberImage is a member as stored.
func newMemberImage(f *File, m xvm.Member) *image {
	im := &image{f: f, release: func() {}}
	im.source, im.data = archive.Member(f.pkg.content, m)
	im.setUp = func() (cache.Spec, error) {
		ib, err := im.blockSums().image(m.Name, "", 0, m.Size)
		if err != nil {
			return cache.Spec{}, err
		}
		if err := f.pkg.content.Acquire(); err != nil {
			return cache.Spec{}, err
		}
		spec := im.spec()
		spec.Size, spec.Source, spec.Data = m.Size, im.source, im.data
		spec.Sums = sums(f.pkg.manifest, m.Name)
		im.checkBlocks(&spec, ib)
		return spec, nil
	}
	im.release = func() { f.pkg.content.Release() }
	return im
}

// spec is what all images have in common.
func (im *image) spec() cache.Spec {
	cfg := im.f.pkg.cat.cfg
	spec := cache.Spec{
		Key:      im.f.key,
		Label:    im.f.pkg.release.Name() + "/" + im.f.name,
		Complete: cfg.Complete,
		MaxSize:  archive.MaxInflated,
	}
	spec.Changed = func(state store.FileState) {
		if state == store.Corrupt {
			im.f.pkg.cat.noteCorrupt(im.f)
		}
	}
	if cfg.Strict {
		spec.Policy = cache.Strict
	}
	return spec
}

// sums are the manifest's digests of a member as stored.
func sums(m *xvm.Manifest, name string) []cache.Sum {
	if m == nil {
		return nil
	}
	var out []cache.Sum
	for _, s := range m.Sums(name) {
		out = append(out, cache.Sum(s))
	}
	return out
}

// acquire opens the file in the cache, or shares it, having waited for the
// block list if there is one. Each success needs one drop.
func (im *image) acquire(ctx context.Context) (*cache.File, error) {
	if err := im.blockSums().hold(ctx); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", im.f.pkg.release.Name(), im.f.name, err)
	}
	file, err := im.acquireHeld()
	if err != nil {
		im.blockSums().letGo()
	}
	return file, err
}

func (im *image) drop() error {
	err := im.dropHeld()
	im.blockSums().letGo()
	return err
}

// acquireHeld is acquire for who holds the block list of the package already;
// it needs dropHeld.
func (im *image) acquireHeld() (*cache.File, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.opens > 0 {
		im.opens++
		return im.file, nil
	}
	spec, err := im.setUp()
	if err != nil {
		return nil, err
	}
	file, err := im.f.pkg.cat.cfg.Cache.Open(spec)
	if err != nil {
		im.release()
		im.unshareBlocks()
		return nil, err
	}
	im.opens, im.file = 1, file
	return file, nil
}

func (im *image) dropHeld() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.opens--
	if im.opens > 0 {
		return nil
	}
	im.profileOff()
	im.exam.Store(nil)
	im.last = im.file.Status()
	err := im.file.Close()
	im.file = nil
	im.release()
	im.unshareBlocks()
	im.seen, _ = im.f.pkg.cat.cfg.Store.Stamp(im.f.key)
	return err
}

// open is File.Open for an image.
func (im *image) open(ctx context.Context) (Handle, error) {
	im.f.pkg.release.checkSoon(checkEvery)
	if im.f.Size() == store.Unknown {
		if _, err := im.findSize(ctx); err != nil {
			return nil, err
		}
	}
	file, err := im.acquire(ctx)
	if err != nil {
		return nil, err
	}
	if err := im.corrupt(file); err != nil {
		return nil, errors.Join(err, im.drop())
	}
	if why := im.uncovered(); why != "" {
		err := fmt.Errorf("%s/%s: %w: %s", im.f.pkg.release.Name(), im.f.name, archive.ErrRefused, why)
		return nil, errors.Join(err, im.drop())
	}
	if err := im.examineAtOpen(ctx, file); err != nil {
		return nil, errors.Join(err, im.drop())
	}
	im.mu.Lock()
	im.profileOn(file)
	im.mu.Unlock()
	return &imageHandle{im: im, file: file}, nil
}

// corrupt tells whether the file, or what it is inflated from, is known to be
// wrong. The caller holds file open.
func (im *image) corrupt(file *cache.File) error {
	if file.State() == store.Corrupt {
		return im.f.corrupt(file.Status().Note)
	}
	if im.base != nil && im.mode.Load() != blockMode {
		im.base.mu.Lock()
		base := im.base.file
		im.base.mu.Unlock()
		if base != nil && base.State() == store.Corrupt {
			return im.base.f.corrupt(base.Status().Note)
		}
	}
	return nil
}

func (f *File) corrupt(note string) error {
	return fmt.Errorf("%s/%s: %w: %s", f.pkg.release.Name(), f.name, cache.ErrCorrupt, note)
}

// status describes the image without touching the network. What is inflated
// from a corrupt file is corrupt.
func (im *image) status() cache.Status {
	st := im.ownStatus()
	if im.base != nil && im.mode.Load() != blockMode && st.State != store.Corrupt.String() {
		if base := im.base.ownStatus(); base.State == store.Corrupt.String() {
			st.State = base.State
			st.Note = fmt.Sprintf("inflated from %s, which is corrupt: %s", im.base.f.name, base.Note)
		}
	}
	return st
}

func (im *image) ownStatus() cache.Status {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.file != nil {
		return im.file.Status()
	}
	stamp, _ := im.f.pkg.cat.cfg.Store.Stamp(im.f.key)
	if im.last.State != "" && stamp == im.seen {
		return im.last
	}
	// Not opened in this mount yet: what earlier ones left on the disk. Or
	// blocks have been evicted since, or another process has fetched some.
	st := cache.Status{State: store.Partial.String(), Size: im.f.size, LastError: im.last.LastError, LastErrorAt: im.last.LastErrorAt}
	if info, err := im.f.pkg.cat.cfg.Store.Stat(im.f.key); err == nil {
		st.State, st.Note, st.CachedBytes = info.State.String(), info.Note, info.Bytes
		if info.Size > 0 {
			st.Size = info.Size
			st.Percent = 100 * float64(info.Bytes) / float64(info.Size)
		}
	}
	im.last, im.seen = st, stamp
	return st
}

// imageHandle is an open image.
type imageHandle struct {
	im     *image
	file   *cache.File
	closed sync.Once
}

func (h *imageHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.im.base != nil && h.im.mode.Load() != blockMode {
		if err := h.im.corrupt(h.file); err != nil {
			return 0, err
		}
	}
	h.im.note(off, int64(len(p)))
	return h.im.guarded(ctx, h.file, p, off)
}

// SeekData returns the size if no data follows, where the cache says ENXIO.
func (h *imageHandle) SeekData(off int64) (int64, error) {
	at, err := h.file.SeekData(off)
	if errors.Is(err, syscall.ENXIO) {
		return h.im.f.Size(), nil
	}
	return at, err
}

func (h *imageHandle) SeekHole(off int64) (int64, error) { return h.file.SeekHole(off) }

func (h *imageHandle) PassthroughFile() (*os.File, bool) {
	file, ok := h.file.PassthroughFile()
	if !ok || !h.im.steady(h.file) {
		return nil, false
	}
	return file, true
}

// Complete fetches and checks the whole image.
func (h *imageHandle) Complete(ctx context.Context) error { return h.file.Complete(ctx) }

// Status describes the image as it is now.
func (h *imageHandle) Status() cache.Status { return h.file.Status() }

func (h *imageHandle) Close() (err error) {
	h.closed.Do(func() { err = h.im.drop() })
	return err
}
