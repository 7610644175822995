package catalog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/image"
)

// What was inflated from a stream that later fails is withdrawn: blocks that were
// read before are given up, and the image is corrupt from then on, in the next
// process too. Nothing but the format's own checks tells that it is wrong.
func TestFailedStreamIsWithdrawn(t *testing.T) {
	t.Parallel()
	disk := diskImage(40*blk+100, 1)
	flip := func(p []byte, at int) []byte {
		p = bytes.Clone(p)
		p[(at+len(p))%len(p)] ^= 1
		return p
	}
	var loose bytes.Buffer
	z, _ := gzip.NewWriterLevel(&loose, gzip.NoCompression)
	z.Write(disk)
	z.Close()
	makers := compressors(t)
	for name, stored := range map[string][]byte{
		"checksum.gz":   flip(makers["gz"](disk), -8),
		"length.gz":     flip(makers["gz"](disk), -4),
		"content.gz":    flip(loose.Bytes(), 30*blk),
		"cut.gz":        makers["gz"](disk)[:len(makers["gz"](disk))-100],
		"no-trailer.gz": makers["gz"](disk)[:len(makers["gz"](disk))-3],
		"short.gz":      makers["gz"](disk[:39*blk]),
		"long.gz":       makers["gz"](append(bytes.Clone(disk), 1)),
		"member.gz":     append(makers["gz"](disk[:20*blk+1]), flip(makers["gz"](disk[20*blk+1:]), -8)...),
		"first.gz":      append(flip(makers["gz"](disk[:20*blk]), -8), makers["gz"](disk[20*blk:])...),
		"check.xz":      flip(makers["xz"](disk), -60),
		"cut.zst":       makers["zst"](disk)[:len(makers["zst"](disk))-3],
		"check.zst":     flip(makers["zst"](disk), -1),
		"check.bz2":     flip(makers["bz2"](disk), -3),
	} {
		t.Run(name, func(t *testing.T) {
			suffix := name[strings.LastIndexByte(name, '.'):]
			s := newSite(t)
			manifest := file{"manifest.txt", fmt.Appendf(nil, "disk.img %d %s\n", len(disk), md5hex(disk))}
			s.release("one", "/one.xvm2", tarOf(t, manifest, file{"disk.img" + suffix, stored}))
			h := s.open()
			fh := h.open("one", "disk.img")
			p := make([]byte, blk)
			first := 0
			for off := int64(0); ; off += blk {
				n, err := fh.ReadAt(t.Context(), p, off)
				if err != nil {
					if !errors.Is(err, cache.ErrCorrupt) {
						t.Fatalf("at %d: %v", off, err)
					}
					break
				}
				if off+int64(n) >= int64(len(disk)) {
					t.Fatal("it was read to its end")
				}
				first++
			}
			if _, err := fh.ReadAt(t.Context(), p, 0); !errors.Is(err, cache.ErrCorrupt) {
				t.Errorf("the beginning, after the end has failed: %v", err)
			}
			t.Logf("%d blocks were read before", first)
			f := h.file("one", "disk.img")
			if st := f.Status(); st.State != "corrupt" || st.CachedBytes != 0 || st.Note == "" {
				t.Errorf("%+v", st)
			} else {
				t.Log(st.Note)
			}
			fh.Close()
			h.close()
			h = s.open()
			if fh, err := h.file("one", "disk.img").Open(t.Context()); !errors.Is(err, cache.ErrCorrupt) {
				t.Errorf("in the next process: %v, %v", fh, err)
			}
			if got := h.read("one", "disk.img"+suffix); !bytes.Equal(got, stored) {
				t.Error("the file as stored is not served any more")
			}
			h.close()
		})
	}
}

