package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
)

// TestIndexPersisted: a package is walked once; another process shows it
// without the server.
func TestIndexPersisted(t *testing.T) {
	t.Parallel()
	disk, small := file{"root.img", diskImage(6*blk, 1)}, file{"swap.img.gz", gz(t, diskImage(3*blk, 2))}
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(disk, small), disk, small))
	h := s.open()
	const names = "manifest.txt root.img swap.img swap.img.gz"
	if got := h.names("one"); got != names {
		t.Errorf("listed %q", got)
	}
	h.read("one", "root.img")
	inode := h.file("one", "root.img").Inode()
	h.close()

	s.origin.Down()
	h = s.open()
	if got := h.names("one"); got != names {
		t.Errorf("listed %q without the server", got)
	}
	if got := h.read("one", "root.img"); !bytes.Equal(got, disk.content) {
		t.Error("wrong content")
	}
	if got := h.file("one", "root.img").Inode(); got != inode {
		t.Error("the inode changed")
	}
	if !h.Status().Feed.Stale {
		t.Error("the status does not tell that the feed is stale")
	}
}

// TestGenerationReplaced: when the archive is replaced on its server, who has a
// file open keeps what is cached of the old one and gets no byte of the new;
// who opens it anew gets the new one.
func TestGenerationReplaced(t *testing.T) {
	t.Parallel()
	old, next := file{"root.img", diskImage(40*blk, 1)}, file{"root.img", diskImage(40*blk, 2)}
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(old), old))
	h := s.open()
	first := h.rel("one")
	fh := h.open("one", "root.img")
	p := make([]byte, 100)
	if _, err := fh.ReadAt(t.Context(), p, 10); err != nil {
		t.Fatal(err)
	}
	s.origin.PutBytes("/one.xvm", tarOf(t, manifestOf(next), next))
	if _, err := fh.ReadAt(t.Context(), p, 36*blk); !errors.Is(err, archive.ErrReplaced) {
		t.Error("a block that is gone:", err)
	}
	if _, err := fh.ReadAt(t.Context(), p, 10); err != nil || !bytes.Equal(p, old.content[10:110]) {
		t.Error("a cached block:", err)
	}
	second := h.rel("one")
	if second == first || second.Generation() != first.Generation()+1 {
		t.Error("there is no new generation")
	}
	if got := h.read("one", "root.img"); !bytes.Equal(got, next.content) {
		t.Error("the new generation has wrong content")
	}
	if a, b := mustLookup(t, first, "root.img").Inode(), h.file("one", "root.img").Inode(); a == b {
		t.Error("both generations have one inode")
	}
}

