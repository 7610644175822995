package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"
)

// agreeSeeds are archives of many kinds, good and bad ones.
func agreeSeeds(t *testing.T) map[string][]byte {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	seeds := make(map[string][]byte)
	for _, pattern := range []string{
		filepath.Join(strings.TrimSpace(string(goroot)), "src/archive/tar/testdata/*.tar*"),
		"../../fs/catalog/testdata/golden/*", "../../fs/catalog/*/testdata/golden/*", "../../xvm/testdata/tar/*.tar",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(path)
			if name == "contents.txt" || name == "make.sh" {
				continue
			}
			if plain, ok := strings.CutSuffix(name, ".base64"); ok {
				raw := base64.NewDecoder(base64.StdEncoding, bytes.NewReader(content))
				if content, err = io.ReadAll(raw); err != nil {
					t.Fatal(err)
				}
				name = plain
			}
			seeds[name] = content
		}
	}
	type member struct{ name, content string }
	made := func(members ...member) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, m := range members {
			kind := byte(tar.TypeReg)
			if strings.HasSuffix(m.name, "/") {
				kind = tar.TypeDir
			}
			if err := w.WriteHeader(&tar.Header{Typeflag: kind, Name: m.name, Mode: 0o644, Size: int64(len(m.content))}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, m.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	sum := strings.Repeat("0", 40)
	frame := func(window string) string { return "\x28\xb5\x2f\xfd\x00" + window + "\x09\x00\x00x" } // of zstd
	maps.Copy(seeds, map[string][]byte{
		"names.tar":           made(member{"../up", "1"}, member{"-rf", "1"}, member{"a,b", "1"}),
		"dirs.tar":            made(member{"a/", ""}, member{"a/b/", ""}),
		"none.tar":            made(),
		"manifest-large.tar":  made(member{"manifest.txt", strings.Repeat("#\n", 3<<20)}, member{"a.img", "1"}),
		"manifest-none.tar":   made(member{"manifest.txt", "hello\n"}, member{"a.img", "1"}),
		"manifest-twice.tar":  made(member{"manifest.txt", sum + "  a.img\n" + strings.Repeat("1", 40) + "  a.img\n"}, member{"a.img", "1"}),
		"manifest-parent.tar": made(member{"manifest.txt", sum + "  ../a.img\n"}, member{"a.img", "1"}),
		"manifest-other.tar":  made(member{"manifest.txt", sum + "  b.img\n"}, member{"a.img", "1"}),
		"xva-order.tar":       made(member{"ova.xml", "<value/>"}, member{"Ref:1/00000001", strings.Repeat("x", 1<<20)}, member{"Ref:1/00000000", strings.Repeat("x", 1<<20)}),
		"xva-short.tar":       made(member{"ova.xml", "<value/>"}, member{"Ref:1/00000000", "x"}, member{"Ref:1/00000001", strings.Repeat("x", 1<<20)}),
		"packed.tar":          made(member{"a.img.gz", "no gzip"}, member{"b.img.gz", "\x1f\x8b"}),
		"window.tar":          made(member{"a.img.zst", frame("X") + frame("\xf8")}),
		"empty.tar":           nil,
		"text.tar":            []byte("hello\n"),
		"page.tar":            []byte("<!DOCTYPE html><html></html>"),
	})
	return seeds
}

// TestMountListVerifyAgree gives the same archives to the catalog, as a mount and
// list have it, and to verify. What one refuses all refuse; what is shown, all
// show. VMCASTFS_TEST_AGREE sets how many damaged archives are tried (10000 take
// some minutes), VMCASTFS_TEST_SEED which.
func TestMountListVerifyAgree(t *testing.T) {
	count, random := 80, uint64(1)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_AGREE"), &count)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_SEED"), &random)
	f := newAgreeFeed(t)
	seeds := agreeSeeds(t)
	rnd := rand.New(rand.NewPCG(random, 1))
	var names []string
	for name, content := range seeds {
		f.add(name, content)
		if len(content) < 256<<10 && len(content) > 512 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for range count {
		name := names[rnd.IntN(len(names))]
		content := bytes.Clone(seeds[name])
		for range 1 + rnd.IntN(3) {
			switch at := rnd.IntN(len(content)); rnd.IntN(4) {
			case 0:
				content = content[:max(1, at)]
			case 1: // of a header, most likely
				content[at/512*512+rnd.IntN(min(512, len(content)-at/512*512))] = byte(rnd.IntN(256))
			case 2:
				content[at] ^= 1 << rnd.IntN(8)
			default:
				content = slices.Insert(content, at/512*512, make([]byte, 512)...)
			}
		}
		f.add(name, content)
	}
	s, o := f.open("sig=ignore")
	f.compare(s, o, nil)
}

