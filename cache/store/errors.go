package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrFormat: the directory, or one journal in it, was written by a newer version, or is not a cache.
	ErrFormat = errors.New("unknown cache format")
	// ErrFull: the limit, the floor of free space or the disk itself refuses a block. The caller serves it uncached.
	ErrFull = errors.New("cache is full")
	// ErrFailing is the ErrFull of a disk that fails or has become read-only.
	ErrFailing error = failing{}
	// ErrAbsent: the block is not in the cache (never was, was evicted, or was found damaged and dropped).
	ErrAbsent = errors.New("block is not in the cache")
	// ErrInUse: the file is open, here or in another process, and cannot be removed.
	ErrInUse = errors.New("cached file is in use")
	// ErrGeometry: the file is in the cache with another size or block size. Remove it, or open it with what it has.
	ErrGeometry = errors.New("cached file has another size or block size")
	// ErrBusy: a lock on the cache directory could not be had in time; another process holds it.
	ErrBusy = errors.New("cache is locked by another process")
)

type failing struct{}

func (failing) Error() string        { return "cache disk fails" }
func (failing) Is(target error) bool { return target == ErrFull }

// DamagedError reports a block whose bytes on the local disk do not match their recorded checksum, or could not be
// read at all. The block has been dropped: it is absent from now on, and errors.Is(err, ErrAbsent) holds.
type DamagedError struct {
	Key       Key
	Block     int64
	Want, Got uint32 // CRC-32C; Got is 0 if Err is set
	Err       error  // the read error, or nil for a wrong checksum
}

func (e *DamagedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("read block %d of cached file %.12s: %v", e.Block, string(e.Key), e.Err)
	}
	return fmt.Sprintf("block %d of cached file %.12s is damaged: checksum %08x, want %08x", e.Block, string(e.Key), e.Got, e.Want)
}

// Is makes a damaged block an absent one for callers that only ask whether to fetch.
func (e *DamagedError) Is(target error) bool { return target == ErrAbsent }

func (e *DamagedError) Unwrap() error { return e.Err }

// full marks errors of a disk that takes no more as ErrFull, and of one that fails as ErrFailing.
func full(err error) error {
	for e, as := range map[unix.Errno]error{
		unix.ENOSPC: ErrFull, unix.EDQUOT: ErrFull, unix.EFBIG: ErrFull,
		unix.EIO: ErrFailing, unix.EROFS: ErrFailing,
	} {
		if errors.Is(err, e) && !errors.Is(err, ErrFull) {
			return fmt.Errorf("%w: %w", as, err)
		}
	}
	return err
}
