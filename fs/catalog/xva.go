package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// addXVA shows the disks of an XVA archive as files. The block size of their
// cache files is that of the chunks, so that each block has a checksum in the
// archive, which is compared before anybody sees the block.
func (p *Package) addXVA(disks []xvm.XVADisk, identity []string) {
	for _, d := range disks {
		if p.byName[d.Name] != nil {
			p.warnings = append(p.warnings, fmt.Sprintf("%s of the archive is not shown: another file is called %s", d.Ref, d.Name))
			continue
		}
		f := &File{pkg: p, name: d.Name, size: d.Size}
		f.identify(identity, "xva", d.Ref)
		f.image = newXVAImage(f, d)
		p.byName[d.Name] = f
	}
}

func newXVAImage(f *File, d xvm.XVADisk) *image {
	im := &image{f: f, data: []cache.Extent{}}
	src := chunks{f.pkg.content, f.pkg.release.Name() + "/" + f.name, d.Chunks}
	for _, c := range d.Chunks {
		im.data = append(im.data, cache.Extent{Off: c.Chunk * xvm.XVAChunk, Len: c.Len})
	}
	im.source = src
	im.setUp = func() (cache.Spec, error) {
		ib, err := im.blockSums().image(d.Name, "", 0, d.Size) // of a sidecar
		if err != nil {
			return cache.Spec{}, err
		}
		if err := f.pkg.content.Acquire(); err != nil {
			return cache.Spec{}, err
		}
		spec := im.spec()
		spec.BlockSize, spec.Size, spec.Source, spec.Data = xvm.XVAChunk, d.Size, src, im.data
		if ib != nil {
			im.checkBlocks(&spec, ib)
		} else {
			spec.Judge = src.judge
			if f.pkg.unpinned() { // each version has sums that match
				spec.Judge = func(context.Context, []bool) (store.FileState, string) {
					return store.Unverified, noValidator + ": chunks may be of several versions of the archive"
				}
			}
		}
		return spec, nil
	}
	im.release = func() { f.pkg.content.Release() }
	return im
}

// chunks is a disk of an XVA archive: what is not stored is zeros.
type chunks struct {
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

func (s chunks) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	i := sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].Chunk*xvm.XVAChunk+s.pieces[i].Len > off })
	return &chunkReader{ctx: ctx, s: s, urgency: u, next: i, pos: off, end: off + n}, nil
}

// judge: every chunk was compared when it was fetched.
func (s chunks) judge(context.Context, []bool) (store.FileState, string) {
	algos := make(map[string]bool)
	for _, p := range s.pieces {
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

// chunkReader reads a run of the disk: chunks that follow each other in the
// archive come as one range.
type chunkReader struct {
	ctx      context.Context
	s        chunks
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
	text := make([]byte, min(piece.SumLen, 128))
	if err := r.full(text); err != nil {
		return err
	}
	got, want := piece.Digest(r.buf), strings.ToLower(strings.TrimSpace(string(text)))
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
			end = p.SumOffset + min(p.SumLen, 128)
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
