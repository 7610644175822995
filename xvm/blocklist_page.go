package xvm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
)

// A page is the text of up to pageSums blocks with a sum, and at most pageText
// bytes of it. It begins and ends with one of them.
const (
	pageSums = 512
	pageText = 64 << 10
)

// listPage says where the text of a page is, and what it is.
type listPage struct {
	off    int64 // in the text of the list
	stored int64 // where its first block lies in Member
	first  uint32
	n      uint32 // bytes of text
	digest [16]byte
}

// listPageBytes is what a listPage takes in memory, with the growth of a slice.
const listPageBytes = 40 * 5 / 4

// OutlineBlockList reads a block list as [ParseBlockList] does, but keeps no sums: only
// which blocks have one, and where in the text. [ImageBlocks.Page] and
// [ImageBlocks.ParsePage] give them from there. Room is asked before more memory is
// taken; its error ends the reading.
func OutlineBlockList(r io.Reader, room func(bytes int64) error) (*BlockList, error) {
	return parseBlockList(r, &pager{room: room})
}

// pager makes the pages of one image after the other.
type pager struct {
	room   func(bytes int64) error
	err    error  // of room
	taken  int64  // of the present image
	text   []byte // of the page that has begun, and of what may follow in it
	behind int    // of text: behind the last sum
	sums   int    // in the page
	full   bool   // no further sum fits into it
	page   listPage
}

// line takes the next line of blocks of m, which begins at off; stored is where its
// first block lies.
func (p *pager) line(m *ImageBlocks, off, stored int64, raw []byte, zero bool) error {
	switch fits := len(p.text)+len(raw) <= pageText; {
	case zero && (p.sums == 0 || p.full):
	case zero && fits:
		p.text = append(p.text, raw...)
	case zero:
		p.full = true
	default:
		if p.sums == pageSums || p.full || !fits {
			p.finish(m)
		}
		if p.sums == 0 {
			p.page = listPage{off: off, stored: stored, first: uint32(m.outline.Sums() - 1)}
		}
		p.text = append(p.text, raw...)
		p.behind = len(p.text)
		p.sums++
	}
	return p.take(m, 4<<10)
}

// end ends the image.
func (p *pager) end(m *ImageBlocks) error {
	p.finish(m)
	m.pages = slices.Clip(m.pages)
	err := p.take(m, 1)
	p.taken = 0
	return err
}

func (p *pager) finish(m *ImageBlocks) {
	if p.sums == 0 {
		return
	}
	digest := sha256.Sum256(p.text[:p.behind])
	p.page.n, p.page.digest = uint32(p.behind), [16]byte(digest[:])
	m.pages = append(m.pages, p.page)
	p.text, p.behind, p.sums, p.full = p.text[:0], 0, 0, false
}

// take asks for the memory that the image takes by now, at least so much at once.
func (p *pager) take(m *ImageBlocks, atOnce int64) error {
	n := int64(len(m.Name)+len(m.Member)) + 256 + m.outline.Bytes() + listPageBytes*int64(len(m.pages))
	if n-p.taken < atOnce {
		return nil
	}
	p.err = p.room(n - p.taken)
	p.taken = n
	return p.err
}

// PageSpot says where in the text of the list a page is.
type PageSpot struct {
	Number int // of the image
	Off    int64
	Len    int
}

// Page says in which page the sum of block i is; ok is false if it has none.
func (b *ImageBlocks) Page(i int64) (spot PageSpot, ok bool) {
	j := b.outline.Index(i)
	if j < 0 {
		return PageSpot{}, false
	}
	k := sort.Search(len(b.pages), func(k int) bool { return int(b.pages[k].first) > j }) - 1
	return PageSpot{k, b.pages[k].off, int(b.pages[k].n)}, true
}

// ListPage has the sums of some blocks.
type ListPage struct {
	first  int
	sums   [][32]byte
	places []blockSpot
}

var errPage = errors.New("the block list is not what it was when it was checked")

// ParsePage reads the text of a page.
func (b *ImageBlocks) ParsePage(spot PageSpot, text []byte) (*ListPage, error) {
	at := b.pages[spot.Number]
	if digest := sha256.Sum256(text); !bytes.Equal(digest[:16], at.digest[:]) {
		return nil, fmt.Errorf("%w: %w", ErrBlockList, errPage)
	}
	p := &ListPage{first: int(at.first)}
	stored := at.stored
	for line := range strings.Lines(string(text)) { // each has been checked before
		line = strings.TrimRight(line, "\r\n")
		count, rest := int64(1), ""
		if zeros, ok := strings.CutPrefix(line, "zero "); ok {
			var n string
			n, rest, _ = strings.Cut(zeros, " ")
			count, _ = parseCount(n)
		} else {
			var digest string
			var sum [32]byte
			digest, rest, _ = strings.Cut(line, " ")
			if _, err := hex.Decode(sum[:], []byte(digest)); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBlockList, errPage)
			}
			p.sums = append(p.sums, sum)
		}
		length, _ := parseCount(rest)
		if b.Member != "" && len(p.places) < len(p.sums) {
			p.places = append(p.places, blockSpot(stored<<24|length))
		}
		stored += count * length
	}
	p.sums, p.places = slices.Clip(p.sums), slices.Clip(p.places)
	return p, nil
}

// InPage is the sum of block i, and where its compressed form lies in Member. The
// page is the one that Page named.
func (b *ImageBlocks) InPage(p *ListPage, i int64) (sum [32]byte, off, n int64) {
	j := b.outline.Index(i) - p.first
	if b.Member != "" {
		off, n = int64(p.places[j]>>24), int64(p.places[j]&(maxStoredBlock-1))
	}
	return p.sums[j], off, n
}
