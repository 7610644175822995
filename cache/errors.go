package cache

import (
	"errors"
	"fmt"

	"vmcastfs/cache/store"
)

var (
	// ErrCorrupt: the content was shown not to be what its sums promise. Every
	// read of the file gets it from then on, also after a restart.
	ErrCorrupt = errors.New("content does not match its checksum")
	// ErrTooLarge: the source produced more than Spec.MaxSize, or the file has
	// more than MaxBlocks blocks.
	ErrTooLarge = errors.New("larger than allowed")
	// ErrClosed: the file handle or the cache was closed.
	ErrClosed = errors.New("file of the cache is closed")

	// errAbandoned ends a fetch that nobody waited for. A reader that joined it
	// at the last moment starts over, so it never leaves this package.
	errAbandoned = errors.New("fetch abandoned")
)

// CorruptError says which digest of a file did not match. It is ErrCorrupt.
type CorruptError struct {
	File   string // Spec.Label
	Reason string // "sha256 is 12…, expected 34…"
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%q is corrupt: %s", e.File, e.Reason) }
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// UnkeptError says that a file was fetched and checked, but that the cache had
// no room for all of it. It is [store.ErrFull].
type UnkeptError struct {
	File  string
	Block int64           // the first that is missing
	State store.FileState // what the file is: Verified, or Unverified
}

func (e *UnkeptError) Error() string {
	return fmt.Sprintf("%q was fetched and is %s, but its block %d could not be kept", e.File, e.State, e.Block)
}

func (e *UnkeptError) Unwrap() error { return store.ErrFull }

// BlockError says that one block did not match its sum, twice in a row. Other
// blocks of the file are not concerned; reading this one again tries again.
type BlockError struct {
	File      string
	Block     int64
	Off       int64
	Got, Want [32]byte
}

func (e *BlockError) Error() string {
	return fmt.Sprintf("block %d (offset %d) of %q has sha256 %x, expected %x", e.Block, e.Off, e.File, e.Got, e.Want)
}

// mismatch reports whether err says that a block is wrong, and not that its sum is
// unknown.
func mismatch(err error) bool {
	var wrong *BlockError
	return errors.As(err, &wrong)
}

// SizeError says that a forward source came to its end before the size that
// its file was declared to have. (One that goes on after it proves the file
// corrupt; one that ends early may have been cut off.)
type SizeError struct {
	File     string
	Declared int64
	Got      int64 // where the source ended
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%q ends after %d of its declared %d bytes", e.File, e.Got, e.Declared)
}
