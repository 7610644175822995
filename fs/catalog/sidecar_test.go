package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
	"vmcastfs/xvm/pack"
)

// packageBytes is a package in memory, for pack.Index.
type packageBytes []byte

func (p packageBytes) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	return bytes.NewReader(p).ReadAt(b, off)
}

func (p packageBytes) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(p), off, n)), nil
}

// sidecarOf makes the sidecar of a package.
func sidecarOf(t testing.TB, pkg []byte, key *xvm.Signer) []byte {
	t.Helper()
	o := pack.IndexOptions{TempDir: t.TempDir()}
	if key != nil {
		o.Sign = pack.KeySign(key)
	}
	var b bytes.Buffer
	if _, err := pack.Index(t.Context(), packageBytes(pkg), int64(len(pkg)), &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSidecar: with a sidecar the content of an ordinary gzip file has its size
// at once, is read at its end without the rest, and every block is checked.
func TestSidecar(t *testing.T) {
	t.Parallel()
	disk := diskImage(96*blk, 1)
	stored := file{"root.img.gz", gz(t, disk)}
	flat := file{"data.img", diskImage(10*blk, 2)}
	pkg := tarOf(t, manifestOf(stored, flat), stored, flat)
	sc := sidecarOf(t, pkg, nil)
	for _, where := range []string{"directory", "file", "server", "one on a server"} {
		t.Run(where, func(t *testing.T) {
			s := newSite(t)
			s.release("one", "/pkg/one.xvm", pkg)
			dir := t.TempDir()
			mustWrite(t, filepath.Join(dir, "one.xvm.sidecar"), sc)
			s.origin.PutBytes("/side/one.xvm.sidecar", sc)
			place := map[string]string{
				"directory": dir, "file": filepath.Join(dir, "one.xvm.sidecar"),
				"server": s.origin.URL() + "/side/", "one on a server": s.origin.URL() + "/side/one.xvm.sidecar",
			}[where]
			with := func(c *Config) { c.Sidecar = place }
			h := s.open(with)
			if st := h.file("one", "root.img").Status(); st.Size != int64(len(disk)) {
				t.Fatalf("%+v; warnings %q", st, h.warnings("one"))
			}
			if got := h.names("one"); !strings.Contains(got, "root.img ") {
				t.Error("listed:", got)
			}
			h.settle("one") // looks at its first block
			fh := h.open("one", "root.img")
			s.origin.ResetStats()
			p := make([]byte, 4096)
			off := int64(len(disk)) - 2*blk + 100
			if _, err := fh.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, disk[off:off+4096]) {
				t.Error("at the end:", err)
			}
			if n := s.origin.Stats("/pkg/one.xvm").BytesSent; n == 0 || n > int64(len(stored.content))/3 {
				t.Errorf("a read at the end takes %d of %d bytes", n, len(stored.content))
			}
			if st := h.file("one", "root.img").Status(); st.Verify != "block" {
				t.Errorf("%+v", st)
			}
			if strings.HasPrefix(where, "one") || where == "file" {
				return // the rest is as with the others
			}
			for _, name := range []string{"root.img", "data.img"} {
				if err := h.complete("one", name); err != nil {
					t.Error(err)
				}
				if st := h.file("one", name).Status(); st.State != "verified" {
					t.Errorf("%+v", st)
				}
			}
			if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
				t.Error("wrong content")
			}
			h.close()

			// Another time nothing of it is asked for.
			s.origin.ResetStats()
			h = s.open(with)
			if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
				t.Error("wrong content")
			}
			if n := s.origin.Stats("/side/one.xvm.sidecar").BytesSent + s.origin.Stats("/pkg/one.xvm").BytesSent; n > 2 { // the first byte of each tells whether it is the same
				t.Errorf("%d bytes the second time", n)
			}
		})
	}
}

