package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
)

// fsImage begins like an ext4 file system, swapImage like a swap area.
func fsImage(size int, seed uint64) []byte {
	p := diskImage(size, seed)
	clear(p[:2048])
	p[1080], p[1081] = 0x53, 0xef
	p[1024+96] = 0x40
	return p
}

func swapImage(size int) []byte {
	p := make([]byte, size)
	copy(p[4086:], "SWAPSPACE2")
	return p
}

// mbrOf reads the entries of an MBR: number, type, first sector, sectors.
func mbrOf(p []byte) (entries [][4]int64) {
	for n := range 4 {
		e := p[446+16*n:]
		if e[4] != 0 {
			entries = append(entries, [4]int64{int64(n + 1), int64(e[4]), int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))})
		}
	}
	return entries
}

// Partition images appear as one disk, whose bytes are a table and theirs.
func TestJoined(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root, swap, data := fsImage(300_001, 1), swapImage(100_000), fsImage(2*mib, 2)
	files := []file{{"imagefile", root}, {"imagefile2", swap}, {"imagefile3.gz", gz(t, data)}}
	s.release("one", "/one.xvm", tarOf(t, append([]file{manifestOf(files...)}, files...)...))
	h := s.open()
	h.shows("one", "disk.img imagefile imagefile2 imagefile3 imagefile3.gz manifest.txt")
	f := h.file("one", "disk.img")
	if parts, _ := f.Attr("user.vmcast.parts"); string(parts) != "1 imagefile\n2 imagefile2\n3 imagefile3\n" {
		t.Errorf("parts are %q", parts)
	}
	if format, _ := f.Attr("user.vmcast.format"); string(format) != "raw" {
		t.Errorf("format is %q", format)
	}
	if digest, _ := f.Attr("user.vmcast.digest"); !strings.HasPrefix(string(digest), "parts:") || len(digest) != len("parts:")+64 {
		t.Errorf("digest is %q", digest)
	}
	if st := f.Status(); st.State != "partial" || st.Image || len(st.Parts) != 3 {
		t.Errorf("%+v", st)
	}
	want := make([]byte, 5*mib)
	for i, p := range [][]byte{root, swap, data} {
		copy(want[(i+1)*mib:], p)
	}
	got := h.read("one", "disk.img")
	if entries := mbrOf(got); !slices.Equal(entries, [][4]int64{{1, 0x83, 2048, 586}, {2, 0x82, 4096, 196}, {3, 0x83, 6144, 4096}}) {
		t.Errorf("the table is %v", entries)
	}
	copy(want, got[:512])
	if !bytes.Equal(got, want) {
		t.Error("the disk is not its table and parts")
	}
	for name, p := range map[string][]byte{"imagefile": root, "imagefile2": swap, "imagefile3": data} {
		if !bytes.Equal(h.read("one", name), p) {
			t.Errorf("%s differs", name)
		}
	}

	// Reads at any place, across parts and gaps.
	fh := h.open("one", "disk.img")
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		off := r.Int64N(int64(len(want)))
		p := make([]byte, r.IntN(200_000))
		n, err := fh.ReadAt(t.Context(), p, off)
		if k := min(len(p), len(want)-int(off)); n != k || n < len(p) == (err == nil) || !bytes.Equal(p[:n], want[off:off+int64(n)]) {
			t.Fatalf("%d bytes of %d at %d: %v", n, len(p), off, err)
		}
	}
	// What lies between them is known to be a hole.
	for _, c := range []struct{ off, data, hole int64 }{
		{0, 0, 512}, {512, mib, 512}, {mib + 300_001, 2 * mib, mib + 300_001}, {mib + 300_000, mib + 300_000, mib + 300_001},
		{2*mib + 90_000, 3 * mib, 2*mib + 90_000}, {4 * mib, 4 * mib, 4*mib + 3<<16},
	} {
		if at, err := fh.SeekData(c.off); at != c.data || err != nil {
			t.Errorf("data from %d is at %d, %v; want %d", c.off, at, err, c.data)
		}
		if at, err := fh.SeekHole(c.off); at != c.hole || err != nil {
			t.Errorf("hole from %d is at %d, %v; want %d", c.off, at, err, c.hole)
		}
	}
	if err := h.complete("one", "disk.img"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "verified", func() bool { return f.Status().State == "verified" })
	if st := f.Status(); st.Percent != 100 {
		t.Errorf("%+v", st)
	}

	// It is known without the server the next time, and the same.
	inode := f.Inode()
	h.close()
	s.origin.ResetStats()
	h = s.open()
	f = h.file("one", "disk.img")
	if f.Inode() != inode || f.Size() != int64(len(want)) || s.origin.Stats("/one.xvm").BytesSent > 1 { // whether it is still there
		t.Errorf("%d bytes, inode %d, %d bytes fetched", f.Size(), f.Inode(), s.origin.Stats("/one.xvm").BytesSent)
	}
	if !bytes.Equal(h.read("one", "disk.img"), want) {
		t.Error("the disk is another one")
	}
}

