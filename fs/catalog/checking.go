package catalog

import (
	"slices"

	"vmcastfs/cache"
	"vmcastfs/xvm"
)

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
