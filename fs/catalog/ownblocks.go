package catalog

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// ownBlocks is set up when the package has a block list that counts.
func (p *Package) ownBlocks() *image.BlockSums {
	use, why := p.verdict.OwnBlockList()
	if why != "" {
		p.warnings = append(p.warnings, fmt.Sprintf("%s is not used: %s", xvm.BlockListName, why))
	}
	for _, m := range p.doc.Index.Members {
		if use && m.Name == xvm.BlockListName {
			return image.NewBlockSums(image.ListSpec{
				Label: p.release.Name() + "/" + m.Name, ID: ownList, Own: true, Load: p.readBlockList,
				Text: m.Size, Most: image.ListBytes(m.Size),
			}, p.cat.images.Lists, p.cat.background)
		}
	}
	return nil
}

// earlyBlocks reads a block list that has come with the archive's first bytes.
func (p *Package) earlyBlocks(ctx context.Context) {
	f := p.byName[xvm.BlockListName]
	if p.blocks == nil || f == nil {
		return
	}
	for _, m := range p.doc.Index.Members {
		if m.Name == f.name && m.Offset+m.Stored <= p.archive.Reach() && p.blocks.Hold(ctx) == nil {
			p.blocks.LetGo() // an error is told to who opens an image
		}
	}
}

// ownList is the blockSums.id of a package's own list: its identity is that of
// the package.
const ownList = "own"

// wholeSums are the digests of a whole member.
func wholeSums(m *xvm.Manifest, name string) []xvm.Sum {
	var out []xvm.Sum
	for _, s := range m.Sums(name) {
		if s.Prefix == 0 {
			out = append(out, s)
		}
	}
	return out
}

// readBlockList reads the package's own block list. Nothing of it is believed
// before the whole has matched the manifest.
func (p *Package) readBlockList(ctx context.Context) (*xvm.BlockList, map[string][]byte, error) {
	f := p.byName[xvm.BlockListName]
	file, err := f.image.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer f.image.Drop()
	in := &digestReader{r: io.NewSectionReader(archive.ReaderAt(ctx, file), 0, f.size)}
	sums := wholeSums(p.manifest, f.name)
	for _, s := range sums {
		h := s.NewHash()
		if h == nil {
			return nil, nil, fmt.Errorf("unknown digest %q", s.Algo)
		}
		in.hashes = append(in.hashes, h)
	}
	list, parseErr := xvm.ParseBlockList(bufio.NewReaderSize(in, 1<<20))
	if in.err != nil {
		return nil, nil, in.err // of the network, or it is known to be corrupt
	}
	if parseErr != nil { // the sums tell why, if they can
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, nil, err
		}
	}
	for i, h := range in.hashes {
		if got := hex.EncodeToString(h.Sum(nil)); got != sums[i].Hex {
			if err := file.Complete(ctx); err != nil { // which makes that official
				return nil, nil, err
			}
			return nil, nil, fmt.Errorf("%w: %s is %s, the manifest says %s", cache.ErrCorrupt, sums[i].Algo, got, sums[i].Hex)
		}
	}
	return list, nil, parseErr
}

// digestReader computes digests of what is read, and remembers why reading
// failed.
type digestReader struct {
	r      io.Reader
	hashes []hash.Hash
	err    error
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for _, h := range d.hashes {
		h.Write(p[:n])
	}
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}
