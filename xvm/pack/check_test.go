package pack

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// states are "name state" of all files.
func states(r *Report) string {
	var b strings.Builder
	for _, f := range r.Files {
		fmt.Fprintf(&b, "%s %s\n", f.Name, f.State)
	}
	return b.String()
}

func TestCheckOwnPackage(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	pkg := build(t, options(t, s))
	for _, o := range []CheckOptions{{}, {Keyring: ring}, {Keyring: ring, RequireSigned: true, Workers: 1}} {
		r := check(t, pkg, o)
		if len(r.Faults) > 0 || len(r.Warnings) > 0 {
			t.Errorf("faults %q, warnings %q", r.Faults, r.Warnings)
		}
		for _, f := range r.Files {
			signed := strings.HasSuffix(f.Name, ".asc") || f.Name == "manifest.txt"
			if want := map[bool]State{true: Unverified, false: Verified}[signed && o.Keyring == nil]; f.State != want {
				t.Errorf("%s is %s, want %s", f.Name, f.State, want)
			}
		}
		root := r.file("root.img")
		if root == nil || root.Size != 1<<20+777 || strings.Join(root.Proofs, "; ") != "all 17 blocks in blocks.txt; inflated from root.img.gz" {
			t.Errorf("root.img: %+v", root)
		}
		if raw := r.file("raw.img"); strings.Join(raw.Proofs, "; ") != "sha256 and sha1 in the manifest; all 4 blocks in blocks.txt" {
			t.Errorf("raw.img: %+v", raw)
		}
		if xml := r.file("xvm.xml"); o.Keyring != nil && !strings.HasPrefix(strings.Join(xml.Proofs, "; "), "sha256 and sha1 in the manifest; signature.asc by Publisher") {
			t.Errorf("xvm.xml: %+v", xml)
		}
	}
}