// A server that fails says nothing of the stream: what was read of it stays.
func TestFailedServerWithdrawsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := noise(8*mib, 1)
	manifest := file{"manifest.txt", fmt.Appendf(nil, "disk.img %d %s\n", len(disk), md5hex(disk))}
	s.release("one", "/one.xvm2", tarOf(t, manifest, file{"disk.img.gz", gz(t, disk)}))
	h := s.open()
	fh := h.open("one", "disk.img")
	p := make([]byte, blk)
	if _, err := fh.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	s.origin.Inject(origin.Fault{Path: "/one.xvm2", Kind: origin.Status, Status: 403})
	if _, err := fh.ReadAt(t.Context(), p, 7*mib); err == nil || errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("far behind: %v", err)
	}
	if _, err := fh.ReadAt(t.Context(), p, 0); err != nil && err != io.EOF || !bytes.Equal(p, disk[:blk]) {
		t.Errorf("what is cached: %v", err)
	}
}

// Nobody reads a forged image to its end with success, be it the file as stored or
// what is inflated from it, and whatever the sum is of: the last block that is
// missing is handed out only after the whole has matched.
func TestForgedImageIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	good, forged := diskImage(30*blk+5, 1), diskImage(30*blk+5, 1)
	forged[7*blk+3] ^= 1
	for name, c := range map[string]struct{ manifest, stored, plain file }{
		"stored sum": {manifestOf(file{"disk.img.gz", gz(t, good)}), file{"disk.img.gz", gz(t, forged)}, file{"disk.img", forged}},
		"plain MD5":  {file{"manifest.txt", fmt.Appendf(nil, "disk.img %d %s\n", len(good), md5hex(good))}, file{"disk.img.gz", gz(t, forged)}, file{"disk.img", forged}},
		"stored":     {manifestOf(file{"disk.img", good}), file{"disk.img", forged}, file{"disk.img", forged}},
	} {
		for _, backwards := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", backwards), func(t *testing.T) {
				s := newSite(t)
				s.release("one", "/one.xvm", tarOf(t, c.manifest, c.stored))
				for range 2 { // it stays so in the next process
					h := s.open()
					f, err := h.pkg("one").Lookup(t.Context(), "disk.img")
					var fh image.Handle
					if err == nil {
						fh, err = f.Open(t.Context())
					}
					if errors.Is(err, cache.ErrCorrupt) {
						h.close()
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					failed := false
					blocks := (len(forged) + blk - 1) / blk
					for i := range blocks {
						if backwards {
							i = blocks - 1 - i
						}
						p := make([]byte, min(blk, len(forged)-i*blk))
						if _, err := fh.ReadAt(t.Context(), p, int64(i*blk)); errors.Is(err, cache.ErrCorrupt) {
							failed = true
						} else if err != nil && err != io.EOF {
							t.Fatal(err)
						}
					}
					if !failed {
						t.Error("it was read whole")
					}
					fh.Close()
					if st := f.Status(); st.State != "corrupt" {
						t.Errorf("%+v", st)
					}
					h.close()
				}
			})
		}
	}
}

// What has been read whole is verified then, without being asked for or waited for.
func TestReadWholeIsVerified(t *testing.T) {
	t.Parallel()
	disk := diskImage(30*blk+5, 1)
	for name, pkg := range map[string][]byte{
		"stored":   tarOf(t, manifestOf(file{"disk.img", disk}), file{"disk.img", disk}),
		"inflated": tarOf(t, manifestOf(file{"disk.img.gz", gz(t, disk)}), file{"disk.img.gz", gz(t, disk)}),
		"packed":   packed(t, true, nil, file{"disk.img", disk}),
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", pkg)
		h := s.open()
		fh := h.open("one", "disk.img")
		p := make([]byte, len(disk))
		if _, err := fh.ReadAt(t.Context(), p, 0); err != nil && err != io.EOF || !bytes.Equal(p, disk) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "packed" {
			fh.Close()
		}
		eventually(t, name+" is verified", func() bool { return h.file("one", "disk.img").Status().State == "verified" })
		h.close()
	}
}
