package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// Image is a file that comes through the cache. It is open in the cache while
// somebody has it open, and its rest is completed in the background for as long.
// A mere listing, or a look at its first bytes, does not begin that. It is safe
// for any number of goroutines.
type Image struct {
	set    *Set
	member Member
	base   *Image // what it is the plain content of; nil: of nothing

	found  atomic.Int64 // one more than the size that was found, 0: none
	head   headCheck
	checks checks
	// undecodable is why it cannot be inflated here, once its base's first bytes
	// have shown that; nil: nothing is known against it.
	undecodable atomic.Pointer[error]
	warming     atomic.Int32 // it is open to be warmed
	data        atomic.Int64 // one more than the bytes outside holes, 0: nobody has counted
	judged      atomic.Bool  // the cache has told of another state
	// recorder is nil while the image is not open, or nothing is recorded of it; what
	// sets it holds mu.
	recorder atomic.Pointer[trace.Recorder]

	// mu guards what follows it, and parts of checks. It is held while the file is opened
	// and closed in the cache, and a boot is kept, which is local work. It comes before the
	// mu of base, those of Content, Held and Lists, and any lock of cache.
	mu       sync.Mutex
	opens    int
	file     *cache.File
	recipe   recipe // of file
	last     lastStatus
	opened   time.Time // for reading, and a profile looked for; zero: not yet
	profiled bool      // since it is open, a boot has become part of its profile
}

// New makes an image. Base is the compressed image that it is the plain content
// of; nil: of none.
func New(set *Set, m Member, base *Image) *Image {
	if m.Chunks != nil {
		m = chunkMember(set, m)
	}
	return &Image{
		set: set, member: m, base: base,
		head: headCheck{label: set.label(m.Name), log: set.Log, allow: set.AllowExternal, footer: base == nil},
	}
}

// Size in bytes, or store.Unknown for plain content whose size is still to be
// found.
func (im *Image) Size() int64 {
	if n := im.found.Load(); n > 0 {
		return n - 1
	}
	return im.member.Size
}

// Blocks is the data in the image in units of 512 bytes: what an open image's SeekData
// and SeekHole show, see [cache.File.DataBytes]. settled: no more holes will become
// known, as a block list told of all. It does not wait for an image that is being
// opened or closed.
func (im *Image) Blocks() (n int64, settled bool) {
	n, settled = im.set.Blocks.dataOf(im.member.Name)
	if settled {
		return (n + 511) / 512, true
	}
	if im.mu.TryLock() {
		if im.file != nil {
			im.data.Store(im.file.DataBytes() + 1)
		} else if n, changed := im.last.recount(im.set.Store, im.member.Key, im.Size(), im.member.Data); changed {
			im.data.Store(n + 1)
		}
		im.mu.Unlock()
	}
	if n = im.data.Load() - 1; n < 0 {
		n = im.Size() // nobody has counted
	}
	return (n + 511) / 512, false
}

// Base is the compressed image that this one is the plain content of, or nil.
func (im *Image) Base() *Image { return im.base }

// Listed tells whether a block list is for the image, and the bytes of its text.
func (im *Image) Listed() (text int64, ok bool) {
	if im.set.Blocks == nil {
		return 0, false
	}
	return im.set.Blocks.Text, true
}

func (im *Image) label() string { return im.set.label(im.member.Name) }

func (im *Image) stored() Member { return im.member }

// Acquire opens the file in the cache, or shares it, having waited for the
// block list if there is one. Each success needs one Drop.
func (im *Image) Acquire(ctx context.Context) (*cache.File, error) {
	if err := im.set.Blocks.Hold(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", im.label(), err)
	}
	file, err := im.acquireHeld()
	if err != nil {
		im.set.Blocks.LetGo()
	}
	return file, err
}

// Drop undoes Acquire.
func (im *Image) Drop() error {
	err := im.dropHeld()
	im.set.Blocks.LetGo()
	return err
}

// recipeWith is how the image is made with what a list has of it.
func recipeWith(im *Image, size int64, listed *listedBlocks) recipe {
	o := order{set: im.set, member: im.member, size: size, listed: listed}
	if im.base != nil {
		o.base = im.base
	}
	return recipeFor(o)
}

// acquireHeld is Acquire for a caller that holds the block list of the package
// already; it needs dropHeld.
func (im *Image) acquireHeld() (*cache.File, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.opens > 0 {
		im.opens++
		return im.file, nil
	}
	listed, err := im.listed(im.Size())
	if err != nil {
		return nil, err
	}
	r := recipeWith(im, im.Size(), listed)
	spec, err := r.open()
	if err != nil {
		return nil, err
	}
	im.common(&spec)
	if !r.checksBlocks() {
		im.checks.begin(im.set, im.member, &spec, listed, im.summed())
	}
	recordBoot(im, &spec)
	file, err := im.set.Cache.Open(spec)
	if err != nil {
		im.recorder.Store(nil)
		r.close()
		im.checks.end(im.set)
		return nil, err
	}
	im.opens, im.file, im.recipe = 1, file, r
	return file, nil
}