func walk(t testing.TB, pkg []byte) *xvm.Index {
	t.Helper()
	index, err := xvm.Walk(t.Context(), memory(pkg), int64(len(pkg)), xvm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestOneFlippedByteIsFound flips a bit at every boundary that matters, of
// headers, content, padding and blocks, and of some hundred bytes between.
func TestOneFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	o := options(t, s)
	o.Inputs = []Input{input("root.img", image(200_000, 1)), input("swap.img.gz", gzipped(t, image(50_000, 4)))}
	o.Profile = nil
	pkg := build(t, o)
	at := make(map[int64]bool)
	near := func(off int64) {
		for i := max(0, off-1); i < min(off+1, int64(len(pkg))); i++ {
			at[i] = true
		}
	}
	headers := make(map[int64]bool)
	for _, m := range walk(t, pkg).Members {
		headers[m.Offset-512] = true
		for _, off := range []int64{m.Offset - 512, m.Offset - 300, m.Offset, m.Offset + m.Stored, m.Offset + m.Stored + padding(m.Stored)} {
			near(off)
		}
		if m.Size < 4096 && m.Size > 0 {
			for i := range m.Size / 7 {
				at[m.Offset+7*i] = true
			}
		}
	}
	near(int64(len(pkg)))
	for i := int64(0); i < int64(len(pkg)); i += int64(len(pkg) / 150) {
		at[i] = true
	}
	for i := range at {
		if h := i / 512 * 512; headers[h] && i-h >= 148 && i-h < 156 {
			continue // the sum of the header may be written in several ways
		}
		bad := bytes.Clone(pkg)
		bad[i] ^= 1 << (i % 8)
		r, err := Check(t.Context(), memory(bad), int64(len(bad)), CheckOptions{Keyring: ring, RequireSigned: true, Workers: 1})
		if err == nil && len(r.Faults) == 0 {
			t.Errorf("a flipped bit of byte %d (%#02x) is not found", i, pkg[i])
		}
	}
}

func TestFlippedBlockIsNamed(t *testing.T) {
	t.Parallel()
	s, _ := signer(t)
	pkg := build(t, options(t, s))
	for _, m := range walk(t, pkg).Members {
		if m.Name == "raw.img" {
			pkg[m.Offset+65536+10] ^= 1
		}
	}
	r := check(t, pkg, CheckOptions{})
	raw := r.file("raw.img")
	if raw.State != Corrupt || len(r.Faults) != 3 || r.Faults[2] != "raw.img: block 1 (at 65536) differs" {
		t.Errorf("%+v, %q", raw, r.Faults)
	}
	if f := r.file("root.img"); f.State != Verified {
		t.Errorf("root.img suffers: %+v", f)
	}
}

type file struct {
	name    string
	content []byte
}

func tarred(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: testTime}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCheckOtherPackages(t *testing.T) {
	t.Parallel()
	disk := image(3<<20, 5)
	packed := gzipped(t, disk)
	sum := func(p []byte) string { return fmt.Sprintf("%x", sha1.Sum(p)) }
	for name, c := range map[string]struct {
		files  []file
		states string
		faults string // what each of them says
	}{
		"XVM": {
			[]file{{"xvm.xml", []byte(description)}, {"root.img.gz", packed}, {"manifest.txt", []byte(sum(packed) + "  root.img.gz\n")}},
			"xvm.xml unverified\nroot.img.gz verified\nroot.img verified\nmanifest.txt unverified\n", "",
		},
		"XVM, wrong sum": {
			[]file{{"root.img.gz", packed}, {"manifest.txt", []byte(sum(disk) + "  root.img.gz\n")}},
			"root.img.gz corrupt\nroot.img unverified\nmanifest.txt unverified\n", "root.img.gz: its sha1 is",
		},
		"S1: a file is missing": {
			[]file{{"a", disk}, {"manifest.txt", []byte(sum(disk) + "  a\n" + sum(packed) + "  b\n")}},
			"a verified\nmanifest.txt unverified\n", "b is missing",
		},
		"S3: a manifest that contradicts itself": {
			[]file{{"a", disk}, {"manifest.txt", []byte(sum(disk) + "  a\n" + sum(packed) + "  a\n")}},
			"a unverified\nmanifest.txt unverified\n", "manifest.txt",
		},
		"names relative to elsewhere": {
			[]file{{"d/a", disk}, {"d/manifest.txt", []byte(sum(disk) + "  d/a\n")}},
			"a unverified\nmanifest.txt unverified\n", "the manifest lists d/a, but its names are relative to where it is: there it is a",
		},
		"no manifest": {[]file{{"a.img", disk}}, "a.img unverified\n", ""},
		"C2: damaged gzip that the manifest vouches for": {
			[]file{{"a.img.gz", packed[:5000]}, {"manifest.txt", []byte(sum(packed[:5000]) + "  a.img.gz\n")}},
			"a.img.gz verified\na.img corrupt\nmanifest.txt unverified\n", "a.img: a.img.gz cannot be decompressed",
		},
		"XVM2": {
			[]file{{"hd0.img.gz", packed}, {"manifest.txt", fmt.Appendf(nil, "hd0.img %d %x\n", len(disk), md5.Sum(disk))}},
			"hd0.img.gz verified\nhd0.img verified\nmanifest.txt unverified\n", "",
		},
		"XVM2, sum of the beginning": {
			[]file{{"hd0.img.gz", packed}, {"manifest.txt", fmt.Appendf(nil, "hd0.img %d %x\n", len(disk), md5.Sum(disk[:1<<20]))}},
			"hd0.img.gz unverified\nhd0.img unverified\nmanifest.txt unverified\n", "",
		},
		"XVM2, wrong sum": {
			[]file{{"hd0.img.gz", packed}, {"manifest.txt", fmt.Appendf(nil, "hd0.img %d %x\n", len(disk), md5.Sum(disk[1:]))}},
			"hd0.img.gz unverified\nhd0.img corrupt\nmanifest.txt unverified\n", "hd0.img: its md5 is",
		},
		"XVM2, wrong size": {
			[]file{{"hd0.img.gz", packed}, {"manifest.txt", fmt.Appendf(nil, "hd0.img %d %x\n", len(disk)+1, md5.Sum(disk))}},
			"hd0.img.gz unverified\nhd0.img corrupt\nmanifest.txt unverified\n", "hd0.img: it has",
		},
		"OVA": {
			[]file{{"m.ovf", []byte("<Envelope/>")}, {"m.mf", fmt.Appendf(nil, "SHA1(m.ovf)= %x\nSHA1(m.vmdk)= %s\n", sha1.Sum([]byte("<Envelope/>")), sum(disk))}, {"m.vmdk", disk}},
			"m.ovf verified\nm.mf unverified\nm.vmdk verified\n", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := check(t, tarred(t, c.files...), CheckOptions{})
			if got := states(r); got != c.states {
				t.Errorf("states:\n%swant:\n%s", got, c.states)
			}
			if c.faults == "" && len(r.Faults) > 0 || c.faults != "" && (len(r.Faults) != 1 || !strings.Contains(r.Faults[0], c.faults)) {
				t.Errorf("faults %q, want one of %q", r.Faults, c.faults)
			}
		})
	}
}