// compare gives every package to list and to verify, and compares what they say.
// served is asked about every package that is not refused; nil: nobody is.
func (f *agreeFeed) compare(s *session, o options, served func(r *catalog.Release, pkg *bundle.Package)) {
	t := f.t
	t.Helper()
	refused, shown := 0, 0
	v := &verifier{env: &env{stdout: io.Discard, stderr: io.Discard}, options: o}
	v.how.RequireSigned = o.Sig == "require"
	var err error
	if v.how.Keyring, err = loadKeyring(o, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.catalog.Snapshot().Releases() {
		row := listRelease(t.Context(), r)
		p, err := v.fetched(t.Context(), s, r, f.address())
		id := r.Item().ID
		verifyRefuses := err != nil || p.Report.Refused != ""
		if listRefuses := row.State != "indexed"; listRefuses != verifyRefuses {
			report := ""
			if p.Report != nil {
				report = p.Report.Refused
			}
			t.Errorf("%s: list says %s (%s), verify %v (%s)", id, row.State, row.Error, err, report)
			continue
		}
		if verifyRefuses {
			refused++
			if err == nil && len(p.Report.Faults) == 0 {
				t.Errorf("%s: refused without a fault: %s", id, p.Report.Refused)
			}
			continue
		}
		if row.Error != "" && len(p.Report.Faults) == 0 {
			t.Errorf("%s: list says %q, verify finds no fault", id, row.Error)
		}
		pkg, err := r.Package(t.Context())
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		shown++
		listed, checked := make(map[string]string), make(map[string]string) // why each is refused
		for _, file := range pkg.All() {
			if st := file.Status(); st.Image || file.Name() != "disk.img" || st.Parts == nil { // but for that of partitions
				listed[file.Name()] = st.Refused
			}
		}
		for _, file := range p.Report.Files {
			checked[file.Name] = file.Refused
		}
		if !maps.Equal(listed, checked) {
			t.Errorf("%s: the mount shows %q, verify %q", id, listed, checked)
		}
		for _, h := range row.Hidden {
			name, reason, _ := strings.Cut(h, ": ")
			if !slices.ContainsFunc(p.Report.Warnings, func(w string) bool { return strings.Contains(w, name) && strings.Contains(w, reason) }) {
				t.Errorf("%s: list hides %q, verify says %q", id, h, p.Report.Warnings)
			}
		}
		for _, fault := range p.Report.Faults {
			name, missing := strings.CutSuffix(fault, " is missing: the manifest lists it")
			if missing && !slices.ContainsFunc(row.Warnings, func(w string) bool { return strings.Contains(w, strconv.Quote(name)) }) {
				t.Errorf("%s: verify misses %q, list says %q", id, name, row.Warnings)
			}
		}
		if served != nil {
			served(r, pkg)
		}
	}
	t.Logf("%d packages: %d refused, %d shown", f.n, refused, shown)
	if refused < 20 || shown < 20 {
		t.Errorf("%d refused and %d shown are too few to mean anything", refused, shown)
	}
}

// agreeFeed is a feed of packages on this machine.
type agreeFeed struct {
	t     *testing.T
	dir   string
	items strings.Builder
	n     int
}

func newAgreeFeed(t *testing.T) *agreeFeed { return &agreeFeed{t: t, dir: t.TempDir()} }

// id is that of the package that is added next under a name.
func (f *agreeFeed) id(name string) string { return fmt.Sprintf("%05d-%s", f.n, name) }

func (f *agreeFeed) add(name string, content []byte) {
	f.t.Helper()
	file := f.id(name)
	if err := os.WriteFile(filepath.Join(f.dir, file), content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, f.n, 0, time.UTC).Format(time.RFC1123Z)
	fmt.Fprintf(&f.items, `<item><title>%[1]s</title><guid>%[1]s</guid><pubDate>%[2]s</pubDate><enclosure url="%[1]s" length="1" type="application/x-xvm"/></item>`, file, at)
	f.n++
}

func (f *agreeFeed) address() string { return filepath.Join(f.dir, "vmcast.xml") }

// open shows the feed as list does, with further options.
func (f *agreeFeed) open(more string) (*session, options) {
	f.t.Helper()
	if err := os.WriteFile(f.address(), []byte(`<rss version="2.0"><channel><title>test</title>`+f.items.String()+"</channel></rss>"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	o, err := softOptions(fmt.Sprintf("cache=%s,state=%s,cache_free=0,complete=off,%s", f.t.TempDir(), f.t.TempDir(), more))
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := openSession(f.t.Context(), f.address(), o, slog.New(slog.DiscardHandler))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(s.close)
	if got := len(s.catalog.Snapshot().Releases()); got != f.n {
		f.t.Fatalf("%d releases are shown, of %d", got, f.n)
	}
	return s, o
}
