package xvm

import (
	"errors"
	"fmt"
	"slices"
	"vmcastfs/xvm/sums"
)

// A block list is the member blocks.txt. The manifest lists it, and so the signature
// covers it. It is text. Every line ends in LF or CRLF, fields are separated by one
// blank, numbers are decimal digits:
//
//	list   = "vmcast-blocks 1" image* "end"
//	image  = "image" NAME head* "blocks" COUNT block*
//	head   = "size" BYTES | "block" BYTES | "member" NAME | KEYWORD anything
//	block  = SHA256 [LENGTH] | "zero" COUNT [LENGTH]
//
// Each item is a line. "size" is that of the plain image. "block" is the size of a
// block, a power of two from 4096 to 8388608; the last block may be short. COUNT is
// the number of blocks. SHA256 is that of a block's plain content. A "zero" line
// stands for so many blocks of zeros.
//
// With "member", the named member holds every block compressed on its own. Each
// block is one gzip member, zeros included, in order and without gaps. LENGTH is
// then on every line: the bytes of the compressed block, on a zero line of each of
// them. The offset of a block is the sum of the lengths before it. Offsets are not
// written, since hostile ones could overlap. Without "member" there is no LENGTH; the
// image is stored plain, or in a way that the list does not describe.
//
// Unknown keywords in a head are ignored, so that they may carry hints. Whatever
// changes the meaning of a list changes its version. Nothing follows the end, and a
// list without an end was cut.
//
// Standard tools make a list, and check one without zero lines:
//
//	s=$(stat -c %s root.img)
//	{ echo vmcast-blocks 1; echo image root.img; echo size $s; echo block 65536
//	  echo blocks $(( (s + 65535) / 65536 ))
//	  split -b 65536 --filter='sha256sum | cut -c1-64' root.img
//	  echo end; } >blocks.txt
//	split -b 65536 --filter='sha256sum | cut -c1-64' root.img |
//	  diff - <(grep -xE '[0-9a-f]{64}' blocks.txt)
//
// A gigabyte in blocks of 64 KiB makes a list of 1.1 MB. In memory a block takes 32
// bytes, 40 if it is compressed; zeros take 1.5 bits. Of a list that is read by
// pages any block takes 2 bits: see [OutlineBlockList].

// Limits of a block list, beside those of a [sums.Table]. Together they keep a
// hostile list of any length below some 200 MiB of memory, and below 14 MiB if it is
// read by pages.
const (
	maxListImages    = 4096           // images in one list
	MaxListSums      = sums.MaxSums   // blocks with a sum, all images together
	MaxListBlocks    = sums.MaxBlocks // blocks, zeros included, all images together
	maxBlockListSize = 384 << 20      // bytes of the list
	maxBlockListLine = 8 << 10        // bytes of one line
	maxMemberSize    = 1 << 40        // bytes of a member compressed block by block
	maxStoredBlock   = 1 << 24        // bytes of one compressed block, exclusive
)

// BlockListName is the name of the block list in a package.
const BlockListName = "blocks.txt"

// ErrBlockList is wrapped by every error of [ParseBlockList] and [BlockListWriter].
var ErrBlockList = errors.New("bad block list")

// BlockList holds what a package's blocks.txt says of its images. It is
// immutable, so that any number of goroutines may use it.
type BlockList struct {
	images []*ImageBlocks
	byName map[string]*ImageBlocks
}

// Images lists the images in the order of the list.
func (l *BlockList) Images() []*ImageBlocks { return slices.Clone(l.images) }

// Data is how many bytes of each image are in blocks that are not all zeros, by its name.
func (l *BlockList) Data() map[string]int64 {
	data := make(map[string]int64)
	for _, ib := range l.images {
		data[ib.Name] = ib.Outline().Data()
	}
	return data
}