func (im *Image) dropHeld() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.opens--
	if im.opens > 0 {
		return nil
	}
	im.head.seen.Store(nil)
	last := im.file.Status()
	im.judged.Store(false)
	err := im.file.Close()
	endBoot(im)
	im.recipe.close()
	im.file, im.recipe = nil, nil
	im.checks.end(im.set)
	im.last.set(im.set.Store, im.member.Key, last, im.judged.Load())
	return err
}

// listed are the image's blocks in the list, which the caller holds; nil: it is
// not in there.
func (im *Image) listed(size int64) (*listedBlocks, error) {
	if im.base == nil {
		return im.set.Blocks.image(im.member.Name, "", 0, size)
	}
	return im.set.Blocks.image(im.member.Name, im.base.member.Name, im.base.member.Size, size)
}

// common completes a spec with what all images have in common.
func (im *Image) common(spec *cache.Spec) {
	spec.Key, spec.Label, spec.Origin = im.member.Key, im.label(), im.set.Origin
	spec.Complete, spec.MaxSize = im.set.Complete && im.warming.Load() == 0, archive.MaxInflated
	if spec.Shared = im.set.Mirrored; spec.Shared != nil {
		spec.Expected = sharedReads(im.set, im.member.Name)
	}
	spec.Changed = func(state store.FileState) {
		im.judged.Store(true)
		switch state {
		case store.Corrupt:
			im.set.Corrupt(im.member.Name)
		case store.Partial:
			im.set.Withdrawn(im.member.Name)
		}
	}
	if im.set.Strict {
		spec.Policy = cache.Strict
	}
}

// summed tells whether the manifest sums the whole of the image, or of what it
// is inflated from.
func (im *Image) summed() bool {
	for _, list := range [][]sums.Sum{im.member.Sums, im.member.PlainSums} {
		for _, s := range list {
			if s.Prefix == 0 {
				return true
			}
		}
	}
	return im.base != nil && im.base.summed()
}

// InflatedFrom tells whether the image is made of what base gives, so that it is
// as wrong as that is.
func (im *Image) InflatedFrom(base *Image) bool {
	return im.base != nil && im.base == base && im.checks.mode() != blockMode
}

// Waits tells whether a read of the file would wait until all of it is here.
func (im *Image) Waits(file *cache.File) bool {
	return (im.set.Strict || im.checks.mode() == strictMode) && file.State() != store.Verified
}

// current is the open file, or nil.
func (im *Image) current() *cache.File {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.file
}

// corrupt tells whether the file, or what it is inflated from, is known to be
// wrong. The caller holds file open.
func (im *Image) corrupt(file *cache.File) error {
	if file.State() == store.Corrupt {
		return corruptError(im.label(), file.Status().Note)
	}
	if im.base != nil && im.checks.mode() != blockMode {
		if base := im.base.current(); base != nil && base.State() == store.Corrupt {
			return corruptError(im.base.label(), base.Status().Note)
		}
	}
	return nil
}

func corruptError(label, note string) error {
	return fmt.Errorf("%s: %w: %s", label, cache.ErrCorrupt, note)
}

// FindSize finds the size of plain content that nothing tells: by the format, or else by
// inflating the stream to its end, which also caches all of it. Any number may wait.
func (im *Image) FindSize(ctx context.Context) (int64, error) {
	if n := im.Size(); n != store.Unknown {
		return n, nil
	}
	if known, err := proveSize(ctx, im, true); err != nil || known {
		return max(im.Size(), 0), err
	}
	file, err := im.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer im.Drop()
	if err := im.corrupt(file); err != nil {
		return 0, err
	}
	n, err := file.WaitSize(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: find the plain size: %w", im.label(), err)
	}
	im.found.Store(n + 1)
	im.set.SizeFound(im.member.Name, n)
	return n, nil
}

// ProveSize is FindSize without inflating anything, or fetching what is compressed
// whole; not known: that would be needed.
func (im *Image) ProveSize(ctx context.Context) (known bool, err error) {
	return proveSize(ctx, im, false)
}

// proveSize asks the block list, and then the format, which costs a read or two at the
// stream's end. wait: those may wait for a file that is checked whole before it is read.
func proveSize(ctx context.Context, im *Image, wait bool) (known bool, err error) {
	file, err := im.base.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer im.base.Drop()
	listed, err := im.listed(store.Unknown)
	if err != nil {
		return false, err
	}
	n := int64(0)
	switch {
	case listed != nil:
		n = listed.Size
	case !wait && im.base.Waits(file):
		return false, nil
	default:
		n, known, err = archive.ProvenSize(ctx, im.member.Format, file, im.base.member.Size)
		if err != nil || !known {
			return false, im.keepUndecodable(err)
		}
	}
	im.found.Store(n + 1)
	if im.set.Blocks == nil || im.set.Blocks.Own { // another sidecar may say otherwise
		im.set.SizeFound(im.member.Name, n)
	}
	return true, nil
}

// keepUndecodable keeps err if it says that the image cannot be inflated here, and
// returns it with the image's name.
func (im *Image) keepUndecodable(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", im.base.label(), err)
	if errors.Is(err, seekable.ErrUnsupported) || errors.Is(err, seekable.ErrLimit) {
		im.undecodable.Store(&err)
	}
	return err
}

// Key is that of the image in the cache.
func (im *Image) Key() store.Key { return im.member.Key }