// TestSidecarFlipped: with a sidecar no wrong byte is served, be it of the
// package or the cache, and an image cached without one is compared too.
func TestSidecarFlipped(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(12*blk, 3)}
	pkg := tarOf(t, disk) // a manifest would show what is wrong
	sc := sidecarOf(t, pkg, nil)
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "one.xvm.sidecar"), sc)
	var at int64
	h := s.open()
	for _, m := range h.pkg("one").Index().Members {
		if m.Name == "root.img" {
			at = m.Offset
		}
	}
	// Cached without a sidecar: one block wrong, and nobody knows.
	remove := s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: at + 5*blk + 9})
	wrong := h.read("one", "root.img")
	if bytes.Equal(wrong, disk.content) {
		t.Fatal("nothing was flipped")
	}
	h.close()

	h = s.open(func(c *Config) { c.Sidecar = dir })
	s.origin.ResetStats()
	fh := h.open("one", "root.img")
	p := make([]byte, blk)
	var bad *cache.BlockError
	if _, err := fh.ReadAt(t.Context(), p, 5*blk); !errors.As(err, &bad) {
		t.Error("a wrong block of the cache and the server:", err)
	}
	remove()
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk.content) {
		t.Error("wrong content")
	}
	if n := s.origin.Stats("/one.xvm").BytesSent; n > 6*blk { // opening tries the region of the first block, too
		t.Errorf("%d bytes fetched; all but one block were cached", n)
	}
	if err := h.complete("one", "root.img"); err != nil {
		t.Error(err)
	}
}

// TestSidecarTrust: who signed a sidecar counts as for a package, and it is of
// one package only.
func TestSidecarTrust(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	stranger, _ := publisher(t, "stranger")
	about, disk := file{"xvm.xml", []byte("<xvm/>\n")}, file{"root.img.gz", gz(t, diskImage(4*blk, 1))}
	manifest := manifestOf(about, disk)
	s1, _ := key.Sign(manifest.content, testTime)
	s2, _ := key.Sign(about.content, testTime)
	pkg := tarOf(t, about, manifest, file{"mf-signature.asc", s1}, file{"signature.asc", s2}, disk)
	changed := file{"xvm.xml", []byte("<xvm/> ")}
	twin := tarOf(t, changed, manifestOf(changed, disk), file{"mf-signature.asc", s1}, file{"signature.asc", s2}, disk)
	elsewhere := file{"root.img.gz", gz(t, diskImage(4*blk, 2))}
	other := tarOf(t, manifestOf(elsewhere), elsewhere)
	plain := func(*Config) {}
	trusting := func(require bool) func(*Config) {
		return func(c *Config) { c.Keyring, c.RequireSigned = ring, require }
	}
	good := sidecarOf(t, pkg, key)
	for name, c := range map[string]struct {
		sidecar []byte
		config  func(*Config)
		used    bool
		warning string
	}{
		"signed":                       {good, trusting(true), true, ""},
		"signed, not asked for":        {good, trusting(false), true, ""},
		"signed, no keyring":           {good, plain, true, ""},
		"unsigned":                     {sidecarOf(t, pkg, nil), trusting(true), false, "it is not signed"},
		"unsigned, not asked for":      {sidecarOf(t, pkg, nil), trusting(false), true, ""},
		"unsigned, no keyring":         {sidecarOf(t, pkg, nil), plain, true, ""},
		"by a stranger":                {sidecarOf(t, pkg, stranger), trusting(true), false, "not in the keyring"},
		"by a stranger, not asked for": {sidecarOf(t, pkg, stranger), trusting(false), false, "not in the keyring"},
		"of another package":           {sidecarOf(t, other, key), trusting(true), false, "it is of a package"},
		"of one with another xvm.xml":  {sidecarOf(t, twin, key), trusting(true), false, "it is of a package with another"},
		"cut short":                    {good[:len(good)/2], plain, false, "bad sidecar"},
		"a block list changed":         {bytes.Replace(good, []byte("\nblock 65536"), []byte("\nblock 32768"), 1), plain, false, "bad sidecar"},
		"no sidecar at all":            {[]byte("<html>"), plain, false, "bad sidecar"},
		"there is none":                {nil, trusting(true), false, ""},
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", pkg)
		dir := t.TempDir()
		if c.sidecar != nil {
			mustWrite(t, filepath.Join(dir, "one.xvm.sidecar"), c.sidecar)
		}
		h := s.open(func(cfg *Config) { cfg.Sidecar = dir }, c.config)
		p := h.pkg("one")
		warnings, _ := p.Faults()
		if got := strings.Join(warnings, "\n"); !strings.Contains(got, c.warning) || c.warning == "" && strings.Contains(got, "sidecar") {
			t.Errorf("%s: warnings %q", name, got)
		}
		if st := h.rel("one").Status(); (st.Sidecar != nil) != c.used {
			t.Errorf("%s: status %+v", name, st.Sidecar)
		}
		h.read("one", "root.img.gz")
		h.close()
	}
}

