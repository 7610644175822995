package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostilePackage is an archive, and what a mount makes of it.
type hostilePackage struct {
	id       string
	archive  []byte
	rejected string // the release is: part of the reason
	shown    string // files that can be read, beside those of the mount's own
	hidden   string // parts of what the status says is hidden, joined by "|"
}

func hostilePackages(t testing.TB) []hostilePackage {
	base := func(size int64) func(h []byte) { // a size in base-256
		return func(h []byte) {
			h[124] = 0x80
			for i := range 8 {
				h[135-i] = byte(size >> (8 * i))
			}
		}
	}
	var tiny tarball
	for i := range 70_000 {
		tiny.entry(tar.TypeReg, fmt.Sprint("f", i), 0, "")
	}
	sparse := func(size string, regions ...string) []byte {
		var b tarball
		records := paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") +
			paxRecord("GNU.sparse.name", "disk.img") + paxRecord("GNU.sparse.realsize", size)
		b.entry('x', "x", int64(len(records)), records)
		m := fmt.Sprintln(len(regions)/2) + strings.Join(regions, "\n") + "\n"
		content := m + strings.Repeat("\x00", -len(m)&511) + strings.Repeat("d", 512)
		b.file("sparse", content)
		return b.end()
	}
	return []hostilePackage{
		{"T1", new(tarball).file("../../up", "1").file("//etc/x", "1").file("/abs", "2").file(`c:\x`, "1").file("a/../../b", "1").file("a,b", "1").file("-rf", "1").file("e\u009b2J", "1").file("b\u202ed", "1").file("ok.img", "1").end(),
			"", "abs ok.img", "up|etc/x|a,b|-rf"},
		{"T2", new(tarball).link('2', "shadow", "/etc/shadow").link('2', "loop", "loop").link('2', "dir", "/etc").file("dir/passwd", "1").file("ok.img", "1").end(), "", "ok.img", "shadow|loop|dir"},
		{"T3", new(tarball).file("a.img", "content").link('1', "b.img", "a.img").link('1', "self", "self").link('1', "later", "z").link('1', "absent", "x").file("z", "1").end(), "", "a.img b.img z", "self|later|absent"},
		{"T4", new(tarball).link('3', "chr", "").link('4', "blk", "").link('6', "fifo", "").entry('0', "suid.img", 1, "1", func(h []byte) { copy(h[100:], "0006777\x00") }).end(), "", "suid.img", "chr|blk|fifo"},
		{"T5", new(tarball).file("a.img", "1").file("./a.img", "2").end(), "twice", "", ""},
		{"T6", new(tarball).pax("size", "1024").entry('0', "outer.img", 0, new(tarball).file("smuggled", "").String()+strings.Repeat("x", 512)).file("ok.img", "1").end(), "", "ok.img outer.img", ""},
		{"T7", new(tarball).pax("path", "x").entry('L', "././@LongLink", 4, "long").file("a", "1").end(), "several extended headers", "", ""},
		{"T8 huge", new(tarball).entry('x', "x", 1<<32, "").end(), "", "", ""},
		{"T8 negative", new(tarball).entry('0', "a", 0, "", func(h []byte) { copy(h[124:], bytes.Repeat([]byte{0xff}, 12)) }).end(), "size", "", ""},
		{"T8 2^63", new(tarball).entry('0', "a", 0, "", base(1<<63-1)).end(), "", "", ""},
		{"T9", sparse("4096", "2048", "512", "0", "512"), "sparse", "", ""},
		{"T10 2^63", sparse("9223372036854775807", "0", "512", "9223372036854775807", "0"), "limit", "", ""},
		{"T10 8T", sparse("8796093022208", "0", "512", "8796093022208", "0"), "", "disk.img", ""},
		{"T10 64T", sparse("70368744177664", "0", "512", "70368744177664", "0"), "", "disk.img", ""},
		{"T11", new(tarball).file("ok.img", "1").entry('0', "cut.img", 1<<20, "x").Bytes(), "", "ok.img", "cut.img"},
		{"T12", new(tarball).file("a.img", "1").entry('0', "b.img", 0, "garbage").file("c.img", "1").end(), "garbage", "", ""},
		{"T12 behind", append(new(tarball).file("a.img", "1").end(), new(tarball).file("b.img", "1").end()...), "", "a.img", ""},
		{"T13", tiny.end(), "limit", "", ""},
		{"T14", new(tarball).pax("path", strings.Repeat("d/", 9000)+"x").file("x", "1").pax("path", strings.Repeat("n", 300)).file("y", "1").file("ok.img", "1").end(), "", "ok.img", "d/|nnn"},
		{"T15", new(tarball).file("a", "1").file("a/b", "1").end(), "also a file", "", ""},
		{"T16 html", []byte("<!DOCTYPE html><html><body>404</body></html>"), "web page", "", ""},
		{"T16 nothing", nil, "", "", ""},
		{"T17", new(tarball).entry('V', "label", 0, "").entry('M', "multi", 4, "part").entry('Q', "odd", 4, "odd!").file("ok.img", "1").end(), "", "ok.img", "multi|odd"},
		{"T18 twice", new(tarball).file("xvm.xml", "<xvm/>").file("xvm.xml", "<xvm></xvm>").end(), "twice", "", ""},
		{"T5 again", new(tarball).file("ok.img", "1").file("xvm.xml", "<xvm/>").file("xvm.xml", "<xvm/>").end(), "", "ok.img xvm.xml", ""},
		{"T18 sub", new(tarball).file("sub/xvm.xml", "<xvm><name>sub</name></xvm>").file("sub/manifest.txt", "x").file("ok.img", "1").end(), "", "ok.img sub/manifest.txt sub/xvm.xml", ""},
		{"T18 large", new(tarball).file("manifest.txt", strings.Repeat("#\n", 3<<20)).file("ok.img", "1").end(), "too large", "", ""},
		{"S2", new(tarball).file("manifest.txt", strings.Repeat("0", 40)+"  ../../etc/passwd\n").file("ok.img", "1").end(), "manifest", "", ""},
		{"S3", new(tarball).file("manifest.txt", strings.Repeat("0", 40)+"  ok.img\n"+strings.Repeat("1", 40)+"  ./ok.img\n").file("ok.img", "1").end(), "manifest", "", ""},
	}
}

// TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages has one release for
// each hostile archive and mounts them all at once.
func TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	packages := hostilePackages(t)
	var items []hostileItem
	for i, p := range packages {
		path := fmt.Sprintf("/p%d.xvm", i)
		w.origin.PutBytes(path, p.archive)
		items = append(items, hostileItem{title: fmt.Sprint("p", i), id: fmt.Sprint(i), enclosures: enclosure(path[1:])})
	}
	w.serve(hostileFeed(items...))
	log := w.logged("complete=off")
	began := w.now()
	shown := make([]string, len(packages))
	for i := range packages {
		root := w.path(fmt.Sprint("p", i))
		_ = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() && info.Name() != "notes.html" {
				rel, _ := filepath.Rel(root, path)
				shown[i] = strings.TrimSpace(shown[i] + " " + rel)
			}
			return nil
		})
	}
	if d := w.now() - began; d > time.Minute {
		t.Errorf("looking at all took %v", d)
	}
	files := w.wantTame()
	t.Logf("%d entries in the mount, %v", files, w.now()-began)
	for i, p := range packages {
		r := w.release(fmt.Sprint("p", i))
		for _, text := range append(append(r.Hidden, r.Warnings...), r.Error) {
			wantPlain(t, p.id+": status", text)
		}
		refused := p.rejected != "" || p.shown == ""
		if refused != (r.State == "rejected") || !strings.Contains(r.Error, p.rejected) {
			t.Errorf("%s: the release is %s: %q, want %q", p.id, r.State, r.Error, p.rejected)
		}
		if shown[i] != p.shown {
			t.Errorf("%s: shown are %q, want %q", p.id, shown[i], p.shown)
		}
		hidden := strings.Join(r.Hidden, "\n")
		for part := range strings.SplitSeq(p.hidden, "|") {
			if !strings.Contains(hidden, part) {
				t.Errorf("%s: hidden are %q, want %q among them", p.id, hidden, part)
			}
		}
	}
	wantPlain(t, "the log", log())

	at := func(id string) string {
		for i, p := range packages {
			if p.id == id {
				return fmt.Sprint("p", i)
			}
		}
		t.Fatal(id)
		return ""
	}
	// T10: an image of 8 TiB is read where there is data and where there is
	// none; df and cp see what is true. A larger one cannot be opened.
	if f, err := os.Open(w.path(at("T10 64T"), "disk.img")); !errors.Is(err, syscall.EIO) {
		t.Errorf("T10: opening 64 TiB gives %v, %v", f, err)
	}
	huge, err := os.Open(w.path(at("T10 8T"), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	p := make([]byte, 4096)
	for _, off := range []int64{0, 1 << 40, 1<<43 - 4096} {
		if _, err := huge.ReadAt(p, off); err != nil || (off == 0) != (p[0] == 'd') {
			t.Errorf("T10: at %d: %v, %q", off, err, p[0])
		}
	}
	if off, err := unix.Seek(int(huge.Fd()), 4096, unix.SEEK_DATA); err != syscall.ENXIO {
		t.Errorf("T10: data behind the only block: %d, %v", off, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(huge.Fd()), &st); err != nil || st.Size != 1<<43 || st.Blocks > 16 {
		t.Errorf("T10: size %d, %d blocks, %v", st.Size, st.Blocks, err)
	}
	var df unix.Statfs_t
	if err := unix.Statfs(w.dir, &df); err != nil || df.Blocks > 1<<46/uint64(df.Bsize)*2 {
		t.Errorf("T10: statfs %+v, %v", df, err)
	}
	// T11: what came before the cut is whole.
	w.wantFile([]byte("1"), at("T11"), "ok.img")
	// T6: the longer size counts for both, content and the next header.
	if info, err := os.Stat(w.path(at("T6"), "outer.img")); err != nil || info.Size() != 1024 {
		t.Errorf("T6: %v, %v", info, err)
	}
	// T3: a link is the file it leads to.
	w.wantFile([]byte("content"), at("T3"), "b.img")
	for _, pid := range w.daemons() {
		kib := residentKiB(t, pid)
		t.Logf("the daemon took %d MiB at most", kib>>10)
		if !raceEnabled && kib > 300<<10 {
			t.Errorf("the daemon took %d MiB", kib>>10)
		}
	}
}

// TestC1C2Bombs opens what inflates beyond measure, in all formats, and checks
// memory, time and disk.
func TestC1C2Bombs(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	zeros := bytes.Repeat([]byte{0}, 64<<20)
	once := gzipped(t, func(z *gzip.Writer) { _, _ = z.Write(zeros) })
	many := bytes.Repeat(once, 600) // 37 MiB that hold 37.5 GiB
	good := gzipped(t, func(z *gzip.Writer) { fmt.Fprint(z, "plain") })
	wrongCRC := bytes.Clone(good)
	wrongCRC[len(wrongCRC)-8] ^= 1
	wrongSize := bytes.Clone(good)
	wrongSize[len(wrongSize)-1] = 0x7f
	bzip2 := filter(t, zeros, "bzip2", "-9")
	nested := gzipped(t, func(z *gzip.Writer) { _, _ = z.Write(many[:1<<20]) })
	// A window of 2 GiB, as zstd --ultra --long=31 declares it, and an xz
	// dictionary of 1.5 GiB.
	window := filter(t, []byte("plain"), "zstd", "--long=31", "-c")
	window = append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8}, window[6:]...)
	dictionary := filter(t, []byte("plain"), "xz", "-c", "--lzma2=dict=1536MiB")
	w.publish("bombs", pack(t,
		member{"many.img.gz", many},
		member{"small.img.gz", bytes.Repeat(once, 16)},
		member{"nested.img.gz", nested},
		member{"bzip2.img.bz2", bytes.Repeat(bzip2, 2000)},
		member{"window.img.zst", window},
		member{"dict.img.xz", dictionary},
		member{"good.img.gz", good},
		member{"garbage.img.gz", append(bytes.Clone(good), "garbage"...)},
		member{"two.img.gz", append(bytes.Clone(good), good...)},
		member{"crc.img.gz", wrongCRC},
		member{"isize.img.gz", wrongSize},
	))
	w.mount("complete=off", "soft", "timeo=10s", "cache_size=64M")
	began := w.now()
	entries, err := os.ReadDir(w.path("bombs"))
	if d := w.now() - began; err != nil || d > time.Minute {
		t.Fatalf("listing took %v, %v", d, err)
	}
	t.Logf("%d files after %v", len(entries), w.now()-began)

	w.wantFile([]byte("plain"), "bombs", "good.img")
	w.wantFile([]byte("plain"), "bombs", "garbage.img")
	w.wantFile([]byte("plainplain"), "bombs", "two.img")
	for _, name := range []string{"crc.img", "isize.img", "window.img", "dict.img"} {
		if p, err := os.ReadFile(w.path("bombs", name)); err == nil {
			t.Errorf("%s: %d bytes and no error", name, len(p))
		}
	}
	// A reader of the bomb gets its zeros, where it asks for them.
	small, err := os.Open(w.path("bombs", "small.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	p := make([]byte, 1<<20)
	if _, err := small.ReadAt(p, 0); err != nil || !bytes.Equal(p, zeros[:1<<20]) {
		t.Errorf("small.img: %v", err)
	}
	for _, pid := range w.daemons() {
		kib := residentKiB(t, pid)
		t.Logf("the daemon took %d MiB at most", kib>>10)
		if !raceEnabled && kib > 400<<10 {
			t.Errorf("the daemon took %d MiB", kib>>10)
		}
	}
	var disk int64
	_ = filepath.Walk(w.cache, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				disk += st.Blocks * 512
			}
		}
		return nil
	})
	t.Logf("the cache takes %d MiB", disk>>20)
	if disk > 80<<20 {
		t.Errorf("the cache takes %d MiB of 64", disk>>20)
	}
}
