package catalog

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// What an old version kept of plain content is not believed; what it kept of the
// archive still opens without the server.
func TestOldDocument(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := diskImage(20*blk+7, 1)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img.gz", gz(t, disk)}))
	h := s.open()
	if err := h.complete("one", "root.img.gz"); err != nil {
		t.Fatal(err)
	}
	st, name := h.cfg.Store, docName(h.rel("one"))
	raw, err := st.GetDoc("package", name)
	if err != nil {
		t.Fatal(err)
	}
	var doc bundle.Doc
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Version != 3 {
		t.Fatal(doc.Version, err)
	}
	doc.Version = 2
	doc.Sizes = map[string]int64{"root.img": 3 * blk}
	doc.Kinds = map[string]bundle.SeenImage{"root.img": {Format: "qcow2"}}
	if raw, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	if err := st.PutDoc("package", name, raw); err != nil {
		t.Fatal(err)
	}
	h.close()
	s.origin.ResetStats()
	h = s.open()
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
		t.Errorf("%d bytes, which are not those of the disk", len(got))
	}
	if format, _ := h.file("one", "root.img").Attr("user.vmcast.format"); string(format) != "raw" {
		t.Errorf("its format is %q", format)
	}
	if n := s.origin.Stats("/one.xvm").BytesSent; n > 1 { // whether it is still there
		t.Errorf("%d bytes were fetched", n)
	}
}

// Of a sidecar that an old version made, the blocks of inflated content are not
// used, and the log says so; those of what is stored are.
func TestOldSidecar(t *testing.T) {
	t.Parallel()
	disk, flat := diskImage(20*blk+7, 1), file{"data.img", diskImage(10*blk, 2)}
	pkg := tarOf(t, file{"root.img.gz", gz(t, disk)}, flat)
	s := newSite(t)
	s.release("one", "/one.xvm", pkg)
	s.release("two", "/two.tar.gz", gz(t, pkg))
	dir := t.TempDir()
	old := asVersion1(t, sidecarOf(t, pkg, nil))
	mustWrite(t, filepath.Join(dir, "one.xvm.sidecar"), old)
	mustWrite(t, filepath.Join(dir, "two.tar.gz.sidecar"), old)
	h := s.open(func(c *Config) { c.Sidecar = dir })
	for release, modes := range map[string][3]string{"one": {"whole", "block", "block"}, "two": {"whole", "whole", "whole"}} {
		for i, name := range []string{"root.img", "root.img.gz", "data.img"} {
			fh := h.open(release, name)
			if st := h.file(release, name).Status(); st.Verify != modes[i] && !(modes[i] == "whole" && st.Verify == "kept") { // kept: it was read to its end, for its size
				t.Errorf("%s/%s is read by %q, want %q", release, name, st.Verify, modes[i])
			}
			fh.Close()
		}
		if got := h.read(release, "root.img"); !bytes.Equal(got, disk) {
			t.Errorf("%s: wrong content", release)
		}
	}
	for _, line := range []string{`its blocks of the content of [\"root.img\"] are not used`, "it is of inflated content"} {
		if !strings.Contains(strings.ReplaceAll(s.log.String(), `\\\"`, `\"`), line) {
			t.Errorf("the log does not say %s:\n%s", line, s.log.String())
		}
	}
}

// asVersion1 makes of a sidecar without a signature one of version 1.
func asVersion1(t testing.TB, sidecar []byte) []byte {
	t.Helper()
	var names []string
	parts := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(sidecar)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if parts[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	parts[xvm.SidecarPackage] = bytes.Replace(parts[xvm.SidecarPackage], []byte("sidecar 2"), []byte("sidecar 1"), 1)
	var manifest []byte
	for _, name := range names {
		if name != xvm.SidecarManifest {
			sum := sha256.Sum256(parts[name])
			manifest = xvm.AppendTag(manifest, sums.Sum{Algo: sums.SHA256, Hex: hex.EncodeToString(sum[:])}, name)
		}
	}
	parts[xvm.SidecarManifest] = manifest
	var files []file
	for _, name := range names {
		files = append(files, file{name, parts[name]})
	}
	return tarOf(t, files...)
}