func mustLookup(t *testing.T, r *Release, name string) *bundle.File {
	t.Helper()
	p, ok := r.Peek()
	if !ok {
		t.Fatal("not indexed")
	}
	f, err := p.Lookup(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPlainSizes: what tells the size of compressed content, and that nothing
// else is believed.
func TestPlainSizes(t *testing.T) {
	t.Parallel()
	plain := diskImage(5*blk+17, 1)
	tool := func(name string, args ...string) []byte {
		cmd := exec.Command(name, args...)
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(name, err)
		}
		return out
	}
	lie := gz(t, plain)
	copy(lie[len(lie)-4:], []byte{9, 9, 9, 9})
	for suffix, stored := range map[string][]byte{
		"gz": gz(t, plain), "xz": tool("xz", "-c"), "zst": tool("zstd", "-c"), "bz2": tool("bzip2", "-c"),
	} {
		s := newSite(t)
		name := "root.img." + suffix
		s.release("one", "/one.xvm", tarOf(t, manifestOf(file{name, stored}), file{name, stored}))
		h := s.open()
		if f := h.file("one", "root.img"); f.Size() != int64(len(plain)) {
			t.Errorf("%s: size %d", suffix, f.Size())
		}
		if got := h.read("one", "root.img"); !bytes.Equal(got, plain) {
			t.Errorf("%s: wrong content", suffix)
		}
		if err := h.complete("one", "root.img"); err != nil {
			t.Error(err)
		}
		if st := h.file("one", "root.img").Status(); st.State != "verified" || !strings.Contains(st.Note, name) {
			t.Errorf("%s: %+v", suffix, st)
		}
		h.close()
	}
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(file{"root.img.gz", lie}), file{"root.img.gz", lie}))
	h := s.open()
	if _, err := h.pkg("one").Lookup(t.Context(), "root.img"); err == nil {
		t.Error("a gzip file that lies about its length has a size")
	}
	if _, err := h.pkg("one").Lookup(t.Context(), "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestXVM2Judge: an XVM2 manifest gives size and MD5 of the plain disk, or of
// its first MiB, as its packager had it.
func TestXVM2Judge(t *testing.T) {
	t.Parallel()
	disk := diskImage(20*blk, 1) // 1.25 MiB
	stored := file{"hd0.img.gz", gz(t, disk)}
	for name, c := range map[string]struct {
		md5   string
		state string
		note  string
	}{
		"the whole":     {md5hex(disk), "verified", "matches the manifest"},
		"the first MiB": {md5hex(disk[:1<<20]), "unverified", "covers only the first 1048576 bytes"},
		"neither":       {md5hex([]byte("x")), "corrupt", "does not match"},
	} {
		s := newSite(t)
		manifest := file{"manifest.txt", fmt.Appendf(nil, "hd0.img %d %s\n", len(disk), c.md5)}
		s.release("one", "/one.xvm2", tarOf(t, manifest, stored))
		h := s.open()
		f := h.file("one", "hd0.img")
		if f.Size() != int64(len(disk)) {
			t.Errorf("%s: size %d", name, f.Size())
		}
		err := h.complete("one", "hd0.img")
		if (c.state == "corrupt") != errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if st := f.Status(); st.State != c.state || !strings.Contains(st.Note, c.note) {
			t.Errorf("%s: %+v", name, st)
		}
		if _, err := f.Open(t.Context()); (c.state == "corrupt") != errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%s: opens with %v", name, err)
		}
		h.close()
	}
}

// TestRefused: what no trusted key vouches for is listed and not served; what
// was signed is vouched for by a digest that means something.
func TestRefused(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	stranger, _ := publisher(t, "stranger")
	about := file{"xvm.xml", []byte("<xvm/>")}
	disk, weak, unlisted := file{"root.img", diskImage(2*blk, 1)}, file{"weak.img", diskImage(blk, 2)}, file{"extra.img", diskImage(blk, 3)}
	build := func(by *xvm.Signer) []byte {
		manifest := manifestOf(about, disk)
		manifest.content = fmt.Appendf(manifest.content, "%s  weak.img\n", md5hex(weak.content))
		files := []file{about, manifest}
		if by != nil {
			s1, err1 := by.Sign(manifest.content, testTime)
			s2, err2 := by.Sign(about.content, testTime)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			files = append(files, file{"mf-signature.asc", s1}, file{"signature.asc", s2})
		}
		return tarOf(t, append(files, disk, weak, unlisted)...)
	}
	s := newSite(t)
	s.release("signed", "/signed.xvm", build(key))
	s.release("stranger", "/stranger.xvm", build(stranger))
	s.release("unsigned", "/unsigned.xvm", build(nil))
	h := s.open(func(c *Config) { c.Keyring, c.RequireSigned = ring, true })
	for release, why := range map[string]string{"stranger": "not in the keyring", "unsigned": "there is no mf-signature.asc"} {
		for _, f := range h.pkg(release).All() {
			if _, err := f.Open(t.Context()); !errors.Is(err, archive.ErrRefused) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s/%s: %v", release, f.Name(), err)
			}
		}
		if st := h.rel(release).Status(); st.State != "refused" || !strings.Contains(st.Error, why) {
			t.Errorf("%s: %+v", release, st)
		}
	}
	h.read("signed", "root.img")
	h.read("signed", "xvm.xml")
	for name, why := range map[string]string{"extra.img": "does not list it", "weak.img": "MD5"} {
		if _, err := h.file("signed", name).Open(t.Context()); !errors.Is(err, archive.ErrRefused) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, ok := h.file("signed", "root.img").Attr("user.vmcast.signer"); !ok || !strings.Contains(string(v), "publisher") {
		t.Errorf("signer %q", v)
	}
	h.close()
	h = s.open(func(c *Config) { c.Keyring = ring })
	h.read("stranger", "root.img")
	h.read("signed", "extra.img")
	h.close()

	// A sidecar vouches for what the publisher's manifest does not, block by block.
	operator, ring := publisher(t, "operator")
	first, err1 := key.PublicKey()
	second, err2 := operator.PublicKey()
	both, err3 := xvm.ParseKeyring(append(first, second...))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	s.sidecar, s.dir = t.TempDir(), t.TempDir()
	mustWrite(t, filepath.Join(s.sidecar, "signed.xvm.sidecar"), sidecarFor(t, build(key), build(key), "/signed.xvm", operator))
	h = s.open(func(c *Config) { c.Keyring, c.RequireSigned = both, true })
	for name, want := range map[string]struct {
		content []byte
		signer  string
	}{"root.img": {disk.content, "publisher"}, "extra.img": {unlisted.content, "operator"}, "weak.img": {weak.content, "operator"}} {
		if got := h.read("signed", name); !bytes.Equal(got, want.content) {
			t.Errorf("%s differs", name)
		}
		if st := h.file("signed", name).Status(); st.Verify != "block" {
			t.Errorf("%s: %+v", name, st)
		}
		if v, _ := h.file("signed", name).Attr("user.vmcast.signer"); !strings.Contains(string(v), want.signer) {
			t.Errorf("%s: signer %q", name, v)
		}
	}
	h.refused("stranger", "root.img", "not in the keyring")
	h.close()
	h = s.open(func(c *Config) { c.Keyring, c.RequireSigned = ring, true }) // the publisher is a stranger
	for _, name := range []string{"root.img", "extra.img", "weak.img"} {
		h.read("signed", name)
	}
}

