package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/image"
)

// qcow is a qcow2 of size bytes that names a backing file, unless that is "".
func qcow(backing string, size int) []byte {
	p := make([]byte, size)
	copy(p, "QFI\xfb\x00\x00\x00\x03")
	binary.BigEndian.PutUint64(p[24:], 1<<20)
	binary.BigEndian.PutUint32(p[100:], 104)
	if backing != "" {
		binary.BigEndian.PutUint64(p[8:], 4096)
		binary.BigEndian.PutUint32(p[16:], uint32(len(backing)))
		copy(p[4096:], backing)
	}
	return p
}

// What names another file is not opened, in whatever shape it comes, and says
// why; what does not, is.
func TestC3ExternalRefused(t *testing.T) {
	t.Parallel()
	evil, good := qcow("/etc/shadow", 3*blk), qcow("", 3*blk)
	descriptor := []byte("# Disk DescriptorFile\nversion=1\nRW 8 FLAT \"/etc/shadow\" 0\n")
	late := []byte(strings.Repeat("# a remark\n", 500) + "version=1\nRW 8 FLAT \"/etc/passwd\" 0\n")
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"evil.img", evil}, file{"good.img", good}, file{"packed.img.gz", gz(t, evil)},
		file{"descriptor.img", descriptor}, file{"late.img", late}, file{"text.img", []byte(strings.Repeat("# only remarks\n", 1000))}, file{"empty.img", nil}))
	s.release("bare", "/disk.raw", evil)
	s.release("bare-packed", "/disk.qcow2.gz", gz(t, evil))
	h := s.open()
	for _, c := range []struct{ release, name, format string }{
		{"one", "evil.img", "qcow2"}, {"one", "packed.img", "qcow2"}, {"one", "descriptor.img", "vmdk"}, {"one", "late.img", "vmdk"},
		{"bare", "disk.raw", "qcow2"}, {"bare-packed", "disk.qcow2", "qcow2"},
	} {
		f := h.file(c.release, c.name)
		fh, err := f.Open(t.Context())
		var external *image.ExternalError
		if !errors.As(err, &external) || !errors.Is(err, fs.ErrPermission) || external.Format != c.format || !strings.Contains(err.Error(), "/etc/") || !strings.Contains(err.Error(), "allow_external") {
			t.Errorf("%s/%s: %v, %v", c.release, c.name, fh, err)
		}
		if got, _ := f.Attr("user.vmcast.format"); string(got) != c.format {
			t.Errorf("%s/%s has format %q", c.release, c.name, got)
		}
	}
	for _, name := range []string{"good.img", "packed.img.gz", "text.img", "empty.img"} {
		h.open("one", name)
	}
	if got := h.read("one", "good.img"); !bytes.Equal(got, good) {
		t.Error("good.img differs")
	}
	h.close()

	h = s.open(func(c *Config) { c.AllowExternal = true })
	if got := h.read("one", "evil.img"); !bytes.Equal(got, evil) {
		t.Error("evil.img differs where it is allowed")
	}
}

// Under Strict nothing is read at opening, and the first read refuses.
func TestC3Strict(t *testing.T) {
	t.Parallel()
	evil := file{"evil.img", qcow("/etc/shadow", 3*blk)}
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(evil), evil))
	h := s.open(func(c *Config) { c.Strict = true })
	for range 2 { // before it is verified, and after
		fh, err := h.file("one", "evil.img").Open(t.Context())
		if err == nil {
			_, err = fh.ReadAt(t.Context(), make([]byte, 512), 0)
			fh.Close()
		}
		if external := (*image.ExternalError)(nil); !errors.As(err, &external) {
			t.Error(err)
		}
	}
}

// An image whose first bytes cannot be had opens, and gives out nothing of them
// until they have been examined: neither a server that fails at first nor one
// that shows something harmless first gets a name past the check.
func TestC3NoBackDoor(t *testing.T) {
	t.Parallel()
	evil := file{"evil.img", qcow("/etc/shadow", 20*blk)}
	pkg := tarOf(t, evil)

	t.Run("an unreadable head", func(t *testing.T) {
		s := newSite(t)
		s.release("one", "/one.xvm", pkg)
		h := s.open()
		f := h.file("one", "evil.img")
		remove := s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Status, Status: 403})
		fh, err := f.Open(t.Context())
		if err != nil {
			t.Fatal("an unreadable head is no reason to refuse:", err)
		}
		defer fh.Close()
		p := make([]byte, 512)
		if n, err := fh.ReadAt(t.Context(), p, 0); err == nil {
			t.Errorf("%d bytes", n)
		}
		remove()
		if _, err := fh.ReadAt(t.Context(), p, 12*blk); err != nil {
			t.Error("what lies behind the head:", err)
		}
		var external *image.ExternalError
		for _, off := range []int64{0, 8, 4095} {
			if _, err := fh.ReadAt(t.Context(), p, off); !errors.As(err, &external) {
				t.Errorf("the head at %d is given out: %v", off, err)
			}
		}
	})
}
