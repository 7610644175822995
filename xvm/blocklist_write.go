package xvm

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"vmcastfs/xvm/sums"
)

// BlockListWriter writes a block list as a stream: for each image Begin, then
// Block or Zero for each of its blocks in order; Close at the end. It is for
// one goroutine. Its first error stays.
type BlockListWriter struct {
	w      *bufio.Writer
	err    error
	image  *ImageBlocks // the current one, without its blocks
	count  int64        // of its blocks, so far
	names  map[string]bool
	zeros  int64 // zero blocks not yet written ...
	stored int64 // ... each compressed to this length
	sums   int
	blocks int64
	line   []byte
}

// NewBlockListWriter begins a list. Nothing is certain to have reached w before Close.
func NewBlockListWriter(w io.Writer) *BlockListWriter {
	l := &BlockListWriter{w: bufio.NewWriter(w), names: make(map[string]bool)}
	l.print(blockListMagic)
	return l
}

// Begin starts an image. member names the member that holds its blocks
// compressed one by one, and is "" where there is none.
func (l *BlockListWriter) Begin(name, member string, size int64, blockSize int) error {
	l.finish()
	if l.err == nil {
		l.fail(checkImage(name, member, size, blockSize))
	}
	if l.err == nil {
		l.blocks += sums.Blocks(size, blockSize)
		switch {
		case len(l.names) == maxListImages:
			l.fail(fmt.Errorf("more than %d images", maxListImages))
		case l.blocks > MaxListBlocks:
			l.fail(fmt.Errorf("more than %d blocks", MaxListBlocks))
		case l.names[name]:
			l.fail(fmt.Errorf("%q is listed twice", name))
		}
	}
	if l.err != nil {
		return l.err
	}
	l.names[name] = true
	l.count = 0
	l.image = &ImageBlocks{Name: name, Member: member, Size: size, BlockSize: blockSize}
	l.print("image " + name)
	l.print("size " + strconv.FormatInt(size, 10))
	l.print("block " + strconv.Itoa(blockSize))
	if member != "" {
		l.print("member " + member)
	}
	l.print("blocks " + strconv.FormatInt(l.image.Blocks(), 10))
	return l.err
}

// Block adds a block by the SHA-256 of its plain content and the length of its
// compressed form, which is 0 when the image has no member.
func (l *BlockListWriter) Block(sum [32]byte, stored int64) error {
	l.flushZeros()
	if !l.room(stored) {
		return l.err
	}
	if l.sums++; l.sums > MaxListSums {
		return l.fail(fmt.Errorf("more than %d sums", MaxListSums))
	}
	l.line = hex.AppendEncode(l.line[:0], sum[:])
	l.printStored(stored)
	return l.err
}

// Zero adds a block of zeros; stored is as for Block.
func (l *BlockListWriter) Zero(stored int64) error {
	if l.zeros > 0 && stored != l.stored {
		l.flushZeros()
	}
	if !l.room(stored) {
		return l.err
	}
	l.zeros++
	l.stored = stored
	return nil
}

// Close ends the list. It does not close the underlying writer.
func (l *BlockListWriter) Close() error {
	l.finish()
	l.print("end")
	if l.err == nil {
		l.err = l.w.Flush()
	}
	return l.err
}

// room counts one more block of the current image, if it can be.
func (l *BlockListWriter) room(stored int64) bool {
	switch {
	case l.err != nil:
	case l.image == nil || l.count == l.image.Blocks():
		l.fail(fmt.Errorf("a block too many"))
	default:
		l.fail(l.image.checkStored(stored, 1))
	}
	if l.err != nil {
		return false
	}
	l.count++
	l.image.Stored += stored
	return true
}

func (l *BlockListWriter) flushZeros() {
	if l.zeros == 0 {
		return
	}
	l.line = strconv.AppendInt(append(l.line[:0], "zero "...), l.zeros, 10)
	l.printStored(l.stored)
	l.zeros = 0
}

// finish ends the current image.
func (l *BlockListWriter) finish() {
	l.flushZeros()
	if m := l.image; m != nil && l.count != m.Blocks() {
		l.fail(fmt.Errorf("%q has %d blocks instead of %d", m.Name, l.count, m.Blocks()))
	}
	l.image = nil
}

func (l *BlockListWriter) fail(err error) error {
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("%w: %v", ErrBlockList, err)
	}
	return l.err
}

// printStored ends l.line with the stored length, if the image has a member.
func (l *BlockListWriter) printStored(stored int64) {
	if l.image.Member != "" {
		l.line = strconv.AppendInt(append(l.line, ' '), stored, 10)
	}
	l.line = append(l.line, '\n')
	if l.err == nil {
		_, l.err = l.w.Write(l.line)
	}
}

func (l *BlockListWriter) print(line string) {
	if l.err == nil {
		_, l.err = l.w.WriteString(line + "\n")
	}
}