func TestUnlistedBlockListProvesNothing(t *testing.T) {
	t.Parallel()
	disk := image(200_000, 6)
	var list bytes.Buffer
	w := xvm.NewBlockListWriter(&list)
	table := sums.NewTable(int64(len(disk)), 4096)
	h := tableHasher(table)
	if _, err := h.Write(disk); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Finish(), listTable(w, "a.img", table), w.Close()); err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Appendf(nil, "%x  blocks.txt\n", sha1.Sum(list.Bytes()))
	r := check(t, tarred(t, file{"a.img", disk}, file{"blocks.txt", list.Bytes()}), CheckOptions{})
	if f := r.file("a.img"); f.State != Unverified || len(r.Warnings) != 2 {
		t.Errorf("without a manifest: %+v, %q", f, r.Warnings)
	}
	r = check(t, tarred(t, file{"a.img", disk}, file{"blocks.txt", list.Bytes()}, file{"manifest.txt", manifest}), CheckOptions{})
	if f := r.file("a.img"); f.State != Verified || len(r.Faults) > 0 {
		t.Errorf("with one: %+v, %q", f, r.Faults)
	}
}

func TestCheckPolicy(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	_, other := signer(t)
	pkg, unsigned := build(t, options(t, s)), build(t, options(t, nil))
	for name, c := range map[string]struct {
		pkg    []byte
		o      CheckOptions
		faults bool
	}{
		"signed by another key":     {pkg, CheckOptions{Keyring: other}, true},
		"unsigned, required":        {unsigned, CheckOptions{Keyring: ring, RequireSigned: true}, true},
		"unsigned, not required":    {unsigned, CheckOptions{Keyring: ring}, false},
		"signed, before the key":    {pkg, CheckOptions{Keyring: ring, Now: testTime.AddDate(0, 0, -1)}, true},
		"signed, without a keyring": {pkg, CheckOptions{}, false},
	} {
		if r := check(t, c.pkg, c.o); (len(r.Faults) > 0) != c.faults {
			t.Errorf("%s: faults %q", name, r.Faults)
		}
	}
}

// TestCheckSigned: where signatures are required, what is wrong is what a mount
// would not open: a signed manifest must list a file, by a digest that means
// something; a sidecar that a trusted key signed will do as well.
func TestCheckSigned(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	disk := image(1<<20, 5)
	packed := gzipped(t, disk)
	sum := func(f file) string { return fmt.Sprintf("%x  %s\n", sha1.Sum(f.content), f.name) }
	a := file{"a.img", disk}
	for name, c := range map[string]struct {
		manifest string
		files    []file
		faults   []string
	}{
		"no description":     {sum(a), []file{a}, nil},
		"inflated":           {sum(file{"a.img.gz", packed}), []file{{"a.img.gz", packed}}, nil},
		"XVM2":               {fmt.Sprintf("a.img %d %x\n", len(disk), md5.Sum(disk)), []file{{"a.img.gz", packed}}, []string{"a.img.gz: the signed manifest lists it only by", "a.img: it is inflated from a.img.gz: the signed manifest lists it only by"}},
		"unlisted":           {sum(a), []file{a, {"b.img", disk}}, []string{"b.img: the signed manifest does not list it"}},
		"MD5":                {fmt.Sprintf("%x  a.img\n", md5.Sum(disk)), []file{a}, []string{"a.img: the signed manifest lists it only by"}},
		"MD5 beside another": {fmt.Sprintf("%x  a.img\n", md5.Sum(disk)) + sum(a), []file{a}, nil},
	} {
		signature, err := s.Sign([]byte(c.manifest), testTime)
		if err != nil {
			t.Fatal(err)
		}
		pkg := tarred(t, append([]file{{"manifest.txt", []byte(c.manifest)}, {"mf-signature.asc", signature}}, c.files...)...)
		o := CheckOptions{Keyring: ring, RequireSigned: true}
		got := check(t, pkg, o).Faults
		if len(got) != len(c.faults) {
			t.Errorf("%s: faults %q", name, got)
			continue
		}
		for i, want := range c.faults {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: fault %q, want %q", name, got[i], want)
			}
		}
		var side bytes.Buffer
		if _, err := Index(t.Context(), memory(pkg), int64(len(pkg)), &side, IndexOptions{Sign: KeySign(s), TempDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		if o.Sidecar, err = xvm.ReadSidecar(&side); err != nil {
			t.Fatal(err)
		}
		if got := check(t, pkg, o).Faults; len(got) > 0 {
			t.Errorf("%s, with a sidecar: faults %q", name, got)
		}
	}
}

// TestS7CheckOtherSignatures: one good signature is enough, and the one beside it is told.
func TestS7CheckOtherSignatures(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	stranger, _ := signer(t)
	disk := image(1<<20, 5)
	manifest := fmt.Appendf(nil, "%x  a.img\n", sha1.Sum(disk))
	var both []byte
	for _, by := range []*xvm.Signer{stranger, s} {
		signature, err := by.Sign(manifest, testTime)
		if err != nil {
			t.Fatal(err)
		}
		block, err := armor.Decode(bytes.NewReader(signature))
		if err != nil {
			t.Fatal(err)
		}
		packet, err := io.ReadAll(block.Body)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, packet...)
	}
	pkg := tarred(t, file{"manifest.txt", manifest}, file{"mf-signature.asc", both}, file{"a.img", disk})
	r := check(t, pkg, CheckOptions{Keyring: ring, RequireSigned: true})
	if len(r.Faults) > 0 || !slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "others do not count") }) {
		t.Errorf("faults %q, warnings %q", r.Faults, r.Warnings)
	}
}

