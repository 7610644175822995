package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/cache/store"
	"vmcastfs/cache/store/storetest"
	"vmcastfs/xvm"
)

const blk = 64 << 10

// TestBlocksFirstRead: of a package with a block list the size of an image is
// known at once, a read fetches the blocks around it only, and zeros cost
// nothing.
func TestBlocksFirstRead(t *testing.T) {
	t.Parallel()
	disk := diskImage(40*blk+1000, 1)
	for _, compress := range []bool{true, false} {
		s := newSite(t)
		s.release("one", "/one.xvm", packed(t, compress, nil, file{"root.img", disk}))
		h := s.open()
		f := h.file("one", "root.img")
		if f.Size() != int64(len(disk)) {
			t.Fatal("size", f.Size())
		}
		if got := h.names("one"); !strings.Contains(got, "root.img ") {
			t.Error("listed:", got)
		}
		if n := s.origin.Stats("/one.xvm").Requests; n > 2 {
			t.Errorf("%d requests to index the package", n)
		}
		h.settle("one") // looks at its first block
		fh := h.open("one", "root.img")
		s.origin.ResetStats()
		p := make([]byte, 4096)
		if _, err := fh.ReadAt(t.Context(), p, 3*blk+100); err != nil || !bytes.Equal(p, disk[3*blk+100:3*blk+100+4096]) {
			t.Error("zeros:", err)
		}
		if n := s.origin.Stats("/one.xvm").Requests; n != 0 {
			t.Errorf("reading zeros takes %d requests", n)
		}
		if _, err := fh.ReadAt(t.Context(), p, 17*blk+5); err != nil || !bytes.Equal(p, disk[17*blk+5:17*blk+5+4096]) {
			t.Error("data:", err)
		}
		if n := s.origin.Stats("/one.xvm").BytesSent; n == 0 || n > 9*blk {
			t.Errorf("a read of one block takes %d bytes", n)
		}
		st := f.Status()
		if st.State != "partial" || st.Verify != "block" {
			t.Errorf("%+v", st)
		}
		if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
			t.Error("the whole is wrong")
		}
		if err := h.complete("one", "root.img"); err != nil {
			t.Error(err)
		}
		if st := f.Status(); st.State != "verified" || st.Percent != 100 {
			t.Errorf("%+v", st)
		}
		if compress { // the stored file is what its sum says, and is plain to gunzip
			if got := h.read("one", "root.img.gz"); len(got) == 0 {
				t.Error("nothing stored")
			}
			if err := h.complete("one", "root.img.gz"); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBlocksFlipped: with any one byte of the package wrong, no wrong byte is
// served, and what does not work is one block.
func TestBlocksFlipped(t *testing.T) {
	t.Parallel()
	disk := diskImage(9*blk, 2)
	for _, compress := range []bool{true, false} {
		pkg := packed(t, compress, nil, file{"root.img", disk})
		h := newSite(t)
		h.release("one", "/one.xvm", pkg)
		index := h.open().pkg("one").Index()
		for _, m := range index.Members {
			if !strings.HasPrefix(m.Name, "root.img") {
				continue
			}
			for at := m.Offset; at < m.Offset+m.Stored; at += m.Stored/11 + 1 {
				checkFlipped(t, pkg, at, disk)
			}
			checkFlipped(t, pkg, m.Offset+m.Stored-1, disk)
		}
	}
}

func checkFlipped(t *testing.T, pkg []byte, at int64, disk []byte) {
	t.Helper()
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: at})
	h := s.open()
	defer h.close()
	fh := h.open("one", "root.img")
	bad := 0
	p := make([]byte, blk)
	for b := 0; b*blk < len(disk); b++ {
		n, err := fh.ReadAt(t.Context(), p, int64(b*blk))
		var wrong *cache.BlockError
		switch {
		case errors.As(err, &wrong):
			bad++
		case err != nil && err != io.EOF:
			t.Errorf("byte %d: block %d: %v", at, b, err)
		case !bytes.Equal(p[:n], disk[b*blk:min(len(disk), b*blk+blk)]):
			t.Errorf("byte %d: block %d is served wrong", at, b)
		}
	}
	if bad > 1 {
		t.Errorf("byte %d: %d blocks are lost", at, bad)
	}
	// Some bytes of a gzip header mean nothing, and zeros are not fetched.
	st := h.file("one", "root.img").Status()
	if st.State == "corrupt" || bad == 1 && !strings.Contains(st.LastError, "block") {
		t.Errorf("byte %d: %+v", at, st)
	}
	if err := h.complete("one", "root.img"); bad == 1 && err == nil || bad == 0 && err != nil {
		t.Errorf("byte %d: %d bad blocks, and the whole: %v", at, bad, err)
	}
}

