package image

import (
	"context"
	"log/slog"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// Env is what all images of a mount work with.
type Env struct {
	Store  *store.Store
	Cache  *cache.Cache
	Log    *slog.Logger
	Memory *seekable.Budget // of the decoders of members
	Lists  *ListMemory
	Held   *HeldBlocks
	Pool   *BlockPool
	Boots  *trace.Pool // of the recorders
	// Go runs a function in the background, on a context that ends with the
	// catalog; false: that has ended.
	Go func(func(ctx context.Context)) bool

	Strict        bool // the first read of an image waits until the whole matches
	AllowExternal bool // serve images that name other files
	Complete      bool // fetch the rest of an open image in the background
	Profile       bool // record which blocks a boot reads, and fetch by such records
	ProfileReads  []xvm.ProfileRead
}

// Set is what the images of one package have in common.
type Set struct {
	Env
	Release string          // its name, for messages
	Origin  string          // whose share it takes of Env.Memory, and of what is read ahead
	Content archive.Content // what members are cut from
	Pinned  func() bool     // the server's validator tells versions of the archive apart
	Blocks  *BlockSums      // nil: the package has no block list
	// Mirrored tells whether a mirror would be asked now; nil: there is none.
	Mirrored func() bool
	Index    string // the command that makes a sidecar for the package
	Profile  func() []xvm.ProfileRead
	// Older finds the image of that name of the newest release that was booted on this
	// host. It may be nil.
	Older func(name string) (Booted, bool)
	// SizeFound is told a plain size that was found by inflating the image, or
	// that its format proves. So it is found once.
	SizeFound func(name string, size int64)
	// Corrupt is told of an image whose content is wrong, with locks of the cache
	// held.
	Corrupt func(name string)
	// Mismatch is told of an image of which a block does not match the list.
	Mismatch func(name string)
	// Withdrawn is told, in the same way, of an image some of whose bytes have been
	// given up and are decoded again: what others have of them may be wrong.
	Withdrawn func(name string)
}

// Member says which image it is and where its bytes come from.
type Member struct {
	Name string
	Key  store.Key // in the cache
	Bare store.Key // what Key would be without a block list
	Size int64     // bytes, or store.Unknown
	// Sums are the digests of the image that its manifest gives, PlainSums those
	// that an XVM2 manifest gives of plain content.
	Sums, PlainSums []sums.Sum
	// ListOnly tells whether nobody but the block list vouches for the image.
	// Then it is not served if the list does not have it. nil: somebody does.
	ListOnly func() bool
	// WholeFirst, unless it is nil or says no: if sums of the whole are all that there is, they are compared
	// before the first byte is served.
	WholeFirst func() bool

	Source source.Source   // its bytes as stored; nil for plain content
	Proven source.Source   // the same, for those who compare all with a block list
	Data   []cache.Extent  // what is not a hole of it; nil: everything
	Chunks *xvm.XVADisk    // not nil: Source is its chunks, see ChunkSource
	Format seekable.Format // of the stored image that plain content is inflated from
}

// Label names the image for people.
func (s *Set) label(name string) string { return s.Release + "/" + name }
