package image

import (
	"bytes"
	"context"
	"os"
)

// A Handle is an open file. It stays usable until Close, whatever becomes of
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

// Memory is an open file whose content is in memory.
type Memory []byte

// ReadAt copies from memory.
func (h Memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(h).ReadAt(p, off)
}

// SeekData returns off: all is data.
func (h Memory) SeekData(off int64) (int64, error) { return min(off, int64(len(h))), nil }

// SeekHole returns the size.
func (h Memory) SeekHole(int64) (int64, error) { return int64(len(h)), nil }

// PassthroughFile returns none.
func (h Memory) PassthroughFile() (*os.File, bool) { return nil, false }

// Close does nothing.
func (h Memory) Close() error { return nil }
