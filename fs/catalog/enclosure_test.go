package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/xvm"
)

// pipe is what a compressor makes of p.
func pipe(t testing.TB, p []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(p)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// compressors by the suffix they make.
func compressors(t testing.TB) map[string]func(p []byte) []byte {
	return map[string]func(p []byte) []byte{
		"gz":  func(p []byte) []byte { return gz(t, p) },
		"xz":  func(p []byte) []byte { return pipe(t, p, "xz", "-c", "-0") },
		"zst": func(p []byte) []byte { return pipe(t, p, "zstd", "-c", "-q", "-1") },
		"bz2": func(p []byte) []byte { return pipe(t, p, "bzip2", "-c", "-1") },
	}
}

// An archive compressed as a whole is one like any other, also on a server
// without ranges and in the next process, which need not read it again.
func TestCompressedArchive(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(7*blk+100, 1)}
	pkg := tarOf(t, file{"xvm.xml", []byte("<xvm/>")}, manifestOf(disk), disk, file{"swap.img.gz", gz(t, diskImage(2*blk, 2))})
	for suffix, compress := range compressors(t) {
		for _, ranged := range []bool{true, false} {
			s := newSite(t)
			s.release("one", "/one.tar."+suffix, compress(pkg))
			if !ranged {
				s.origin.Inject(origin.Fault{Path: "/one.tar." + suffix, Kind: origin.IgnoreRange})
			}
			h := s.open()
			if got := h.names("one"); got != "manifest.txt root.img swap.img swap.img.gz xvm.xml" {
				t.Errorf("%s: files are %s", suffix, got)
			}
			if got := h.read("one", "root.img"); !bytes.Equal(got, disk.content) {
				t.Errorf("%s: root.img differs", suffix)
			}
			if err := h.complete("one", "root.img"); err != nil {
				t.Errorf("%s: %v", suffix, err)
			}
			if st := h.file("one", "root.img").Status(); st.State != "verified" {
				t.Errorf("%s: %+v", suffix, st)
			}
			if st := h.rel("one").Status(); st.Transport != "inflated" {
				t.Errorf("%s: transport is %s", suffix, st.Transport)
			}
			h.close()
			for _, line := range []string{"it is listed once it has been inflated", "the archive has been inflated"} {
				if n := strings.Count(s.log.String(), line); n != 1 {
					t.Errorf("%s: the log says %d times that %s", suffix, n, line)
				}
			}

			s.origin.ResetStats()
			h = s.open()
			if got := h.read("one", "swap.img"); !bytes.Equal(got, diskImage(2*blk, 2)) {
				t.Errorf("%s: swap.img differs", suffix)
			}
			if n := s.origin.Stats("/one.tar." + suffix).BytesSent; n > 2 {
				t.Errorf("%s: %d bytes the second time", suffix, n)
			}
			h.close()
		}
	}
}

// dmg is an Apple disk image, which only its last 512 bytes tell.
func dmg(p []byte) []byte {
	p = append(bytes.Clone(p), make([]byte, 512)...)
	copy(p[len(p)-512:], "koly\x00\x00\x00\x04\x00\x00\x02\x00")
	return p
}

// skipped puts a skippable frame in front, longer than what a file is recognized
// by the second time it is done.
func skipped(p []byte) []byte {
	n := uint32(8)
	if p[0]&0xf0 == 0x50 {
		n = xvm.SniffHead
	}
	head := binary.LittleEndian.AppendUint32([]byte("\x5e\x2a\x4d\x18"), n)
	return append(append(head, make([]byte, n)...), p...)
}

