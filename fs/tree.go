package fs

import (
	"context"
	"os"
	"time"
)

// A Tree is what a mount shows. All methods answer from memory and may be
// called by many goroutines at once, save those that take a context: these may
// go to the network, and the context ends only the waiting of their caller.
// What is handed out stays valid for as long as somebody holds it.
type Tree interface {
	// Snapshot returns the present state of the feed.
	Snapshot() Snapshot
	// Subscribe asks for changed to be called after Snapshot began to return
	// another state. It must not block, and may be called from any goroutine.
	Subscribe(changed func()) (cancel func())
	// StatusJSON returns the content of .vmcastfs/status.json.
	StatusJSON() []byte
}

// A Snapshot is an immutable state of a feed.
type Snapshot interface {
	// FeedXML is the last good feed, verbatim; nobody may write to it.
	FeedXML() []byte
	FeedTime() time.Time
	// Releases lists the releases, newest first; nobody may write to it.
	Releases() []Release
	// Release finds a release by its directory name.
	Release(name string) (Release, bool)
	// Latest is the name "latest" points to; empty when there is none.
	Latest() string
}

// A Release is one generation of one item of the feed.
type Release interface {
	// Name is a single path component, stable over refreshes.
	Name() string
	Published() time.Time
	// Generation changes when the archive behind the name is replaced.
	Generation() uint64
	// Package indexes the archive on first use, over the network; afterwards
	// it answers at once.
	Package(ctx context.Context) (Package, error)
	// Peek is Package if that needs no waiting.
	Peek() (Package, bool)
}

// A Package is the indexed archive of a release.
type Package interface {
	// Files lists the files whose size is known, sorted by name.
	Files() []File
	// Lookup finds a file by name, and waits for its size if that is still
	// being found. The error is, or wraps, io/fs.ErrNotExist if there is none.
	Lookup(ctx context.Context, name string) (File, error)
}

// A File is a member of a package, or the plain content of a compressed one.
// Its bytes, size and times never change.
type File interface {
	// OfFeed tells a file whose name another one may take, when the feed changes.
	OfFeed() bool
	Name() string
	Size() int64 // bytes
	ModTime() time.Time
	// Inode is a stable hash of release, generation and name.
	Inode() uint64
	// Blocks is the data in the file in units of 512 bytes, known holes left out.
	Blocks() int64
	// Attr returns an extended attribute by its full name, "user.vmcast.state".
	Attr(name string) ([]byte, bool)
	Open(ctx context.Context) (Handle, error)
}

// A Handle is an open File. It stays usable until Close, whatever becomes of
// the release in the feed meanwhile.
type Handle interface {
	// ReadAt is io.ReaderAt with a context: it fills p or returns an error,
	// io.EOF at the end of the file.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// SeekData and SeekHole return the first offset at or above off that is
	// data, or a hole; the file's size if no data follows. The end of the file
	// is a hole. They answer from memory.
	SeekData(off int64) (int64, error)
	SeekHole(off int64) (int64, error)
	// PassthroughFile returns a local file holding exactly this content,
	// complete and checked, if there is one. From then on until Close nothing
	// may be evicted from it, as the kernel reads it without asking.
	PassthroughFile() (*os.File, bool)
	Close() error
}
