package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// stream is the archive being read forward; what is read goes to tee as well.
type stream struct {
	r   io.Reader
	tee *sums.Digest
	pos int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.pos += int64(n)
	if s.tee != nil {
		s.tee.Write(p[:n])
	}
	return n, err
}

// skip reads up to an offset.
func (s *stream) skip(to int64) error {
	if to <= s.pos {
		return nil
	}
	_, err := io.CopyN(io.Discard, s, to-s.pos)
	return err
}

// member checks one member, and what is inflated from it.
func (c *checker) member(ctx context.Context, s *stream, m *xvm.Member) error {
	if err := s.skip(m.Offset); err != nil {
		return err
	}
	file := FileReport{Name: m.Name, Size: m.Size, State: Unverified, Proofs: []string{}}
	digests := c.wanted(m.Name)
	stored := fan{} // gets the file as stored
	for _, d := range digests {
		stored = append(stored, d)
	}
	var sha256 *sums.Digest
	var blocks *sums.Hasher
	if c.collect != nil || c.sidecar != nil {
		sha256 = sums.NewDigest(sums.Sum{Algo: sums.SHA256})
		stored = append(stored, sha256)
	}
	if c.xva != nil && c.verdict.IsChunk(m.Name) {
		return c.piece(s, m, stored, sha256)
	}
	if c.collect != nil && !m.IsMeta() {
		blocks = c.collect.image(m.Name, m.Size, 0)
		stored = append(stored, blocks)
	}
	listed := c.blocksOf(m.Name, "")
	if listed != nil {
		stored = append(stored, listed.hasher)
	}
	begin := &head{}
	stored = append(stored, begin)
	in := m.Reader(s, 0, m.Size)
	tee := io.TeeReader(in, stored)

	var plain *FileReport
	var err error
	if format, name := seekable.PlainName(m.Name); c.plain[name] == m {
		plain = &FileReport{Name: name, From: m.Name, Size: -1, State: Unverified, Proofs: []string{}}
		if image := c.list.Image(name); image != nil && image.Member == m.Name && image.Stored == m.Size {
			err = c.blockwise(tee, plain, image)
			c.look(name, begin.inflated())
		} else {
			err = c.inflate(ctx, tee, m, plain, format)
		}
	}
	if err == nil {
		_, err = io.CopyBuffer(onlyWriter{stored}, in, make([]byte, chunk)) // what no decoder has asked for
	}
	if err != nil {
		return err
	}
	c.look(m.Name, begin)
	if blocks != nil {
		if err := blocks.Finish(); err != nil {
			return err
		}
	}
	if c.collect != nil {
		if err := c.collect.file(m.Name, m.Size, sha256); err != nil {
			return err
		}
	}
	c.judge(&file, digests)
	c.judgeSidecar(&file, m.Name, sha256)
	if listed != nil {
		listed.judge(&file, m.Size)
	}
	c.report.Files = append(c.report.Files, file)
	if plain != nil {
		c.report.Files = append(c.report.Files, *plain)
	}
	return nil
}

// look warns of an image that mounts refuse for how it begins.
func (c *checker) look(name string, begin *head) {
	if text := begin.warning(name); text != "" {
		c.report.warn("%s", text)
	}
}

// piece checks a chunk of an XVA archive, or the checksum of one.
func (c *checker) piece(s *stream, m *xvm.Member, stored fan, sha256 *sums.Digest) error {
	if err := c.xvaMember(m, m.Reader(s, 0, m.Size), stored); err != nil {
		return err
	}
	if c.collect != nil {
		if err := c.collect.file(m.Name, m.Size, sha256); err != nil {
			return err
		}
	}
	disk := c.xva.diskOf(m)
	c.judgeSidecar(disk, m.Name, sha256)
	return nil
}

// onlyWriter keeps io.Copy from finding other methods.
type onlyWriter struct{ io.Writer }

