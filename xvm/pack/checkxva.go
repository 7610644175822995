package pack

import (
	"io"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// xvaCheck puts the disks of an XVA archive together while it goes by, and
// compares their chunks with the checksums that the archive has of them.
type xvaCheck struct {
	disks  []*xvaDisk
	chunks map[int64]xvaPlace // by the offset of the chunk in the archive
	sums   map[int64]xvaPlace // by that of its checksum
	buf    []byte
}

type xvaPlace struct {
	disk  *xvaDisk
	piece int
}

// xvaDisk is a disk as far as it has gone by.
type xvaDisk struct {
	xvm.XVADisk
	report    FileReport
	pos       int64
	got       map[int]string // checksums computed and not compared yet, by piece
	listed    *comparison    // nil: no list has it
	collected *sums.Hasher   // nil: nothing is collected
	wrong     int
}

// xvaDisks looks for disks in the archive.
func (c *checker) xvaDisks() {
	if len(c.verdict.Disks) == 0 {
		return
	}
	c.xva = &xvaCheck{chunks: make(map[int64]xvaPlace), sums: make(map[int64]xvaPlace), buf: make([]byte, xvm.XVAChunk)}
	for _, found := range c.verdict.Disks {
		d := &xvaDisk{XVADisk: found, got: make(map[int]string)}
		d.report = FileReport{Name: d.Name, Size: d.Size, State: Unverified, Proofs: []string{}}
		for i, p := range d.Chunks {
			c.xva.chunks[p.Offset] = xvaPlace{d, i}
			if p.SumLen > 0 {
				c.xva.sums[p.SumOffset] = xvaPlace{d, i}
			}
		}
		d.listed = c.blocksOf(d.Name, "")
		if c.collect != nil {
			d.collected = c.collect.image(d.Name, d.Size, xvm.XVAChunk)
		}
		c.xva.disks = append(c.xva.disks, d)
	}
}

// diskOf is the report of the disk that a chunk or checksum belongs to. Of two
// checksums the archive may have of a chunk one is not used, nor is what is of
// no disk; those go with the first.
func (x *xvaCheck) diskOf(m *xvm.Member) *FileReport {
	for _, places := range []map[int64]xvaPlace{x.chunks, x.sums} {
		if at, ok := places[m.Offset]; ok {
			return &at.disk.report
		}
	}
	return &x.disks[0].report
}

// xvaMember reads a chunk or a checksum, whose content goes to w as well.
func (c *checker) xvaMember(m *xvm.Member, in io.Reader, w io.Writer) error {
	x := c.xva
	n, err := io.ReadFull(in, x.buf[:min(m.Size, int64(len(x.buf)))])
	if err == io.EOF {
		err = nil // it is empty
	}
	if err != nil {
		return err
	}
	p := x.buf[:n]
	if _, err := w.Write(p); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, in, make([]byte, chunk)); err != nil { // of a checksum that is longer than any
		return err
	}
	if at, ok := x.chunks[m.Offset]; ok {
		return at.disk.chunk(at.piece, p)
	}
	if at, ok := x.sums[m.Offset]; ok {
		at.disk.compare(at.piece, xvm.XVASum(p))
	}
	return nil
}

// chunk takes the next chunk of the disk.
func (d *xvaDisk) chunk(i int, p []byte) error {
	if sum := d.Chunks[i].Digest(p); sum != "" {
		d.got[i] = sum
	}
	if err := d.zeros(d.Chunks[i].Chunk * xvm.XVAChunk); err != nil {
		return err
	}
	d.pos += int64(len(p))
	return d.write(func(b *sums.Hasher) error {
		_, err := b.Write(p)
		return err
	})
}

// zeros are what the disk has up to an offset.
func (d *xvaDisk) zeros(to int64) error {
	n := to - d.pos
	d.pos = to
	return d.write(func(b *sums.Hasher) error { return b.Zeros(n) })
}

func (d *xvaDisk) write(fn func(*sums.Hasher) error) error {
	if d.listed != nil {
		if err := fn(d.listed.hasher); err != nil {
			return err
		}
	}
	if d.collected != nil {
		return fn(d.collected)
	}
	return nil
}

func (d *xvaDisk) compare(i int, want string) {
	piece := d.Chunks[i]
	got := d.got[i]
	delete(d.got, i)
	if got == want {
		return
	}
	if d.wrong++; d.wrong <= faultsNamed {
		d.report.fault("chunk %s/%08d has %s %s, its checksum file says %q", d.Ref, piece.Chunk, piece.Algo, got, want)
	}
}

// finish says what came out.
func (x *xvaCheck) finish(r *Report) error {
	for _, d := range x.disks {
		if err := d.zeros(d.Size); err != nil {
			return err
		}
		if d.collected != nil {
			if err := d.collected.Finish(); err != nil {
				return err
			}
		}
		if more := d.wrong - faultsNamed; more > 0 {
			d.report.fault("and %d more chunks", more)
		}
		count := make(map[string]int)
		for _, p := range d.Chunks {
			count[p.Algo]++
		}
		switch n := len(d.Chunks); {
		case d.report.State == Corrupt:
		case count[""] > 0:
			r.warn("%s: %d of %d chunks have no checksum in the archive", d.Name, count[""], n)
		case count["xxhash"] > 0:
			d.report.proof("the xxHash of all %d chunks, in the archive, which excludes accidents only", n)
		default:
			d.report.proof("the SHA-1 of all %d chunks, in the archive", n)
		}
		if d.listed != nil {
			d.listed.judge(&d.report, d.Size)
		}
		r.Files = append(r.Files, d.report)
	}
	return nil
}
