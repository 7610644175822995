package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// chunks makes a disk of an XVA archive. The block size of its file in the cache
// is that of the chunks. So each block has a checksum in the archive, which is
// compared before anybody sees the block.
type chunks struct{ order }

func newChunks(o order) (recipe, bool) { return chunks{o}, o.member.Chunks != nil }

func (c chunks) open() (cache.Spec, error) {
	if err := c.set.Content.Acquire(); err != nil {
		return cache.Spec{}, err
	}
	spec := cache.Spec{BlockSize: xvm.XVAChunk, Size: c.member.Size, Source: c.from(c.member), Data: c.member.Data}
	if c.listed == nil { // else a sidecar has its blocks
		spec.Judge = c.judge
	}
	return spec, nil
}

func (c chunks) close() { c.set.Content.Release() }

func (c chunks) checksBlocks() bool { return c.listed == nil }

// judge: every chunk was compared when it was fetched.
func (c chunks) judge(context.Context, []bool) (store.FileState, string) {
	if !c.set.Pinned() { // each version has sums that match
		return store.Unverified, noValidator + ": chunks may be of several versions of the archive"
	}
	algos := make(map[string]bool)
	for _, p := range c.member.Chunks.Chunks {
		algos[p.Algo] = true
	}
	switch {
	case algos[""]:
		return store.Unverified, "chunks of the archive have no checksum"
	case algos["xxhash"]:
		return store.Verified, "every chunk has its xxHash in the archive, which excludes accidents only"
	}
	return store.Verified, "every chunk has its SHA-1 in the archive"
}

// chunkMember completes a member that is a disk of an XVA archive.
func chunkMember(set *Set, m Member) Member {
	m.Source = chunkSource{set.Content, set.label(m.Name), m.Chunks.Chunks}
	m.Proven = chunkSource{set.Content.Proven(), set.label(m.Name), m.Chunks.Chunks}
	m.Data = []cache.Extent{}
	for _, c := range m.Chunks.Chunks {
		m.Data = append(m.Data, cache.Extent{Off: c.Chunk * xvm.XVAChunk, Len: c.Len})
	}
	return m
}

// chunkSource supplies a disk of an XVA archive: what is not stored is zeros.
type chunkSource struct {
	archive source.Source
	label   string
	pieces  []xvm.XVAPiece // ascending in the disk; each followed by its checksum in the archive
}

// ChunkError says that a chunk of an XVA archive does not have its checksum,
// twice in a row.
type ChunkError struct {
	File            string
	Chunk           int64
	Algo, Got, Want string
}

func (e *ChunkError) Error() string {
	return fmt.Sprintf("%s: chunk %08d has %s %s, its checksum file says %s", e.File, e.Chunk, e.Algo, e.Got, e.Want)
}

func (s chunkSource) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	i := sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].Chunk*xvm.XVAChunk+s.pieces[i].Len > off })
	return &chunkReader{ctx: ctx, s: s, urgency: u, next: i, pos: off, end: off + n}, nil
}

// chunkReader reads a run of the disk: chunks that follow each other in the
// archive come as one range.
type chunkReader struct {
	ctx      context.Context
	s        chunkSource
	urgency  source.Urgency
	next     int   // piece
	pos, end int64 // of the disk

	body  io.ReadCloser // of the archive, or nil
	at    int64         // its place
	until int64         // its end
	buf   []byte        // of the piece before next: checked
	from  int64         // where it begins in the disk
}

// gap is what may lie between a chunk, its checksum and the next chunk: tar
// headers and padding, perhaps extended ones.
const gap = 8 << 10

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.pos >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.pos)]
	if r.buf == nil || r.pos >= r.from+int64(len(r.buf)) {
		if r.next == len(r.s.pieces) || r.pos < r.s.pieces[r.next].Chunk*xvm.XVAChunk {
			if r.next < len(r.s.pieces) {
				p = p[:min(int64(len(p)), r.s.pieces[r.next].Chunk*xvm.XVAChunk-r.pos)]
			}
			clear(p)
			r.pos += int64(len(p))
			return len(p), nil
		}
		if err := r.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.pos-r.from:])
	r.pos += int64(n)
	return n, nil
}

// load reads and checks the next piece, if need be twice.
func (r *chunkReader) load() error {
	piece := r.s.pieces[r.next]
	if r.buf == nil {
		r.buf = make([]byte, 0, xvm.XVAChunk)
	}
	r.buf = r.buf[:piece.Len]
	err := r.fill(piece)
	if bad := (*ChunkError)(nil); errors.As(err, &bad) {
		r.closeBody()
		err = r.fill(piece)
	}
	if err != nil {
		r.buf = nil
		return err
	}
	r.from = piece.Chunk * xvm.XVAChunk
	r.next++
	return nil
}

func (r *chunkReader) fill(piece xvm.XVAPiece) error {
	if err := r.seek(piece.Offset); err != nil {
		return err
	}
	if err := r.full(r.buf); err != nil {
		return err
	}
	if piece.SumLen == 0 {
		return nil
	}
	if err := r.seek(piece.SumOffset); err != nil {
		return err
	}
	text := make([]byte, min(piece.SumLen, xvm.MaxXVASum))
	if err := r.full(text); err != nil {
		return err
	}
	got, want := piece.Digest(r.buf), xvm.XVASum(text)
	if got != want {
		return &ChunkError{r.s.label, piece.Chunk, piece.Algo, got, fmt.Sprintf("%q", want)}
	}
	return nil
}

// seek brings the body to an offset of the archive, with a new range if it is
// not close by.
func (r *chunkReader) seek(off int64) error {
	if r.body != nil && off >= r.at && off-r.at <= gap && off < r.until {
		n, err := io.CopyN(io.Discard, r.body, off-r.at)
		r.at += n
		return err
	}
	r.closeBody()
	until := r.runEnd(off)
	body, err := r.s.archive.Fetch(r.ctx, off, until-off, r.urgency)
	if err != nil {
		return err
	}
	r.body, r.at, r.until = body, off, until
	return nil
}

// runEnd is where the range that begins at off ends: behind the last piece
// wanted that is not far from the one before.
func (r *chunkReader) runEnd(off int64) int64 {
	end := off
	for _, p := range r.s.pieces[r.next:] {
		if p.Chunk*xvm.XVAChunk >= r.end && end > off || end > off && (p.Offset < end || p.Offset-end > gap) {
			break
		}
		end = max(end, p.Offset+p.Len)
		if p.SumLen > 0 && p.SumOffset >= end && p.SumOffset-end <= gap {
			end = p.SumOffset + min(p.SumLen, xvm.MaxXVASum)
		}
	}
	return end
}

func (r *chunkReader) full(p []byte) error {
	n, err := io.ReadFull(r.body, p)
	r.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *chunkReader) closeBody() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

func (r *chunkReader) Close() error {
	r.closeBody()
	return nil
}
