package image

import (
	"vmcastfs/cache"
	"vmcastfs/cache/source"
)

// A recipe makes the bytes of an image, from when the cache opens it until the
// cache has closed it.
type recipe interface {
	// open takes what the recipe needs, and says what the cache fills the file
	// from: Size, Source, Data, BlockSize, and Sums and Judge of the whole. It does
	// local work only.
	open() (cache.Spec, error)
	// close gives back what open took.
	close()
	// checksBlocks tells whether the recipe itself compares each block.
	checksBlocks() bool
}

// order is what a recipe is given.
type order struct {
	set    *Set
	member Member
	size   int64         // bytes, or store.Unknown
	listed *listedBlocks // its blocks; nil: no list has them
	base   base          // nil: it is not the plain content of another image
}

// from is where the bytes of m come from, as stored.
func (o order) from(m Member) source.Source {
	if o.listed != nil {
		return m.Proven
	}
	return m.Source
}

// base is the compressed image that another one is the plain content of.
type base interface {
	stored() Member
	acquireHeld() (*cache.File, error)
	dropHeld() error
}
