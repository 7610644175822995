package store

import "fmt"

const (
	// Unknown is the size of a file whose length has not been learned yet, and its number of blocks.
	Unknown = -1

	// MaxSize bounds a file (64 TiB), MaxBlocks its number of blocks: they keep the memory of a map, and what a
	// damaged journal can ask for, within reason.
	MaxSize   = 1 << 46
	MaxBlocks = 1 << 31

	// minBlockSize and maxBlockSize bound the block size, a power of two.
	minBlockSize = 4 << 10
	maxBlockSize = 16 << 20
)

// Key names a cached file: 64 lower-case hexadecimal digits, a SHA-256 over the file's identity. It is also the name
// on the disk, so nothing else is accepted.
type Key string

func (k Key) check() error {
	if len(k) != 64 {
		return fmt.Errorf("cache key %.80q is not 64 hexadecimal digits", string(k))
	}
	for _, c := range []byte(k) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("cache key %q is not 64 hexadecimal digits", string(k))
		}
	}
	return nil
}

func checkBlockSize(n int) error {
	if n < minBlockSize || n > maxBlockSize || n&(n-1) != 0 {
		return fmt.Errorf("block size %d is not a power of two from %d to %d", n, minBlockSize, maxBlockSize)
	}
	return nil
}

func checkSize(n int64, blockSize int) error {
	if n < 0 || n > MaxSize || blocksOf(n, blockSize) > MaxBlocks {
		return fmt.Errorf("size %d in blocks of %d is beyond what the cache takes", n, blockSize)
	}
	return nil
}

func blocksOf(size int64, blockSize int) int64 {
	return (size + int64(blockSize) - 1) / int64(blockSize)
}

// FileState says what is known of a file as a whole.
type FileState uint8

const (
	// Partial: not complete, or not checked yet.
	Partial FileState = iota
	// Verified: complete, and the whole matched its sums. Losing a block makes it Partial again.
	Verified
	// Unverified: there is nothing to check the whole against.
	Unverified
	// Corrupt: the whole did not match its sums. It stays so; the blocks are given up.
	Corrupt
)

func (s FileState) String() string {
	switch s {
	case Partial:
		return "partial"
	case Verified:
		return "verified"
	case Unverified:
		return "unverified"
	case Corrupt:
		return "corrupt"
	}
	return fmt.Sprintf("state %d", uint8(s))
}