// TestWholeArchive: of a server without ranges the archive is taken once, as
// one stream, and all else comes from that; with a block list too.
func TestWholeArchive(t *testing.T) {
	t.Parallel()
	disk := diskImage(30*blk, 1)
	stored := file{"root.img.gz", gz(t, disk)}
	for name, pkg := range map[string][]byte{
		"ordinary":   tarOf(t, manifestOf(stored), stored),
		"block list": packed(t, true, nil, file{"root.img", disk}),
	} {
		s := newSite(t)
		s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.IgnoreRange})
		s.release("one", "/one.xvm", pkg)
		h := s.open()
		if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
			t.Errorf("%s: wrong content", name)
		}
		if err := h.complete("one", "root.img"); err != nil {
			t.Error(name, err)
		}
		if st := h.rel("one").Status(); st.Transport != "whole" {
			t.Errorf("%s: %s", name, st.Transport)
		}
		if st := h.file("one", "root.img").Status(); st.State != "verified" {
			t.Errorf("%s: %+v", name, st)
		}
		if n := s.origin.Stats("/one.xvm").BytesSent; n > 2*int64(len(pkg))+256<<10 {
			t.Errorf("%s: %d bytes for a package of %d", name, n, len(pkg))
		}
		h.close()
	}
}

// TestCorruptMember: an image that does not match its sum is corrupt, and so is
// what was inflated from it; the others are not concerned.
func TestCorruptMember(t *testing.T) {
	t.Parallel()
	good, disk := file{"good.img", diskImage(2*blk, 1)}, file{"root.img.gz", gz(t, diskImage(4*blk, 2))}
	bad := file{"root.img.gz", bytes.Clone(disk.content)}
	bad.content[4] ^= 1 // the time in its header: it inflates all the same
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(good, disk), good, bad))
	h := s.open()
	fh, err := h.listed("one", "root.img.gz").Open(t.Context())
	if err == nil { // else it was read to its end for the size of what it holds
		err = fh.(interface{ Complete(context.Context) error }).Complete(t.Context())
		fh.Close()
	}
	if !errors.Is(err, cache.ErrCorrupt) {
		t.Error(err)
	}
	if st := h.listed("one", "root.img").Status(); st.State != "corrupt" {
		t.Errorf("%+v", st)
	}
	if _, err := h.listed("one", "root.img").Open(t.Context()); !errors.Is(err, cache.ErrCorrupt) {
		t.Error(err)
	}
	if err := h.complete("one", "good.img"); err != nil {
		t.Error(err)
	}
}

// TestClosed: after Close nothing begins any more, and nothing hangs.
func TestClosed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.xvm", packed(t, true, nil, file{"root.img", diskImage(blk, 1)}))
	h := s.open()
	h.Close()
	if _, err := h.rel("one").Package(context.Background()); err == nil {
		t.Error("a closed catalog indexes")
	}
}