func TestCheckSparse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "s.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1 << 20, 3<<20 + 4096} {
		if _, err := f.WriteAt(bytes.Repeat([]byte("data"), 1024), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(5<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "bash", "-c", "sha1sum s.img >manifest.txt")
	for _, format := range []string{"gnu", "posix"} {
		run(t, dir, "tar", "-S", "--format="+format, "-cf", "p.xvm", "manifest.txt", "s.img")
		pkg, err := os.ReadFile(filepath.Join(dir, "p.xvm"))
		if err != nil {
			t.Fatal(err)
		}
		if len(pkg) > 1<<20 {
			t.Error("the archive is not sparse")
		}
		r := check(t, pkg, CheckOptions{})
		if f := r.file("s.img"); f.State != Verified || f.Size != 5<<20 || len(r.Faults) > 0 {
			t.Errorf("%s: %+v, %q", format, f, r.Faults)
		}
	}
}

// TestCheckLinks: a hard link is a file of its own, with its own sums and plain
// content, as in a mount.
func TestCheckLinks(t *testing.T) {
	t.Parallel()
	disk := image(1<<20, 5)
	packed := gzipped(t, disk)
	sum := func(p []byte) string { return fmt.Sprintf("%x", sha1.Sum(p)) }
	for name, c := range map[string]struct {
		file           file
		manifest       string
		links          []string
		states, faults string
	}{
		"unlisted":  {file{"a", disk}, sum(disk) + "  a\n", []string{"b"}, "a verified\nmanifest.txt unverified\nb verified\n", ""},
		"listed":    {file{"a", disk}, sum(disk) + "  b\n", []string{"b"}, "a unverified\nmanifest.txt unverified\nb verified\n", ""},
		"wrong sum": {file{"a", disk}, sum(disk) + "  a\n" + sum(packed) + "  b\n", []string{"b"}, "a verified\nmanifest.txt unverified\nb corrupt\n", "b: its sha1 is"},
		"plain":     {file{"a", packed}, sum(packed) + "  b.img.gz\n", []string{"b.img.gz"}, "a unverified\nmanifest.txt unverified\nb.img.gz verified\nb.img verified\n", ""},
		"no gzip":   {file{"a", disk}, sum(disk) + "  a\n", []string{"b.img.gz"}, "a verified\nmanifest.txt unverified\nb.img.gz verified\nb.img corrupt\n", "b.img: b.img.gz cannot be decompressed"},
		"two of one plain name": {
			file{"b.img.gz", packed}, sum(packed) + "  b.img.gz\n", []string{"b.img.gzip", "c.img.gz"},
			"b.img.gz verified\nb.img verified\nmanifest.txt unverified\nb.img.gzip verified\nc.img.gz verified\nc.img verified\n", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, f := range []file{c.file, {"manifest.txt", []byte(c.manifest)}} {
				if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: testTime}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(f.content); err != nil {
					t.Fatal(err)
				}
			}
			for _, link := range c.links {
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: link, Linkname: c.file.name, Mode: 0o644, ModTime: testTime}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r := check(t, b.Bytes(), CheckOptions{})
			if got := states(r); got != c.states {
				t.Errorf("states:\n%swant:\n%s", got, c.states)
			}
			if c.faults == "" && len(r.Faults) > 0 || c.faults != "" && (len(r.Faults) != 1 || !strings.Contains(r.Faults[0], c.faults)) {
				t.Errorf("faults %q, want one of %q", r.Faults, c.faults)
			}
		})
	}
}
