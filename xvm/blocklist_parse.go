package xvm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"vmcastfs/xvm/sums"
)

const blockListMagic = "vmcast-blocks 1"

// ParseBlockList reads a block list as a stream. The error wraps
// [ErrBlockList], or is that of r.
func ParseBlockList(r io.Reader) (*BlockList, error) { return parseBlockList(r, nil) }

// parseBlockList leaves the sums out if there is a pager.
func parseBlockList(r io.Reader, pager *pager) (*BlockList, error) {
	p := &blockListParser{
		r:     bufio.NewReaderSize(r, maxBlockListLine),
		list:  &BlockList{byName: make(map[string]*ImageBlocks)},
		pager: pager,
	}
	if err := p.parse(); err != nil {
		if p.readErr != nil {
			return nil, fmt.Errorf("read block list: %w", p.readErr)
		}
		if pager != nil && pager.err != nil {
			return nil, pager.err
		}
		return nil, fmt.Errorf("%w, line %d: %v", ErrBlockList, p.line, err)
	}
	return p.list, nil
}

type blockListParser struct {
	r       *bufio.Reader
	line    int
	size    int64  // bytes read so far
	raw     []byte // the last line, with its end; valid until the next is read
	readErr error  // of r, other than io.EOF
	list    *BlockList
	pager   *pager // nil: sums are kept
	members map[string]bool
	sums    int   // over all images
	blocks  int64 // over all images
}

var errListCut = errors.New("it ends too early")

// next returns the next line without its end; it is valid until the next call.
// Every line must be ended, else the list was cut.
func (p *blockListParser) next() ([]byte, error) {
	p.line++
	b, err := p.r.ReadSlice('\n')
	switch {
	case err == nil:
		if p.size += int64(len(b)); p.size > maxBlockListSize {
			return nil, fmt.Errorf("more than %d bytes", maxBlockListSize)
		}
		p.raw = b
		return bytes.TrimSuffix(b[:len(b)-1], []byte("\r")), nil
	case errors.Is(err, io.EOF):
		return nil, errListCut
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("longer than %d bytes", maxBlockListLine)
	default:
		p.readErr = err
		return nil, err
	}
}

func (p *blockListParser) parse() error {
	b, err := p.next()
	if err != nil {
		return err
	}
	if s := string(b); s != blockListMagic {
		if version, ok := strings.CutPrefix(s, "vmcast-blocks "); ok {
			return fmt.Errorf("version %.20q is not supported", version)
		}
		return fmt.Errorf("it does not begin with %q", blockListMagic)
	}
	p.members = make(map[string]bool)
	for {
		b, err := p.next()
		if err != nil {
			return err
		}
		key, value, _ := strings.Cut(string(b), " ")
		switch {
		case key == "end" && value == "":
			if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
				return errors.New("something follows its end")
			}
			return nil
		case key == "image":
			if err := p.image(value); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%.40q where an image or the end is expected", b)
		}
	}
}

// image reads what follows the line "image NAME": a head of keywords, which
// "blocks" ends, and as many blocks as that says.
func (p *blockListParser) image(name string) error {
	if len(p.list.images) == maxListImages {
		return fmt.Errorf("more than %d images", maxListImages)
	}
	m := &ImageBlocks{Name: name, Size: -1}
	for {
		b, err := p.next()
		if err != nil {
			return err
		}
		key, value, _ := strings.Cut(string(b), " ")
		switch key {
		case "size":
			if m.Size, err = parseCount(value); err != nil {
				return err
			}
		case "block":
			n, err := parseCount(value)
			if err != nil || n > sums.MaxBlockSize {
				return fmt.Errorf("bad block size %.40q", value)
			}
			m.BlockSize = int(n)
		case "member":
			m.Member = value
		case "blocks":
			n, err := parseCount(value)
			if err != nil {
				return err
			}
			return p.table(m, n)
		case "image", "end", "":
			return fmt.Errorf("%.40q within the head of an image", b)
		} // other keywords are for later versions and harmless to this one
	}
}

// table reads n blocks.
func (p *blockListParser) table(m *ImageBlocks, n int64) error {
	if err := checkImage(m.Name, m.Member, m.Size, m.BlockSize); err != nil {
		return err
	}
	if p.list.byName[m.Name] != nil || p.members[m.Member] {
		return fmt.Errorf("%q is listed twice", m.Name)
	}
	if n != m.Blocks() {
		return fmt.Errorf("%d blocks of %q instead of %d", n, m.Name, m.Blocks())
	}
	if p.blocks += n; p.blocks > MaxListBlocks {
		return fmt.Errorf("more than %d blocks", MaxListBlocks)
	}
	if p.pager == nil {
		m.table = sums.NewTable(m.Size, m.BlockSize)
	} else {
		m.outline = sums.NewOutline(m.Size, m.BlockSize)
	}
	for m.Outline().Len() < n {
		b, err := p.next()
		if err != nil {
			return err
		}
		before := m.Stored
		rest, zero := bytes.CutPrefix(b, []byte("zero "))
		if zero {
			err = p.zeros(m, n, string(rest))
		} else {
			err = p.sum(m, b)
		}
		if err == nil && p.pager != nil {
			err = p.pager.line(m, p.size-int64(len(p.raw)), before, p.raw, zero)
		}
		if err != nil {
			return err
		}
	}
	if p.pager != nil {
		if err := p.pager.end(m); err != nil {
			return err
		}
	}
	p.list.images = append(p.list.images, m)
	p.list.byName[m.Name] = m
	if m.Member != "" {
		p.members[m.Member] = true
	}
	return nil
}

// zeros reads the rest of "zero COUNT [LENGTH]".
func (p *blockListParser) zeros(m *ImageBlocks, n int64, s string) error {
	first, second, two := strings.Cut(s, " ")
	count, err := parseCount(first)
	if err != nil {
		return err
	}
	if count < 1 || count > n-m.Outline().Len() {
		return fmt.Errorf("%d zero blocks where at most %d are left", count, n-m.Outline().Len())
	}
	var stored int64
	if two {
		if stored, err = parseCount(second); err != nil {
			return err
		}
	}
	if err := m.checkStored(stored, count); err != nil {
		return err
	}
	for range count {
		m.append([32]byte{}, true, stored)
	}
	return nil
}

// sum reads "HEX [LENGTH]".
func (p *blockListParser) sum(m *ImageBlocks, b []byte) error {
	if p.sums++; p.sums > MaxListSums {
		return fmt.Errorf("more than %d sums", MaxListSums)
	}
	digest, length, two := bytes.Cut(b, []byte(" "))
	var sum [32]byte
	if len(digest) != 64 {
		return fmt.Errorf("%.80q is no block", b)
	}
	if _, err := hex.Decode(sum[:], digest); err != nil {
		return fmt.Errorf("%.80q is no block", b)
	}
	var stored int64
	if two {
		var err error
		if stored, err = parseCount(string(length)); err != nil {
			return err
		}
	}
	if err := m.checkStored(stored, 1); err != nil {
		return err
	}
	m.append(sum, false, stored)
	return nil
}

// parseCount reads a decimal number as the list writes it: digits alone.
func parseCount(s string) (int64, error) {
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%.40q is no number", s)
	}
	return strconv.ParseInt(s, 10, 64)
}