// A suffix is stripped only from content that was decoded: a disk image whose
// compression is damaged where it begins is no disk image.
func TestDamagedMagic(t *testing.T) {
	t.Parallel()
	raw := diskImage(5*blk, 1)
	raw[510], raw[511] = 0x55, 0xaa
	makers := compressors(t)
	makers["zst skipped"] = func(p []byte) []byte { return skipped(makers["zst"](p)) }
	makers["lz4 skipped"] = func(p []byte) []byte { return skipped(append([]byte("\x04\x22\x4d\x18"), p...)) }
	for kind, compress := range makers {
		suffix, _, _ := strings.Cut(kind, " ")
		good := compress(raw)
		for at := range map[bool]int{true: 3, false: 4}[suffix == "gz"] { // the fourth of gzip are flags
			for _, path := range []string{"/disk.img." + suffix, "/disk.raw." + suffix, "/one.xvm." + suffix} {
				if suffix == "lz4" {
					path = strings.Replace(path, "lz4", "zst", 1)
				} else if kind == "zst skipped" && at == 0 {
					continue // another number of a skippable frame
				}
				body := bytes.Clone(good)
				body[at] ^= 1
				s := newSite(t)
				s.release("one", path, body)
				h := s.open()
				if p, err := h.rel("one").Package(t.Context()); !errors.Is(err, xvm.ErrNotPackage) && !errors.Is(err, xvm.ErrNotTar) {
					t.Errorf("%s %s damaged at %d: %v", kind, path, at, err)
					for _, f := range p.All() {
						t.Errorf("it has %s", f.Name())
					}
				}
				h.close()
			}
		}
	}
}

// What enclosures are is told by their content, whatever they are called.
func TestBareImages(t *testing.T) {
	t.Parallel()
	raw := diskImage(5*blk, 1)
	raw[510], raw[511] = 0x55, 0xaa
	plain := bytes.Repeat([]byte{0xe5}, 3*blk)
	for _, c := range []struct {
		path  string
		body  []byte
		files string
		name  string
		plain []byte
	}{
		{"/disk.img", raw, "disk.img", "disk.img", raw},
		{"/download", raw, "download", "download", raw},
		{"/disk.xvm", raw, "disk.xvm", "disk.xvm", raw},
		{"/disk.qcow2", qcow("", 3*blk), "disk.qcow2", "disk.qcow2", qcow("", 3*blk)},
		{"/disk.img.gz", gz(t, raw), "disk.img disk.img.gz", "disk.img", raw},
		{"/disk.img", gz(t, raw), "disk.img disk.img.gz", "disk.img", raw},
		{"/disk.img.xz", gz(t, raw), "disk.img disk.img.gz", "disk.img", raw},
		{"/disk.img.gz", raw, "disk.img.gz.img", "disk.img.gz.img", raw},
		{"/disk.qcow2.zst", qcow("", 3*blk), "disk.qcow2.zst.img", "disk.qcow2.zst.img", qcow("", 3*blk)},
		{"/disk.img.zst", skipped(pipe(t, raw, "zstd", "-c", "-q")), "disk.img disk.img.zst", "disk.img", raw},
		{"/disk.img", skipped(pipe(t, raw, "zstd", "-c", "-q")), "disk.img disk.img.zst", "disk.img", raw},
		{"/disk.img.zst", pipe(t, raw, "pzstd", "-q", "-c"), "disk.img disk.img.zst", "disk.img", raw},
		{"/disk.img.zst", skipped(skipped(pipe(t, raw, "zstd", "-c", "-q"))), "disk.img disk.img.zst", "disk.img", raw},
		{"/a,b.img", raw, "disk.img", "disk.img", raw},
		{"/x.xml.gz", gz(t, raw), "disk.img disk.img.gz", "disk.img", raw},
		{"/unknown.raw", plain, "unknown.raw", "unknown.raw", plain},
		{"/disk.dmg", dmg(plain), "disk.dmg", "disk.dmg", dmg(plain)},
		{"/download", dmg(plain), "download", "download", dmg(plain)},
		{"/disk.dmg", dmg(pipe(t, plain, "bzip2", "-c")), "disk.dmg", "disk.dmg", dmg(pipe(t, plain, "bzip2", "-c"))},
	} {
		s := newSite(t)
		s.release("one", c.path, c.body)
		h := s.open()
		h.shows("one", c.files)
		if got := h.read("one", c.name); !bytes.Equal(got, c.plain) {
			t.Errorf("%s: content differs", c.path)
		}
		h.close()
		h = s.open()
		if got := h.read("one", c.name); !bytes.Equal(got, c.plain) {
			t.Errorf("%s: content differs the second time", c.path)
		}
		h.close()
	}
}

