package xvm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// tarMaxExtended bounds the body of one extended header or long name, in bytes (Go and libarchive: 1 MiB too).
const tarMaxExtended = 1 << 20

// tarWalker walks one archive.
type tarWalker struct {
	win     tarWindow
	idx     *Index
	pending tarPending

	// What is left of the limits.
	members     int
	headerBytes int64
	regions     int
	size        int64

	paths  map[string]tarKind // what is at each path, parents included
	files  map[string]int     // index in idx.Members by name
	folded map[string]bool    // names in idx.Members, folded
	fold   cases.Caser
}

// tarPending is what headers before a member say of it.
type tarPending struct {
	at   int64   // offset of the first of them
	pax  *tarPax // of type x
	name *string // of type L
	link *string // of type K
}

func (p *tarPending) empty() bool { return p.pax == nil && p.name == nil && p.link == nil }

// tarEntry is a header with what the headers before it say.
type tarEntry struct {
	tarPending
	block  tarBlock
	at     int64 // of the header
	flag   byte
	name   string // as stored
	link   string
	body   int64 // offset of what follows the header
	stored int64 // bytes of it
}

// Walk reads the headers of a tar archive of size bytes, and nothing of the content between them that is more than
// a few KiB. Errors of r come back wrapped; all others are *TarError.
func Walk(ctx context.Context, r ReaderAt, size int64, lim Limits) (*Index, error) {
	w := &tarWalker{
		win:         tarWindow{r: r, size: size, requests: cmp.Or(lim.Requests, 32768)},
		idx:         &Index{Version: indexVersion, Size: size},
		members:     cmp.Or(lim.Members, 65536),
		headerBytes: cmp.Or(lim.HeaderBytes, 16<<20),
		regions:     cmp.Or(lim.Regions, 262144),
		size:        cmp.Or(lim.Size, 64<<40),
		paths:       map[string]tarKind{},
		files:       map[string]int{},
		folded:      map[string]bool{},
		fold:        cases.Fold(),
	}
	if err := w.probe(ctx); err != nil {
		return nil, err
	}
	for off, done := int64(0), false; !done; {
		var err error
		if off, done, err = w.step(ctx, off); err != nil {
			return nil, err
		}
	}
	w.idx.enter()
	return w.idx, nil
}

// step reads the header at off and returns where the next is. done says that the archive ends here.
func (w *tarWalker) step(ctx context.Context, off int64) (next int64, done bool, err error) {
	if w.win.size-off < tarBlockSize {
		reason := "archive has no end mark"
		if off != w.win.size {
			reason = fmt.Sprintf("archive ends within the block at offset %d", off)
		}
		w.truncate(reason)
		return 0, true, nil
	}
	block, err := w.win.at(ctx, off, tarBlockSize)
	if err != nil {
		return 0, false, err
	}
	b := tarBlock(block)
	if b.zero() {
		return 0, true, w.end(ctx, off)
	}
	if !b.sumOK() {
		// GNU tar and libarchive look for the next good header, and may find a second member of some name.
		return 0, false, &TarError{Kind: ErrTarRefused, Offset: off, Reason: "no valid header, or garbage between members"}
	}
	if w.members--; w.members < 0 {
		return 0, false, &TarError{Kind: ErrTarLimit, Offset: off, Reason: "it has too many members"}
	}
	e := &tarEntry{block: append(tarBlock(nil), b...), at: off, flag: b[156], body: off + tarBlockSize}
	switch e.flag {
	case 'L', 'K', 'x', 'g':
		return w.extended(ctx, e)
	}
	return w.entry(ctx, e)
}

