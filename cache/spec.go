package cache

import (
	"context"
	"fmt"
	"sort"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/xvm/sums"
)

// BlockSums knows the content of single blocks beforehand, so that each is
// checked before anyone sees it. Its methods are called from many goroutines
// at once.
type BlockSums interface {
	// Known says whether block b is known to hold nothing but zeros. With ok false
	// nothing is known about the block. It is called with locks held.
	Known(b int64) (zero, ok bool)
	// Sum returns the SHA-256 of block b, of which the last one may be short. The
	// block is known, and not all zeros. It may read and wait, until ctx ends.
	Sum(ctx context.Context, b int64) ([32]byte, error)
}

// TableSums are the sums of a complete table.
func TableSums(t *sums.Table) BlockSums { return tableSums{t} }

type tableSums struct{ *sums.Table }

func (t tableSums) Sum(_ context.Context, b int64) ([32]byte, error) {
	sum, _, _ := t.Table.Sum(b)
	return sum, nil
}

// Copies finds blocks of this file in others of the same store: given a block
// and its SHA-256, a file and the place in it that should have the same bytes.
// What it says is checked. The file must stay open as long as this one is. It
// is called from many goroutines at once, with no lock held.
type Copies func(b int64, sum [32]byte) (from *store.File, at int64, ok bool)

// Judge says what a complete file is, given for each of Spec.Sums whether it
// matched, and why in a clause. It may wait, until ctx ends: for another file
// that vouches for this one. [store.Partial] means that it cannot tell now.
type Judge func(ctx context.Context, matched []bool) (store.FileState, string)

// Extent is a run of bytes of a plain file.
type Extent struct{ Off, Len int64 }

// Policy says what a read gets before the whole file has been checked.
type Policy int

const (
	// Lazy serves blocks as they were fetched (after the check of the block
	// itself where Spec.Blocks has one).
	Lazy Policy = iota
	// Strict lets reads wait until the whole file is here and matches its sums.
	Strict
)

// Limits of a Spec.
const (
	DefaultBlockSize = 64 << 10
	// MaxBlocks bounds the number of blocks of a file, as the store does: 64 TiB
	// in blocks of 32 KiB or more.
	MaxBlocks = store.MaxBlocks
	// maxSums bounds the sums checked in one pass over a file.
	maxSums = 16
)

// Spec describes a file to open. The first Open of a key decides; while it is
// open, further opens of the same key share it. Of their Spec only Policy
// Strict and Complete are honoured.
type Spec struct {
	// Key names the file on the local disk. It must change whenever the
	// content may have (validator, length, manifest digest).
	Key   store.Key
	Label string // for messages: "debian-12.5/root.img"
	// Size in bytes, or store.Unknown with a Forward source.
	Size int64
	// MaxSize, if not 0, is the most that a Forward source may produce; beyond
	// it reads fail with ErrTooLarge.
	MaxSize   int64
	BlockSize int // bytes, 0 = DefaultBlockSize
	Source    source.Source
	// Origin names the server of the source. Origins have each a share of what is
	// fetched ahead. Ignored for Forward sources.
	Origin string
	// Whole: once begun, a Forward source is run to its end (a server without
	// ranges). Ignored for other sources.
	Whole bool
	// Data lists what may be other than zero, in any order, overlaps allowed.
	// What lies outside reads as zeros and is never fetched. nil: all is data.
	Data []Extent
	// Sums must all match once the file is complete. Without any (and without
	// Blocks for every block) a complete file is "unverified".
	Sums []sums.Sum
	// Judge, if not nil, decides instead what the complete file is, from which
	// of Sums matched.
	Judge Judge
	// Changed, if not nil, is called after the state of the file has changed;
	// it must not block and must not call the file.
	Changed func(s store.FileState)
	Blocks  BlockSums
	// Copies, if not nil, is asked for each block with a sum before it is
	// fetched. Ignored for Forward sources.
	Copies Copies
	// Shared, if not nil, tells whether the source would ask a mirror now. Then pieces
	// are fetched that all hosts cut alike, as far as blocks have sums, see
	// [source.Trial]. It is called with locks held and must not block.
	Shared func() bool
	// Expected is the profile by which Shared pieces are cut. It must be the same on all
	// hosts.
	Expected []Extent
	// Learned, if not nil, is called with the sums of all blocks once a walk
	// has verified the whole. Blocks can have them the next time. It must not
	// block and must not call the file.
	Learned func(*sums.Table)
	// Recorder, if not nil, is told of reads and of blocks that come.
	Recorder *trace.Recorder
	Policy   Policy
	// Complete: fetch and check the whole in the background once opened.
	Complete bool
}

// normalize fills in defaults and refuses what makes no sense.
func (s *Spec) normalize() error {
	if s.BlockSize == 0 {
		s.BlockSize = DefaultBlockSize
	}
	_, forward := s.Source.(source.Forward)
	switch {
	case s.Source == nil:
		return fmt.Errorf("open %q: no source", s.Label)
	case s.BlockSize < sums.MinBlockSize || s.BlockSize > sums.MaxBlockSize || s.BlockSize&(s.BlockSize-1) != 0:
		return fmt.Errorf("open %q: block size %d is not a power of two from %d to %d", s.Label, s.BlockSize, sums.MinBlockSize, sums.MaxBlockSize)
	case s.Size < 0 && s.Size != store.Unknown:
		return fmt.Errorf("open %q: bad size %d", s.Label, s.Size)
	case s.Size == store.Unknown && !forward:
		return fmt.Errorf("open %q: a source of unknown size must be a forward one", s.Label)
	case s.Size == store.Unknown && s.Data != nil:
		return fmt.Errorf("open %q: extents of a file of unknown size", s.Label)
	case s.MaxSize < 0:
		return fmt.Errorf("open %q: bad largest size %d", s.Label, s.MaxSize)
	case s.Size > min(store.MaxSize, int64(s.BlockSize)*MaxBlocks) || s.MaxSize > 0 && s.Size > s.MaxSize:
		return fmt.Errorf("open %q: %d bytes: %w", s.Label, s.Size, ErrTooLarge)
	case len(s.Sums) > maxSums:
		return fmt.Errorf("open %q: %d sums, at most %d are possible", s.Label, len(s.Sums), maxSums)
	}
	for _, sum := range s.Sums {
		if err := sum.Check(); err != nil {
			return fmt.Errorf("open %q: %w", s.Label, err)
		}
		if s.Size >= 0 && sum.Prefix > s.Size {
			return fmt.Errorf("open %q: digest of the first %d bytes of %d", s.Label, sum.Prefix, s.Size)
		}
	}
	return nil
}

// mergeExtents returns the extents sorted, clipped to [0,size) and joined.
// A nil list stays nil (all is data); an empty one stays empty (all is zero).
func mergeExtents(in []Extent, size int64) []Extent {
	if in == nil {
		return nil
	}
	ext := make([]Extent, 0, len(in))
	for _, e := range in {
		if e.Off < 0 || e.Len <= 0 || e.Off >= size {
			continue
		}
		// Compared this way round, Off+Len cannot overflow.
		if e.Len > size-e.Off {
			e.Len = size - e.Off
		}
		ext = append(ext, e)
	}
	sort.Slice(ext, func(i, j int) bool { return ext[i].Off < ext[j].Off })
	out := ext[:0]
	for _, e := range ext {
		if n := len(out); n > 0 && e.Off <= out[n-1].Off+out[n-1].Len {
			out[n-1].Len = max(out[n-1].Len, e.Off+e.Len-out[n-1].Off)
			continue
		}
		out = append(out, e)
	}
	return out
}