// What is neither a package nor an image is refused, and the reason told.
func TestT16NoPackage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, want string
		body       []byte
	}{
		{"/a.xvm", "web page", []byte("<html><body>Please log in" + strings.Repeat(" ", 2000) + "</body></html>")},
		{"/a.img", "web page", []byte("<!DOCTYPE html><html>" + strings.Repeat("x", 3000))},
		{"/a.img", "no tar header", []byte(strings.Repeat("not found. ", 300))},
		{"/a.xvm.gz", "neither an archive nor a disk image", gz(t, []byte(strings.Repeat("hello ", 3000)))},
		{"/a.xvm.gz", "neither an archive nor a disk image", gz(t, gz(t, diskImage(blk, 1)))},
		{"/a.gz", "cannot be inflated", append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), bytes.Repeat([]byte{0xff}, 4000)...)},
		{"/a.zip", "zip", append([]byte("PK\x03\x04"), make([]byte, 2000)...)},
		{"/a.xvm", "no tar header", bytes.Repeat([]byte{0xe5}, 3*blk)},
		{"/a.xvm", "empty", nil},
		{"/a.img", "lz4", append([]byte("\x04\x22\x4d\x18"), noise(3*blk, 1)...)},
		{"/a.img.lz4", "lz4", append([]byte("\x04\x22\x4d\x18"), noise(3*blk, 1)...)},
		{"/a.raw", "rar", append([]byte("Rar!\x1a\x07\x01\x00"), noise(3*blk, 1)...)},
		{"/a.Z", "compress (.Z)", append([]byte("\x1f\x9d\x90"), noise(3*blk, 1)...)},
	} {
		s := newSite(t)
		s.release("one", c.path, c.body)
		h := s.open()
		p, err := h.rel("one").Package(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.path, p, err, c.want)
		}
		h.close()
	}
}

// A listing does not wait for an archive that takes long to read, and what was
// begun goes on.
func TestIndexingInTheBackground(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.tar.gz", gz(t, tarOf(t, file{"root.img", diskImage(4*blk, 1)})))
	s.origin.Inject(origin.Fault{Path: "/one.tar.gz", Kind: origin.Delay, Delay: 2 * time.Second, Times: 1})
	h := s.open()
	soon, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ErrIndexing)
	defer cancel()
	if _, err := h.rel("one").Package(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := h.rel("one").PackageSoon(t.Context()); err != nil {
		t.Error(err)
	}
}

// A fixed VHD is told from a raw image by its last bytes, which are fetched for
// that when it is opened, and nothing else is.
func TestFixedVHD(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := noise(8*mib, 1)
	vhd := append(disk[:len(disk):len(disk)], make([]byte, 512)...)
	copy(vhd[len(disk):], "conectix\x00\x00\x00\x02\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")
	copy(vhd[len(disk)+60:], "\x00\x00\x00\x02")
	s.release("vhd", "/disk.vhd", vhd)
	s.release("raw", "/disk.img", disk)
	h := s.open()
	for release, want := range map[string]string{"vhd": "vhd", "raw": "raw"} {
		f := h.pkg(release).Files()[0]
		fh, err := f.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, f.Name()+" is a "+want, func() bool {
			format, _ := f.Attr("user.vmcast.format")
			return string(format) == want
		})
		fh.Close()
		if got := f.Status().CachedBytes; got > 2*mib {
			t.Errorf("%d bytes were fetched", got)
		}
	}
}

// Status tells of an archive that is being inflated, and how far that is.
func TestInflatingIsSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.tar.gz", gz(t, tarOf(t, file{"xvm.xml", []byte("<xvm/>")}, file{"root.img", noise(2*mib, 1)})))
	h := s.open()
	s.origin.SetBandwidth(1 * mib)
	if st := h.rel("one").Status(); st.State != "listed" {
		t.Errorf("%+v", st)
	}
	done := make(chan error, 1)
	go func() {
		_, err := h.rel("one").Package(t.Context())
		done <- err
	}()
	last := int64(0)
	eventually(t, "some of it has come", func() bool {
		st := h.rel("one").Status()
		if st.State == "indexing" && st.Taken > 0 {
			last = st.Taken
		}
		return last > 0
	})
	s.origin.SetBandwidth(0)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := h.rel("one").Status(); st.State != "indexed" || st.Taken != 0 {
		t.Errorf("%+v", st)
	}
}
