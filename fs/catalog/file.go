package catalog

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
)

// File is one file of a release: a small one held in memory, or an image.
type File struct {
	pkg     *Package
	name    string
	size    int64 // as known when the package was indexed; store.Unknown: ask the image
	modTime time.Time
	key     store.Key
	member  bool // it is a member of the archive, as stored
	// fromFeed: it is of the feed, which nobody signs, and not of the package.
	fromFeed bool
	bare     store.Key // what the key would be without a block list

	content []byte          // of a file in memory
	state   store.FileState // of a file in memory: what its sums say
	note    string          // why

	stored *File        // what plain content is inflated from; nil: the file is no plain content
	image  *image.Image // nil for a file in memory, and for
	joined *joined      // a disk made of other files
}

// Name is the file's path in its release.
func (f *File) Name() string { return f.name }

// Size in bytes, or store.Unknown for the plain content of a compressed member
// whose size is still to be found.
func (f *File) Size() int64 {
	switch {
	case f.joined != nil:
		return f.joined.size()
	case f.size == store.Unknown && f.image != nil:
		return f.image.Size()
	}
	return f.size
}

// ModTime is the member's, or that of the release.
func (f *File) ModTime() time.Time { return modTimeOr(f.modTime, f.pkg.release.Published()) }

// OfFeed tells the release notes, which are the feed's: another file may take
// their name, or none be there any more. All other files stay.
func (f *File) OfFeed() bool { return f.fromFeed }

// Inode is the same for the same bytes under the same name, for ever.
func (f *File) Inode() uint64 { return inode(f.key) }

// Package is the package the file belongs to.
func (f *File) Package() *Package { return f.pkg }

// IsImage tells a file that comes through the cache from one in memory.
func (f *File) IsImage() bool { return f.image != nil }

// findSize waits for the size of a file that nothing tells.
func (f *File) findSize(ctx context.Context) (int64, error) {
	if f.joined != nil {
		return f.joined.findSize(ctx)
	}
	return f.image.FindSize(ctx)
}

// Blocks is the data in the file in units of 512 bytes, known holes left out.
func (f *File) Blocks() int64 {
	if f.joined != nil {
		return f.joined.blocks()
	}
	n := f.Size()
	if f.image != nil && f.image.Data() != nil {
		n = 0
		for _, e := range f.image.Data() {
			n += e.Len
		}
	}
	return (n + 511) / 512
}

// Open opens the file for reading. The error wraps archive.ErrRefused if the trust
// policy forbids it, cache.ErrCorrupt if its content is known to be wrong.
func (f *File) Open(ctx context.Context) (image.Handle, error) {
	if err := f.refused(); err != nil {
		return nil, err
	}
	switch {
	case f.image != nil:
		f.pkg.release.checkSoon(checkEvery)
		return f.image.Open(ctx)
	case f.joined != nil:
		return f.joined.open(ctx)
	}
	if f.state == store.Corrupt {
		return nil, fmt.Errorf("%s/%s: %w: %s", f.pkg.release.Name(), f.name, cache.ErrCorrupt, f.note)
	}
	return image.Memory(f.content), nil
}

// checkContent compares a file in memory with its sums in the manifest.
func (f *File) checkContent() {
	f.state, f.note = store.Unverified, "the manifest does not list it"
	if f.pkg.manifest == nil {
		f.note = "the package has no manifest"
		return
	}
	for _, sum := range f.pkg.manifest.Sums(f.name) {
		h := sum.NewHash()
		if h == nil {
			continue
		}
		h.Write(f.content)
		got := hex.EncodeToString(h.Sum(nil))
		if got != sum.Hex {
			f.state = store.Corrupt
			f.note = fmt.Sprintf("%s is %s, the manifest says %s", sum.Algo, got, sum.Hex)
			return
		}
		if f.state != store.Verified {
			f.state, f.note = store.Verified, sum.Algo+" matches the manifest"
		}
	}
}