// end checks the end mark at off: two zero blocks, or one as the last of the archive.
func (w *tarWalker) end(ctx context.Context, off int64) error {
	if !w.pending.empty() {
		w.truncate(fmt.Sprintf("extended header at offset %d has no member after it", w.pending.at))
		return nil
	}
	if w.win.size-off < 2*tarBlockSize {
		return nil
	}
	b, err := w.win.at(ctx, off+tarBlockSize, tarBlockSize)
	if err != nil {
		return err
	}
	if !tarBlock(b).zero() {
		w.truncate(fmt.Sprintf("lone zero block at offset %d; what follows is not shown", off))
	}
	return nil
}

func (w *tarWalker) truncate(reason string) {
	if w.idx.Truncated == "" {
		w.idx.Truncated = shownName(reason)
	}
}

// extended reads a header that says something of the next one.
func (w *tarWalker) extended(ctx context.Context, e *tarEntry) (next int64, done bool, err error) {
	n, err := tarNumber(e.block[124:136])
	if err != nil {
		return 0, false, w.refuse(e, "size: "+err.Error())
	}
	if n > tarMaxExtended {
		return 0, false, &TarError{Kind: ErrTarLimit, Offset: e.at, Reason: fmt.Sprintf("extended header of %d bytes", n)}
	}
	if n > w.win.size-e.body {
		w.truncate(fmt.Sprintf("archive ends within the extended header at offset %d", e.at))
		return 0, true, nil
	}
	if err := w.charge(e.at, n); err != nil {
		return 0, false, err
	}
	more := min(w.win.size-e.body-n, 1)
	body, err := w.win.at(ctx, e.body, n+more)
	if err != nil {
		return 0, false, err
	}
	if long := e.flag == 'L' || e.flag == 'K'; long && n%tarBlockSize != 0 && bytes.IndexByte(body, 0) < 0 {
		return 0, false, w.refuse(e, "long name without an end: GNU tar reads it to the end of the block, others to its length")
	}
	body = body[:n]
	p := &w.pending
	switch first := p.empty(); {
	case first:
		p.at = e.at
		fallthrough
	case e.flag == 'K' && p.pax == nil && p.link == nil, e.flag == 'L' && p.pax == nil && p.name == nil:
		err = p.add(e.flag, body, w.regions)
	default:
		return 0, false, w.refuse(e, "several extended headers before one member, which are read differently by different programs")
	}
	if err != nil {
		return 0, false, w.wrap(e, err)
	}
	return tarNext(e.body, n), false, nil
}

func (p *tarPending) add(flag byte, body []byte, maxRegions int) (err error) {
	if flag == 'g' {
		return tarCheckGlobal(body)
	}
	if flag == 'x' {
		p.pax, err = tarParsePax(body, maxRegions)
		return err
	}
	s := tarString(body)
	if s == "" {
		return errors.New("long name is empty")
	}
	if flag == 'L' {
		p.name = &s
	} else {
		p.link = &s
	}
	return nil
}

// charge takes n bytes of extended headers, names or maps from the limit.
func (w *tarWalker) charge(off, n int64) error {
	if w.headerBytes -= n; w.headerBytes < 0 {
		return &TarError{Kind: ErrTarLimit, Offset: off, Reason: "it has too many bytes of headers"}
	}
	return nil
}

// block returns the 512 bytes at off, a part of a sparse map.
func (w *tarWalker) block(ctx context.Context, off int64) ([]byte, error) {
	if w.win.size-off < tarBlockSize {
		return nil, errTarCut
	}
	if err := w.charge(off, tarBlockSize); err != nil {
		return nil, err
	}
	return w.win.at(ctx, off, tarBlockSize)
}

func (w *tarWalker) refuse(e *tarEntry, reason string) error {
	return &TarError{Kind: ErrTarRefused, Offset: e.at, Name: shownName(e.name), Reason: shownName(reason)}
}

// tarNext is the offset of the header after n bytes at body. n is less than 2^63-512-body.
func tarNext(body, n int64) int64 { return body + (n+tarBlockSize-1)&^(tarBlockSize-1) }

func (w *tarWalker) foldName(name string) string {
	return norm.NFC.String(w.fold.String(norm.NFD.String(name)))
}