// TestBlockListWrong: a list that does not match the manifest is not used, and
// neither are the images without it.
func TestBlockListWrong(t *testing.T) {
	t.Parallel()
	disk := diskImage(4*blk, 3)
	pkg := packed(t, true, nil, file{"root.img", disk})
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	var list xvm.Member
	for _, m := range s.open().pkg("one").Index().Members {
		if m.Name == xvm.BlockListName {
			list = m
		}
	}
	for name, change := range map[string]func(p []byte){
		"a sum": func(p []byte) {
			i := bytes.Index(p, []byte("\nblocks 4\n")) + 12
			p[i] = "0123456789abcdef"[(bytes.IndexByte([]byte("0123456789abcdef"), p[i])+1)%16]
		},
		"its form": func(p []byte) { p[0] = 'x' },
	} {
		bad := bytes.Clone(pkg)
		change(bad[list.Offset : list.Offset+list.Stored])
		s := newSite(t)
		s.release("one", "/one.xvm", bad)
		h := s.open()
		p := h.pkg("one")
		for _, f := range p.All() {
			if !f.Status().Image {
				continue
			}
			_, err := f.Open(t.Context())
			if !errors.Is(err, cache.ErrCorrupt) || !strings.Contains(err.Error(), "expected") {
				t.Errorf("%s, %s: %v", name, f.Name(), err)
			}
		}
		if got := h.read("one", "xvm.xml"); len(got) == 0 {
			t.Error("xvm.xml")
		}
	}
}

// TestBlockListUnlisted: a list that no manifest vouches for counts for nothing.
func TestBlockListUnlisted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := file{"root.img", diskImage(3*blk, 4)}
	var b bytes.Buffer
	w := xvm.NewBlockListWriter(&b)
	_ = w.Begin("root.img", "", int64(len(disk.content)), blk)
	for range 3 {
		_ = w.Block([32]byte{1}, 0)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s.release("one", "/one.xvm", tarOf(t, manifestOf(disk), file{xvm.BlockListName, b.Bytes()}, disk))
	h := s.open()
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk.content) {
		t.Error("wrong content")
	}
	if w := strings.Join(h.warnings("one"), "\n"); !strings.Contains(w, "blocks.txt is not used") {
		t.Error("warnings:", w)
	}
}

