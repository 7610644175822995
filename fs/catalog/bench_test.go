package catalog

import (
	"io"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
)

// BenchmarkGzipBlocks reads an image that is compressed block by block, in
// ranges of a region, from memory: what inflating costs beside the network.
func BenchmarkGzipBlocks(b *testing.B) {
	disk := diskImage(256*blk, 1)
	s := newSite(b)
	s.release("one", "/one.xvm", packed(b, true, nil, file{"root.img", disk}))
	h := s.open()
	f := h.file("one", "root.img")
	h.read("one", "root.img.gz") // all of it is local
	if _, err := f.image.acquire(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer f.image.drop()
	ib, err := f.image.blockSums().image("root.img", "root.img.gz", f.image.base.f.size, f.Size())
	if err != nil {
		b.Fatal(err)
	}
	st, err := h.cfg.Store.File(f.image.base.f.key, f.image.base.f.size, cache.DefaultBlockSize)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	src := gzipBlocks{localFirst(f.image.base.source, st), ib, &h.pool}
	b.SetBytes(int64(len(disk)))
	b.ReportAllocs()
	for b.Loop() {
		for off := int64(0); off < ib.Size; off += 8 * blk {
			body, err := src.Fetch(b.Context(), off, min(8*blk, ib.Size-off), source.Demand)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				b.Fatal(err)
			}
			body.Close()
		}
	}
}
