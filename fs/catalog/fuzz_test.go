package catalog

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
	"unicode"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
)

// allocated runs what is fuzzed and returns how many bytes of memory it asked for.
func allocated(run func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	run()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// fuzzCatalog is a catalog of a local feed with one release, on a store of its own.
func fuzzCatalog(t testing.TB, archive []byte) *Catalog {
	t.Helper()
	dir, err := os.MkdirTemp(memoryDir(), "vmcastfs-fuzz-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const doc = `<rss version="2.0"><channel><title>t</title><item><title>one</title><guid>1</guid>
<description>notes</description><enclosure url="one.xvm" length="1" type="application/x-xvm"/></item></channel></rss>`
	at := time.Unix(1e9, 0)
	for name, content := range map[string][]byte{"vmcast.xml": []byte(doc), "one.xvm": archive} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.Open(store.Options{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.New(cache.Options{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	r, err := remote.NewClient(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cat := New(Config{FeedURL: filepath.Join(dir, "vmcast.xml"), Store: st, Cache: c, Remote: r})
	t.Cleanup(func() {
		cat.Close()
		c.Close()
		r.Close()
		st.Close()
	})
	if err := cat.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cat
}

// memoryDir is a directory that syncs cost nothing in, if there is one.
func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// checkPackage holds what is shown of a package to what the mount relies on,
// and reads a little of everything.
func checkPackage(t testing.TB, cat *Catalog) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	release := cat.Snapshot().Latest()
	p, err := release.Package(ctx)
	if err != nil {
		if ctx.Err() != nil {
			t.Error("indexing hangs")
		}
		if p != nil {
			t.Error("a package and an error")
		}
	} else {
		for _, f := range p.All() {
			name := f.Name()
			if name != path.Clean(name) || path.IsAbs(name) || name == "." || name == ".." || strings.HasPrefix(name, "../") ||
				strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == ',' }) {
				t.Errorf("file name %q", name)
			}
			if n, _ := f.Blocks(); f.Size() < store.Unknown || n < 0 && f.Size() >= 0 {
				t.Errorf("%q has size %d, %d blocks", name, f.Size(), n)
			}
			h, err := f.Open(ctx)
			if err != nil {
				continue
			}
			for _, off := range []int64{0, f.Size() - 100} {
				b := make([]byte, 512)
				n, err := h.ReadAt(ctx, b, max(off, 0))
				if err != nil && err != io.EOF && n > len(b) || n < 0 {
					t.Errorf("%q at %d: %d, %v", name, off, n, err)
				}
			}
			_, _ = h.SeekData(0)
			_, _ = h.SeekHole(0)
			h.Close()
			for _, attr := range []string{"state", "format", "sha256", "signer", "source", "cached_bytes"} {
				f.Attr("user.vmcast." + attr)
			}
		}
	}
	if ctx.Err() != nil {
		t.Error("reading hangs")
	}
	for _, r := range string(cat.StatusJSON()) {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("the status has the character %U", r)
		}
	}
}

// fuzzArchive is a package of everything the catalog looks at.
func fuzzArchive(t testing.TB, extra ...string) []byte {
	t.Helper()
	var packed, b bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, strings.Repeat("plain", 300))
	z.Close()
	w := tar.NewWriter(&b)
	members := append([]string{
		"xvm.xml", "<xvm><name>n</name><disk file='disk.img'/></xvm>",
		"manifest.txt", "da39a3ee5e6b4b0d3255bfef95601890afd80709  empty.img\nhd0.img 1500 d41d8cd98f00b204e9800998ecf8427e\n",
		"blocks.txt", "vmcast-blocks 1\nimage disk.img\nsize 700\nblock 4096\nblocks 1\n" + strings.Repeat("0", 64) + "\nend\n",
		"profile.txt", "vmcast-profile 1\ndisk.img 0 512\n",
		"mf-signature.asc", "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n",
		"empty.img", "", "disk.img", strings.Repeat("disk", 175), "hd0.img.gz", packed.String(),
	}, extra...)
	for i := 0; i < len(members); i += 2 {
		h := &tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1])), ModTime: time.Unix(1e9, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, members[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// FuzzPackage opens any bytes as the package of a release. Header sums are
// mended, or hardly a change would come past them.
func FuzzPackage(f *testing.F) {
	f.Add(fuzzArchive(f))
	f.Add(fuzzArchive(f, "description.xml", "<domain/>", "b.img.xz", "\xfd7zXZ\x00", "c.img.zst", "\x28\xb5\x2f\xfd", "d.img.bz2", "BZh9"))
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		if len(archive) > 1<<20 {
			return
		}
		archive = bytes.Clone(archive)
		for off := 0; off+512 <= len(archive); off += 512 {
			if h := archive[off : off+512]; string(h[257:262]) == "ustar" {
				copy(h[148:156], "        ")
				sum := 0
				for _, c := range h {
					sum += int(c)
				}
				copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
			}
		}
		used := allocated(func() { checkPackage(t, fuzzCatalog(t, archive)) })
		if used > 256<<20+256*uint64(len(archive)) {
			t.Errorf("a package of %d bytes took %d bytes of memory", len(archive), used)
		}
	})
}

// FuzzPackageDoc has any document for the index that an earlier process kept.
func FuzzPackageDoc(f *testing.F) {
	archive := fuzzArchive(f)
	cat := fuzzCatalog(f, archive)
	checkPackage(f, cat)
	release := cat.Snapshot().Latest()
	seed, err := cat.cfg.Store.GetDoc("package", docName(release))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, doc []byte) {
		cat := fuzzCatalog(t, archive)
		if err := cat.cfg.Store.PutDoc("package", docName(cat.Snapshot().Latest()), doc); err != nil {
			t.Fatal(err)
		}
		used := allocated(func() { checkPackage(t, cat) })
		if used > 256<<20+256*uint64(len(doc)) {
			t.Errorf("an index of %d bytes took %d bytes of memory", len(doc), used)
		}
	})
}