// TestBlockListContradicts: a list that speaks of other sizes than the archive
// has, though signed for, opens nothing.
func TestBlockListContradicts(t *testing.T) {
	t.Parallel()
	disk := diskImage(3*blk, 4)
	stored := gz(t, disk)
	list := func(name, member string, size, stored int64) []byte {
		var b bytes.Buffer
		w := xvm.NewBlockListWriter(&b)
		if err := w.Begin(name, member, size, blk); err != nil {
			t.Fatal(err)
		}
		n := (size + blk - 1) / blk
		for i := range n {
			length := int64(0)
			if member != "" {
				length = stored/n + (stored%n)*((i+1)/n)
			}
			if err := w.Block([32]byte{1}, length); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		list  []byte
		image file
	}{
		"size of a stored image": {list("root.img", "", 4*blk, 0), file{"root.img", disk}},
		"length of a member":     {list("root.img", "root.img.gz", 3*blk, int64(len(stored))-1), file{"root.img.gz", stored}},
		"another member":         {list("root.img", "other.gz", 3*blk, int64(len(stored))), file{"root.img.gz", stored}},
	} {
		s := newSite(t)
		l := file{xvm.BlockListName, c.list}
		s.release("one", "/one.xvm", tarOf(t, manifestOf(l, c.image), l, c.image))
		f := s.open().listed("one", "root.img")
		if _, err := f.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "blocks.txt") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUpgrade: of a release that differs from a cached one in 2 % of its blocks,
// about 2 % cross the network.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	const blocks = 200
	first := make([]byte, blocks*blk)
	for b := range blocks {
		copy(first[b*blk:], diskImage(blk, uint64(b)))
	}
	second := bytes.Clone(first)
	changed := 0
	for b := 7; b < blocks; b += 50 {
		binary.LittleEndian.PutUint64(second[b*blk+99:], uint64(b))
		changed++
	}
	s := newSite(t)
	s.release("one", "/one.xvm", packed(t, true, nil, file{"root.img", first}))
	h := s.open()
	if err := h.complete("one", "root.img"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sums are kept", func() bool { return h.cfg.Store.HasDoc("sums", h.key("one", "root.img")) })
	h.close()

	s.release("two", "/two.xvm", packed(t, true, nil, file{"root.img", second}))
	h = s.open()
	h.settle("two") // copies its first block
	s.origin.ResetStats()
	if err := h.complete("two", "root.img"); err != nil {
		t.Fatal(err)
	}
	if got := h.read("two", "root.img"); !bytes.Equal(got, second) {
		t.Fatal("wrong content")
	}
	st := s.origin.Stats("/two.xvm")
	if st.Requests != int64(changed) || st.BytesSent > int64(changed)*(blk+1000) {
		t.Errorf("%d requests, %d bytes for %d changed blocks", st.Requests, st.BytesSent, changed)
	}
	t.Logf("%d of %d blocks changed; fetched %d bytes of %d: %.2f %%", changed, blocks, st.BytesSent, len(second), 100*float64(st.BytesSent)/float64(len(second)))
	if n := s.origin.Stats("/one.xvm").Requests; n != 0 {
		t.Errorf("%d requests for the old release", n)
	}
	if n := h.Status().Reads.CopiedBytes; n != int64(blocks-changed)*blk {
		t.Errorf("%d bytes copied", n)
	}
}

// TestStoredOnce: a stored file that has been read is not fetched again for its
// plain content.
func TestStoredOnce(t *testing.T) {
	t.Parallel()
	disk := diskImage(12*blk, 5)
	s := newSite(t)
	s.release("one", "/one.xvm", packed(t, true, nil, file{"root.img", disk}))
	h := s.open()
	h.settle("one")
	h.read("one", "root.img.gz")
	s.origin.ResetStats()
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
		t.Error("wrong content")
	}
	if n := s.origin.Stats("/one.xvm").Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestSumsLearned: an image that was verified as a whole is checked block by
// block from then on: when blocks are lost and the server has others.
func TestSumsLearned(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(20*blk, 6)}
	packedDisk := file{"data.img.gz", gz(t, diskImage(8*blk, 7))}
	s := newSite(t)
	pkg := tarOf(t, manifestOf(disk, packedDisk), disk, packedDisk)
	s.release("one", "/one.xvm", pkg)
	h := s.open()
	images := map[string][]byte{"root.img": disk.content, "data.img": diskImage(8*blk, 7)}
	for name := range images {
		if err := h.complete("one", name); err != nil {
			t.Fatal(err)
		}
		key := h.key("one", name)
		eventually(t, "sums are kept", func() bool { return h.cfg.Store.HasDoc("sums", key) })
	}
	f := h.file("one", "root.img")
	if st := f.Status(); st.State != "verified" {
		t.Fatalf("%+v", st)
	}
	// A block is evicted behind our back: the state says so at once.
	storetest.Lose(t, h.cfg.Store, store.Key(h.key("one", "root.img")), 4)
	if st := f.Status(); st.State != "partial" || st.Percent == 100 {
		t.Errorf("after an eviction: %+v", st)
	}
	var at int64
	for _, m := range h.pkg("one").Index().Members {
		if m.Name == "root.img" {
			at = m.Offset + 4*blk + 77
		}
	}
	remove := s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: at})
	fh := h.open("one", "root.img")
	p := make([]byte, 100)
	var wrong *cache.BlockError
	if _, err := fh.ReadAt(t.Context(), p, 4*blk); !errors.As(err, &wrong) {
		t.Error("a wrong block after an eviction:", err)
	}
	if st := f.Status(); st.State != "partial" || st.Verify != "kept" {
		t.Errorf("with a wrong block: %+v", st)
	}
	remove()
	if _, err := fh.ReadAt(t.Context(), p, 4*blk); err != nil || !bytes.Equal(p, disk.content[4*blk:4*blk+100]) {
		t.Error("the right block:", err)
	}
	eventually(t, "all here, all checked: verified again", func() bool { return f.Status().State == "verified" })
}