// Which images make a disk, under which numbers.
func TestJoinedOf(t *testing.T) {
	t.Parallel()
	ext, swap := fsImage(1<<16, 1), swapImage(1<<16)
	boot := bytes.Clone(ext)
	boot[510], boot[511] = 0x55, 0xaa
	whole := diskImage(1<<16, 1)
	clear(whole[446:510])
	copy(whole[446:], "\x80\xfe\xff\xff\x83\xfe\xff\xff\x00\x08\x00\x00\x00\x10\x00\x00")
	whole[510], whole[511] = 0x55, 0xaa
	xml := func(drives ...string) file {
		return file{"xvm.xml", []byte("<xvm><kernel>k</kernel>" + strings.Join(drives, "") + "</xvm>")}
	}
	drive := func(name, target string) string { return fmt.Sprintf("<disk file=%q target=%q/>", name, target) }
	many := func(n int) (files []file) {
		for i := range n {
			files = append(files, file{fmt.Sprintf("p%03d.img", i), ext})
		}
		return files
	}
	numbered := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d p%03d.img\n", i+1, i)
		}
		return b.String()
	}
	s := newSite(t)
	cases := map[string]struct {
		files []file
		parts string // "": there is no such disk
		gpt   bool
	}{
		"archive order":        {[]file{{"swap.img", swap}, {"root.img", ext}}, "1 swap.img\n2 root.img\n", false},
		"whole disk":           {[]file{{"imagefile", whole}}, "", false},
		"whole and partition":  {[]file{{"imagefile", whole}, {"imagefile2", ext}}, "2 imagefile2\n", false},
		"drafts order":         {[]file{{"images/imagefile10", ext}, {"images/imagefile2", ext}, {"images/imagefile", ext}}, "1 images/imagefile\n2 images/imagefile2\n10 images/imagefile10\n", true},
		"boots by itself":      {[]file{{"a.img", boot}}, "", false},
		"bootable partition":   {[]file{xml(drive("a.img", "sda1")), {"a.img", boot}}, "1 a.img\n", false},
		"other data":           {[]file{{"a.img", diskImage(1<<16, 9)}}, "", false},
		"told, other data":     {[]file{{"imagefile", diskImage(1<<16, 9)}}, "1 imagefile\n", false},
		"empty":                {[]file{{"imagefile", nil}, {"imagefile2", ext}}, "2 imagefile2\n", false},
		"described order":      {[]file{xml(drive("b", "xvda3"), drive("a", "xvda1")), {"a", ext}, {"b", swap}, {"c", ext}}, "1 a\n3 b\n", false},
		"described beyond":     {[]file{xml(drive("a", "sda1"), drive("b", "sda5")), {"a", ext}, {"b", swap}}, "1 a\n5 b\n", true},
		"two disks":            {[]file{xml(drive("a", "sda1"), drive("b", "sdb1")), {"a", ext}, {"b", swap}}, "1 a\n2 b\n", false},
		"described twice":      {[]file{xml(drive("a", "sda1"), drive("b", "sda1")), {"a", ext}, {"b", swap}}, "1 a\n2 b\n", false},
		"some without numbers": {[]file{xml(drive("a", ""), drive("b", "sda1")), {"a", ext}, {"b", swap}}, "1 b\n2 a\n", false},
		"huge number":          {[]file{xml(drive("a", "sda99999999999999999999")), {"a", ext}}, "1 a\n", false},
		"named, described":     {[]file{xml(drive("imagefile", "xvda2"), drive("imagefile2", "xvda1")), {"imagefile", ext}, {"imagefile2", swap}}, "1 imagefile2\n2 imagefile\n", false},
		"kernel":               {[]file{xml(), {"k", ext}, {"a.img", ext}}, "1 a.img\n", false},
		"qcow2":                {[]file{{"imagefile", append([]byte("QFI\xfb\x00\x00\x00\x02"), ext[8:]...)}}, "", false},
		"compressed":           {[]file{{"root.img.gz", gz(t, ext)}}, "1 root.img\n", false},
		"four":                 {many(4), numbered(4), false},
		"five":                 {many(5), numbered(5), true},
		"too many":             {many(129), "", false},
		"far too many":         {many(300), "", false},
		"refused":              {[]file{{"a.img", fsImage(4<<20, 1)}, {"manifest.txt", []byte(strings.Repeat("0", 40) + "  a.img\n")}}, "1 a.img\n", false},
	}
	for name, c := range cases {
		s.release(name, "/"+strings.ReplaceAll(name, " ", "-")+".xvm", tarOf(t, c.files...))
	}
	h := s.open()
	for name, c := range cases {
		dir := strings.NewReplacer(" ", "-", ",", "").Replace(name)
		for _, r := range h.Snapshot().Releases() {
			if r.Item().ID == name {
				dir = r.Name()
			}
		}
		f, err := h.pkg(dir).Lookup(t.Context(), "disk.img")
		if c.parts == "" {
			if !errors.Is(err, fs.ErrNotExist) || strings.Contains(h.names(dir), "disk.img") || slices.ContainsFunc(h.rel(dir).Status().Files, func(f image.Status) bool { return f.Name == "disk.img" }) {
				t.Errorf("%s: %v, %s", name, err, h.names(dir))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if parts, _ := f.Attr("user.vmcast.parts"); string(parts) != c.parts {
			t.Errorf("%s: %q", name, parts)
		}
		fh := h.open(dir, "disk.img")
		head := make([]byte, 1024)
		if _, err := fh.ReadAt(t.Context(), head, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if gpt := string(head[512:520]) == "EFI PART"; gpt != c.gpt || head[510] != 0x55 {
			t.Errorf("%s: GPT is %v", name, gpt)
		}
	}
}

// A member of that name is what is shown.
func TestJoinedNameTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	own := fsImage(1<<16, 3)
	s.release("one", "/one.xvm", tarOf(t, file{"disk.img", own}, file{"imagefile", own}))
	h := s.open()
	if !bytes.Equal(h.read("one", "disk.img"), own) {
		t.Error("the member is not shown")
	}
	if st := h.file("one", "disk.img").Status(); !st.Image || st.Parts != nil {
		t.Errorf("%+v", st)
	}
}

// A corrupt part takes the disk with it; of a package with a block list one bad
// block is one bad block of the disk.
func TestJoinedCorrupt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good, bad := fsImage(1<<18, 1), fsImage(1<<18, 2)
	s.release("whole", "/whole.xvm", tarOf(t, manifestOf(file{"imagefile", good}, file{"imagefile2", good}), file{"imagefile", good}, file{"imagefile2", bad}))
	blocks := packed(t, false, nil, file{"imagefile", good}, file{"imagefile2", fsImage(1<<18, 2)})
	blocks[bytes.LastIndex(blocks, bad[1<<17:1<<17+4096])+7] ^= 1
	s.release("blocks", "/blocks.xvm", blocks)
	h := s.open()

	h.complete("whole", "disk.img") //nolint:errcheck // told below
	f := h.file("whole", "disk.img")
	eventually(t, "corrupt", func() bool { return f.Status().State == "corrupt" })
	if st := f.Status(); !strings.HasPrefix(st.Note, "imagefile2 is corrupt: ") {
		t.Errorf("%+v", st)
	}
	if _, err := f.Open(t.Context()); !errors.Is(err, cache.ErrCorrupt) {
		t.Error(err)
	}

	fh := h.open("blocks", "disk.img")
	if v := h.file("blocks", "disk.img").Status().Verify; v != "block" {
		t.Errorf("its blocks are checked by %q", v)
	}
	p := make([]byte, 1<<16)
	for off := int64(0); off < 3*mib; off += 1 << 16 {
		_, err := fh.ReadAt(t.Context(), p, off)
		if inBad := off == 2*mib+1<<17; (err != nil) != inBad {
			t.Errorf("at %d: %v", off, err)
		}
	}
	if st := h.file("blocks", "disk.img").Status().State; st == store.Verified.String() {
		t.Errorf("it is %s", st)
	}
}

// Where a signature is required, the disk is as good as what vouches for its
// parts.
func TestJoinedUnsigned(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"imagefile", fsImage(1<<16, 1)}))
	h := s.open(func(c *Config) { c.RequireSigned = true })
	if _, err := h.pkg("one").Lookup(t.Context(), "disk.img"); !errors.Is(err, archive.ErrRefused) {
		t.Error(err)
	}
	if strings.Contains(h.names("one"), "disk.img") {
		t.Error("it is listed")
	}
}
