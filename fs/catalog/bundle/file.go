package bundle

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// content is what a file holds: bytes in memory, an image, or a disk made of
// images. It is safe for any number of goroutines.
type content interface {
	// Size in bytes, or store.Unknown while it is still to be found.
	Size() int64
	// Blocks is the data in units of 512 bytes, known holes left out; settled: that
	// will not change.
	Blocks() (n int64, settled bool)
	// FindSize waits for the size.
	FindSize(ctx context.Context) (int64, error)
	// Open opens it for reading, once its size is known.
	Open(ctx context.Context) (image.Handle, error)
	// Status describes it without touching the network; Name, Size and Refused
	// are the file's to fill in.
	Status() image.Status
	// Known is Status from memory, as it was when it was last looked at.
	Known() image.Status
	// Attr is an extended attribute by its full name; "": it has none of that name.
	Attr(name string) string
}

// standingContent is content that is made of other files, which are vouched for.
type standingContent interface{ standing() xvm.Standing }

// origin is where a file comes from, which decides who vouches for it.
type origin int

const (
	stored   origin = iota // a member as it is stored
	inflated               // the plain content of a member
	chunked                // put together from chunks of an XVA archive
	partly                 // a disk made of other files
	ofFeed                 // the feed's, which nobody signs, and not the package's
)

// File is one file of a release. It is safe for any number of goroutines.
type File struct {
	shared  *shared
	name    string
	modTime time.Time // zero: that of the release
	key     store.Key
	bare    store.Key // of an image: what key would be without a block list
	origin  origin
	base    string // what plain content is inflated from
	noDisk  bool   // it is no disk image, whatever it is read as
	claimed string // SHA-256 of a disk image by itself, by the feed; "": it gives none
	content content
}

// Name is the file's path in its release.
func (f *File) Name() string { return f.name }

// Size in bytes, or store.Unknown if it is still to be found. That is so for
// plain content of compressed members, and for disks made of partition images.
func (f *File) Size() int64 { return f.content.Size() }

// Blocks is the data in the file in units of 512 bytes, known holes left out.
func (f *File) Blocks() (n int64, settled bool) { return f.content.Blocks() }

// ModTime is the member's, or that of the release.
func (f *File) ModTime() time.Time {
	if f.modTime.IsZero() {
		return f.shared.release.Item().Published
	}
	return f.modTime
}

// OfFeed tells the release notes, which are the feed's: another file may take
// their name, or none be there any more. All other files stay.
func (f *File) OfFeed() bool { return f.origin == ofFeed }

// Inode is the same for the same bytes under the same name, for ever.
func (f *File) Inode() uint64 {
	raw, err := hex.DecodeString(string(f.key[:16]))
	if err != nil {
		return 2 // archive.Key made it: cannot be
	}
	n := binary.BigEndian.Uint64(raw) >> 1 // some tools take inodes for signed
	return max(n, 1<<16)                   // small ones belong to the mount's own nodes
}

// Open opens the file for reading. The error wraps archive.ErrRefused if the trust
// policy forbids it, cache.ErrCorrupt if its content is known to be wrong, and
// archive.ErrReplaced if its archive is found to be another one by now.
func (f *File) Open(ctx context.Context) (image.Handle, error) {
	if err := f.refused(); err != nil {
		f.shared.release.Refused()
		return nil, err
	}
	if f.image() != nil || f.origin == partly {
		if err := f.shared.release.Opened(ctx); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", f.shared.release.Name, f.name, err)
		}
	}
	return f.content.Open(ctx)
}

// Status describes the file as it is now. It never touches the network.
func (f *File) Status() image.Status { return f.describe(f.content.Status()) }

// Known is Status from memory: an image that is not open is as it was when Status
// was asked last.
func (f *File) Known() image.Status { return f.describe(f.content.Known()) }

func (f *File) describe(st image.Status) image.Status {
	st.Name, st.Size, st.NoDisk = f.name, f.Size(), st.Image && f.noDisk
	standing := f.Standing()
	if s, ok := f.content.(*small); ok {
		s.signed(&st, standing)
	}
	if standing.Refused != "" && f.shared.verdict().Refused == "" {
		st.Refused = standing.Refused
	}
	return st
}

// Standing says who vouches for the file.
func (f *File) Standing() xvm.Standing {
	v := f.shared.verdict()
	switch f.origin {
	case stored:
		return v.Member(f.name)
	case inflated:
		return v.Inflated(f.base)
	case chunked:
		return v.Chunked()
	case partly:
		return f.content.(standingContent).standing()
	}
	return xvm.Standing{}
}

// refused says why the trust policy keeps this file from being opened.
func (f *File) refused() error {
	if why := f.shared.refusal(); why != "" {
		return fmt.Errorf("%s: %w: %s", f.shared.release.Name, archive.ErrRefused, why)
	}
	if why := f.Standing().Refused; why != "" {
		return fmt.Errorf("%s: %w: %s", f.shared.label(f.name), archive.ErrRefused, why)
	}
	return nil
}

// Attr returns an extended attribute by its full name. It never touches the
// network.
func (f *File) Attr(name string) ([]byte, bool) {
	value := ""
	switch name {
	case "user.vmcast.state":
		value = f.Status().State
	case "user.vmcast.verify":
		st := f.Status()
		if value = st.Verify; st.VerifyNote != "" {
			value += ": " + st.VerifyNote
		}
	case "user.vmcast.cached_bytes":
		value = fmt.Sprint(f.Status().CachedBytes)
	case "user.vmcast.source":
		value = show.URL(f.shared.release.Item().URL)
	case "user.vmcast.withdrawn":
		if left := f.shared.release.Left(); !left.IsZero() {
			value = left.UTC().Format(time.RFC3339)
		}
	case "user.vmcast.signer":
		value = f.Standing().Signer
	case "user.vmcast.sha256":
		value = f.sha256()
	case "user.vmcast.digest":
		value = f.digest()
	default:
		value = f.content.Attr(name)
	}
	return []byte(value), value != ""
}

// sha256 is the digest that the manifest gives of a member as it is stored, or the feed.
func (f *File) sha256() string {
	if m := f.shared.verdict().Sums; m != nil && f.origin == stored {
		for _, s := range m.Sums(f.name) {
			if s.Algo == sums.SHA256 {
				return s.Hex
			}
		}
	}
	return f.claimed
}

// Picture shows an image in at most n pieces; ok: the file is one.
func (f *File) Picture(n int, boot bool) (p image.Picture, ok bool) {
	im := f.image()
	if im == nil {
		return p, false
	}
	p = image.PictureOf(im, n, boot)
	p.Status = f.describe(p.Status)
	return p, true
}

// Warm fetches what a boot of an image is expected to read, see image.Warm.
func (f *File) Warm(ctx context.Context, most int64) (got int64, known bool, err error) {
	im := f.image()
	if im == nil {
		return 0, false, nil
	}
	if err := f.refused(); err != nil {
		return 0, false, err
	}
	return image.Warm(ctx, im, most)
}

// CacheKey is that of its image in the cache, "" if it has none.
func (f *File) CacheKey() store.Key {
	if im := f.image(); im != nil {
		return im.Key()
	}
	return ""
}

// image is the file's image, or nil.
func (f *File) image() *image.Image {
	im, _ := f.content.(*image.Image)
	return im
}