// inflate decodes a member that is one stream, or several without a list.
func (c *checker) inflate(ctx context.Context, tee io.Reader, m *xvm.Member, plain *FileReport, format seekable.Format) error {
	src := &Forward{Stream: tee, Rest: memberAt{c.archive, m}, Size: m.Size}
	r, err := seekable.Open(format, src, m.Size, seekable.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	var outs fan
	var digests sums.Digests
	var said xvm.Plain
	if c.manifest != nil {
		said, _ = c.manifest.Plain(plain.Name)
	}
	for _, sum := range said.Any {
		if d := sums.NewDigest(sum); d != nil {
			digests = append(digests, d)
			outs = append(outs, d)
		}
	}
	listed := c.blocksOf(plain.Name, "")
	if listed != nil {
		outs = append(outs, listed.hasher)
	}
	begin := &head{}
	outs = append(outs, begin)
	var collected *sums.Hasher
	if c.collect != nil {
		collected = c.collect.image(plain.Name, -1, 0)
		outs = append(outs, collected)
	}
	size, err := decode(ctx, r, onlyWriter{outs})
	if err := src.Failed(); err != nil {
		return err // of reading, not of the content
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, seekable.ErrUnsupported) || errors.Is(err, seekable.ErrLimit) {
			if e, ok := errors.AsType[*seekable.Error](err); ok && e.Plain > 0 { // its beginning can be read
				plain.fault("%s cannot be decompressed here: not supported: %v", plain.From, err)
			} else {
				plain.Refused = fmt.Sprintf("not supported: %v", err)
			}
			return nil
		}
		plain.fault("%s cannot be decompressed: %v", plain.From, err)
		return nil
	}
	plain.Size = size
	c.look(plain.Name, begin)
	if collected != nil {
		if err := collected.Finish(); err != nil {
			return err
		}
		c.collect.images[len(c.collect.images)-1].table.End(size)
		if points, _ := r.Points(); len(points) > 0 {
			c.collect.points[plain.From] = points
		}
		if n := stretch(r, size); n > longStretch {
			c.report.warn("%s can only be decoded in order over %s: the first read behind waits for that, with the sidecar too", plain.From, humanize.IBytes(uint64(n)))
		}
	}
	if listed != nil {
		listed.judge(plain, size)
	}
	judgePlain(plain, said, digests)
	return nil
}

// longStretch is what takes a second or more to decode.
const longStretch = 64 << 20

// stretch is the most that is to be decoded to read one byte of size, once all
// seek points are known.
func stretch(r *seekable.Reader, size int64) (most int64) {
	for end := size; end > 0; {
		start := r.Start(end - 1)
		most, end = max(most, end-start), start
	}
	return most
}

func decode(ctx context.Context, r *seekable.Reader, w io.Writer) (int64, error) {
	s, err := r.Stream(ctx, 0)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(w, s, make([]byte, chunk))
	return n, errors.Join(err, s.Close())
}

// judgePlain compares what an XVM2 manifest says of plain content.
func judgePlain(f *FileReport, said xvm.Plain, digests sums.Digests) {
	if len(digests) == 0 {
		return
	}
	if said.Size != f.Size {
		f.fault("it has %d bytes, the manifest says %d", f.Size, said.Size)
		return
	}
	for _, d := range digests {
		if d.Got() != d.Hex {
			continue
		}
		if d.Prefix > 0 && d.Prefix < f.Size {
			f.Proofs = append(f.Proofs, fmt.Sprintf("%s of its first %d bytes only, in the manifest", d.Algo, d.Prefix))
			return
		}
		f.proof("%s in the manifest", d.Algo)
		return
	}
	f.fault("its %s is %s, the manifest says %s", digests[0].Algo, digests[0].Got(), digests[0].Hex)
}

// image collects the blocks of an image; blockSize 0 is that which was asked for.
func (c *collector) image(name string, size int64, blockSize int) *sums.Hasher {
	table := sums.NewTable(size, cmp.Or(blockSize, c.blockSize))
	c.images = append(c.images, collectedImage{name, table})
	return tableHasher(table)
}
