package catalog

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
	"vmcastfs/xvm/pack"
)

// sidecarFor makes the sidecar of whatever an enclosure may be.
func sidecarFor(t testing.TB, enclosure, content []byte, address string, key *xvm.Signer) []byte {
	t.Helper()
	enc, err := archive.Recognize(t.Context(), packageBytes(enclosure), int64(len(enclosure)), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := pack.IndexOptions{TempDir: t.TempDir(), Sign: pack.KeySign(key)}
	o.Bare = enc.Bare
	var b bytes.Buffer
	if _, err := pack.Index(t.Context(), packageBytes(content), int64(len(content)), &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSidecarVouches: where signatures are required, the sidecar that a trusted
// key signed lets in what its publisher did not sign, or by another key; every
// block is checked, and the status says by what it is trusted.
func TestSidecarVouches(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "operator")
	stranger, _ := publisher(t, "stranger")
	a, b := xenDisk(3, 1), xenDisk(2, 2)
	xva := xvaOf(t, "xxhash", a, b)
	raw := append([]byte("a boot sector"), diskImage(4*blk, 3)...)
	disk := file{"root.img", diskImage(6*blk, 4)}
	about := file{"box.ovf", []byte("<Envelope/>")}
	ova := tarOf(t, about, file{"box.mf", manifestOf(about, disk).content}, disk)
	xml := file{"xvm.xml", []byte("<xvm/>")}
	s1, err1 := stranger.Sign(manifestOf(xml, disk).content, testTime)
	s2, err2 := stranger.Sign(xml.content, testTime)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	signed := tarOf(t, xml, manifestOf(xml, disk), file{"mf-signature.asc", s1}, file{"signature.asc", s2}, disk)
	own, ownSigned := packed(t, true, nil, disk), packed(t, false, stranger, disk)
	for name, c := range map[string]struct {
		path               string
		enclosure, content []byte
		files              map[string][]byte
	}{
		"xva":                 {"/one.xva", xva, xva, map[string][]byte{"disk0.img": a, "disk1.img": b}},
		"xva.gz":              {"/one.xva.gz", gz(t, xva), xva, map[string][]byte{"disk0.img": a, "disk1.img": b}},
		"ova":                 {"/one.ova", ova, ova, map[string][]byte{"root.img": disk.content, "box.ovf": about.content}},
		"bare":                {"/one.img", raw, raw, map[string][]byte{"one.img": raw}},
		"bare.gz":             {"/one.img.gz", gz(t, raw), gz(t, raw), map[string][]byte{"one.img": raw, "one.img.gz": gz(t, raw)}},
		"own list":            {"/one.xvm", own, own, map[string][]byte{"root.img": disk.content}},
		"own list, another's": {"/one.xvm", ownSigned, ownSigned, map[string][]byte{"root.img": disk.content}},
		"another publisher":   {"/one.xvm", signed, signed, map[string][]byte{"root.img": disk.content}},
	} {
		t.Run(name, func(t *testing.T) {
			s, state, dir := newSite(t), filepath.Join(t.TempDir(), "state"), t.TempDir()
			s.release("one", c.path, c.enclosure)
			s.sidecar = dir
			side := filepath.Join(dir, strings.TrimPrefix(c.path, "/")+".sidecar")
			image := ""
			for name := range c.files {
				if strings.HasSuffix(name, ".img") {
					image = name
				}
			}
			h := s.trusting(state, ring, true)
			h.refused("one", image, "not signed by a trusted key")
			h.close()

			mustWrite(t, side, sidecarFor(t, c.enclosure, c.content, c.path, stranger))
			s.dir = t.TempDir()
			h = s.trusting(state, ring, true)
			h.refused("one", image, "not signed by a trusted key")
			h.close()

			mustWrite(t, side, sidecarFor(t, c.enclosure, c.content, c.path, key))
			s.dir = t.TempDir()
			h = s.trusting(state, ring, true)
			for name, want := range c.files {
				if !bytes.Equal(h.read("one", name), want) {
					t.Errorf("%s differs", name)
				}
				if h.file("one", name).Status().Image {
					if err := h.complete("one", name); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				st := h.file("one", name).Status()
				if st.State != "verified" || st.Image && st.Verify != "block" {
					t.Errorf("%+v", st)
				}
				if by, _ := h.file("one", name).Attr("user.vmcast.signer"); !strings.Contains(string(by), "operator") {
					t.Errorf("%s is vouched for by %q", name, by)
				}
			}
			if st := h.rel("one").Status(); st.State != "indexed" || st.Trust.By != "sidecar" || st.Sidecar.State != "good" {
				t.Errorf("%+v; %+v; %+v", st, st.Trust, st.Sidecar)
			}

			// The same under another guid is a replay.
			s.release("two", "/again"+c.path, c.enclosure)
			if err := h.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.refused("two", image, `it is the package of the release "one"`)
			h.close()
		})
	}
}

// TestSidecarFlippedVouched: one wrong byte of an XVA costs its block, and what
// the sidecar has no blocks of is not opened.
func TestSidecarFlippedVouched(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "operator")
	disk := bytes.Repeat([]byte("0123456789abcdef"), 3*mib/16)
	pkg := xvaOf(t, "none", disk)
	s, dir := newSite(t), t.TempDir()
	s.release("one", "/one.xva", pkg)
	s.sidecar = dir
	mustWrite(t, filepath.Join(dir, "one.xva.sidecar"), sidecarFor(t, pkg, pkg, "/one.xva", key))
	at := int64(bytes.Index(pkg, disk[:mib]))
	s.origin.Inject(origin.Fault{Path: "/one.xva", Kind: origin.Flip, At: at + mib/2})
	h := s.trusting(filepath.Join(t.TempDir(), "state"), ring, true)
	fh := h.open("one", "disk0.img")
	p := make([]byte, 4096)
	var bad *cache.BlockError
	if _, err := fh.ReadAt(t.Context(), p, 8192); !errors.As(err, &bad) {
		t.Error("a wrong block:", err)
	}
	if _, err := fh.ReadAt(t.Context(), p, 2*mib); err != nil || !bytes.Equal(p, disk[:4096]) {
		t.Error("a good block:", err)
	}
}