// TestSidecarReplaced: a sidecar that is made anew is taken up, also in a
// running mount.
func TestSidecarReplaced(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(4*blk, 1)}
	pkg := tarOf(t, manifestOf(disk), disk)
	dir := t.TempDir()
	path := filepath.Join(dir, "one.xvm.sidecar")
	mustWrite(t, path, sidecarOf(t, pkg, nil))
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	with := func(c *Config) { c.Sidecar = dir }
	h := s.open(with)
	h.read("one", "root.img")
	h.close()

	key, _ := publisher(t, "publisher")
	mustWrite(t, path, sidecarOf(t, pkg, key))
	h = s.open(with)
	h.pkg("one")
	var doc bundle.Doc
	if raw, err := h.cfg.Store.GetDoc("package", docName(h.rel("one"))); err != nil || json.Unmarshal(raw, &doc) != nil || doc.Sidecar == nil || doc.Sidecar.Signature == nil {
		t.Error("the new sidecar is not taken up")
	}
	h.close()

	h = s.open(with) // the list is not in memory
	h.pkg("one")
	mustWrite(t, path, append(sidecarOf(t, pkg, nil), make([]byte, 1024)...))
	f := h.file("one", "root.img")
	if _, err := f.Open(t.Context()); !errors.Is(err, archive.ErrReplaced) {
		t.Error("opened with a sidecar that is another one now:", err)
	}
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk.content) {
		t.Error("wrong content")
	}
	// With the sidecar gone the package is read as any other.
	h.close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h = s.open(with)
	if h.pkg("one"); h.rel("one").Status().Sidecar != nil {
		t.Error("a sidecar that is gone is used")
	}
	h.read("one", "root.img")
}

// TestSidecarUnreachable: a server that does not answer is no reason to read a
// package unchecked.
func TestSidecarUnreachable(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(2*blk, 1)}
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(disk), disk))
	s.origin.PutBytes("/side/one.xvm.sidecar", sidecarOf(t, tarOf(t, manifestOf(disk), disk), nil))
	remove := s.origin.Inject(origin.Fault{Path: "/side/*", Kind: origin.Status, Status: 403})
	h := s.open(func(c *Config) { c.Sidecar = s.origin.URL() + "/side" })
	if _, err := h.rel("one").Package(t.Context()); err == nil || !strings.Contains(err.Error(), "sidecar") {
		t.Error(err)
	}
	remove()
}

// TestSidecarProfile: a profile in a sidecar is followed.
func TestSidecarProfile(t *testing.T) {
	t.Parallel()
	disk := file{"root.img", diskImage(64*blk, 5)}
	pkg := tarOf(t, manifestOf(disk), disk)
	index := func(profile string) ([]byte, error) {
		var b bytes.Buffer
		_, err := pack.Index(t.Context(), packageBytes(pkg), int64(len(pkg)), &b, pack.IndexOptions{TempDir: t.TempDir(), Profile: []byte(profile)})
		return b.Bytes(), err
	}
	for _, bad := range []string{"x", "vmcast-profile 1\nother.img 0 1\n", fmt.Sprintf("vmcast-profile 1\nroot.img %d 2\n", len(disk.content)-1)} {
		if _, err := index(bad); !errors.Is(err, xvm.ErrProfile) {
			t.Errorf("profile %q: %v", bad, err)
		}
	}
	sc, err := index(fmt.Sprintf("vmcast-profile 1\nroot.img 0 4096\nroot.img %d 4096\n", 40*blk))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "one.xvm.sidecar"), sc)
	h := s.open(func(c *Config) { c.Sidecar, c.Profile = dir, true })
	if _, err := h.open("one", "root.img").ReadAt(t.Context(), make([]byte, 4096), 100); err != nil {
		t.Fatal(err)
	}
	far := int64(bytes.Index(pkg, disk.content[:4096])) + 40*blk
	eventually(t, "the second read of the profile is made", func() bool {
		for _, r := range s.origin.Log() {
			if r.Path == "/one.xvm" && r.Off <= far && far < r.Off+r.Len {
				return true
			}
		}
		return false
	})
}