// Image returns the blocks of the image of this (plain) name, or nil; so it does for a nil list.
func (l *BlockList) Image(name string) *ImageBlocks {
	if l == nil {
		return nil
	}
	return l.byName[name]
}

// without is the list without some images.
func (l *BlockList) without(names []string) *BlockList {
	if len(names) == 0 {
		return l
	}
	less := &BlockList{byName: make(map[string]*ImageBlocks)}
	for _, b := range l.images {
		if !slices.Contains(names, b.Name) {
			less.images, less.byName[b.Name] = append(less.images, b), b
		}
	}
	return less
}

// ImageBlocks are the blocks of one image.
type ImageBlocks struct {
	Name      string // of the plain image
	Member    string // that holds the blocks compressed one by one, or ""
	Size      int64  // bytes of the plain image
	BlockSize int    // bytes of plain content in each block but the last
	Stored    int64  // bytes of Member, which the blocks fill without a gap; 0 without Member

	outline sums.Outline
	// Either the sums and places are in memory, or pages say where their text is.
	table  *sums.Table
	places []blockSpot // in Member, of the blocks with a sum; 8 bytes each
	pages  []listPage
}

// blockSpot is where a compressed block lies: offset below 2^40, length below 2^24.
type blockSpot uint64

// Blocks is the number of blocks.
func (b *ImageBlocks) Blocks() int64 { return sums.Blocks(b.Size, b.BlockSize) }

// Outline tells which blocks have a sum.
func (b *ImageBlocks) Outline() *sums.Outline {
	if b.table != nil {
		return &b.table.Outline
	}
	return &b.outline
}

// Sum is that of a [sums.Table], of a list that [ParseBlockList] read.
func (b *ImageBlocks) Sum(i int64) (sum [32]byte, zero, ok bool) { return b.table.Sum(i) }

// Place returns where in Member the compressed form of block i lies, by a list
// that [ParseBlockList] read. ok is false for a zero block, for an image that is
// not compressed block by block and when there is no such block.
func (b *ImageBlocks) Place(i int64) (off, n int64, ok bool) {
	j := b.table.Index(i)
	if j < 0 || b.Member == "" {
		return 0, 0, false
	}
	return int64(b.places[j] >> 24), int64(b.places[j] & (maxStoredBlock - 1)), true
}

// append adds the next block.
func (b *ImageBlocks) append(sum [32]byte, zero bool, stored int64) {
	if b.table == nil {
		b.outline.Add(zero)
	} else if b.table.Append(sum, zero) && !zero && b.Member != "" {
		b.places = append(b.places, blockSpot(b.Stored<<24|stored))
	}
	b.Stored += stored
}

// checkStored refuses a length that cannot be that of the next block's compressed form.
func (b *ImageBlocks) checkStored(n, blocks int64) error {
	if b.Member == "" {
		if n != 0 {
			return errors.New("a stored length, but no member")
		}
		return nil
	}
	if n < 1 || n >= maxStoredBlock || n > (maxMemberSize-b.Stored)/blocks {
		return fmt.Errorf("stored length %d is out of range", n)
	}
	return nil
}

// checkImage refuses sizes and names that no image can have.
func checkImage(name, member string, size int64, blockSize int) error {
	for _, n := range []string{name, member} {
		if n == "" && n == member {
			continue
		}
		if err := checkShortest(n); err != nil {
			return err
		}
	}
	switch {
	case name == "":
		return errors.New("an image without a name")
	case size < 0:
		return fmt.Errorf("size %d of %q is negative", size, name)
	case blockSize < sums.MinBlockSize || blockSize > sums.MaxBlockSize || blockSize&(blockSize-1) != 0:
		return fmt.Errorf("block size %d of %q is no power of two from %d to %d", blockSize, name, sums.MinBlockSize, sums.MaxBlockSize)
	case sums.Blocks(size, blockSize) > MaxListBlocks:
		return fmt.Errorf("%q has more than %d blocks", name, MaxListBlocks)
	}
	return nil
}
