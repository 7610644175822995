package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// agreeSeeds are archives of many kinds, good and bad ones.
func agreeSeeds(t *testing.T) map[string][]byte {
	t.Helper()
	seeds := make(map[string][]byte)
	for _, pattern := range []string{
		filepath.Join(runtime.GOROOT(), "src/archive/tar/testdata/*.tar*"),
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
	for name, content := range map[string][]byte{
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
		"empty.tar":           nil,
		"text.tar":            []byte("hello\n"),
		"page.tar":            []byte("<!DOCTYPE html><html></html>"),
	} {
		seeds[name] = content
	}
	return seeds
}

// TestMountListVerifyAgree gives the same archives to the catalog, as a mount and
// list have it, and to verify. What one refuses all refuse; what is shown, all
// show. VMCASTFS_TEST_AGREE sets how many damaged archives are tried (10000 take
// some minutes), VMCASTFS_TEST_SEED which.
func TestMountListVerifyAgree(t *testing.T) {
	count, random := 150, uint64(1)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_AGREE"), &count)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_SEED"), &random)
	dir := t.TempDir()
	var items strings.Builder
	n := 0
	add := func(name string, content []byte) {
		file := fmt.Sprintf("%05d-%s", n, name)
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC).Format(time.RFC1123Z)
		fmt.Fprintf(&items, `<item><title>%[1]s</title><guid>%[1]s</guid><pubDate>%[2]s</pubDate><enclosure url="%[1]s" length="1" type="application/x-xvm"/></item>`, file, at)
		n++
	}
	seeds := agreeSeeds(t)
	rnd := rand.New(rand.NewPCG(random, 1))
	var names []string
	for name, content := range seeds {
		add(name, content)
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
		add(name, content)
	}
	address := filepath.Join(dir, "vmcast.xml")
	if err := os.WriteFile(address, []byte(`<rss version="2.0"><channel><title>test</title>`+items.String()+"</channel></rss>"), 0o600); err != nil {
		t.Fatal(err)
	}

	e := &env{stdout: io.Discard, stderr: io.Discard}
	o, err := softOptions(fmt.Sprintf("cache=%s,state=%s,cache_free=0,sig=ignore,complete=off", t.TempDir(), t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(t.Context(), address, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	releases := s.catalog.Snapshot().Releases()
	if len(releases) != n {
		t.Fatalf("%d releases, want %d", len(releases), n)
	}
	refused, shown := 0, 0
	v := &verifier{env: e, options: o}
	for _, r := range releases {
		row := listRelease(t.Context(), r)
		p, err := v.fetched(t.Context(), s, r, address)
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
		var listed, checked []string
		for _, f := range pkg.All() {
			if f.Status().Image || f.Name() != "disk.img" { // that of partitions, which the mount makes
				listed = append(listed, f.Name())
			}
		}
		for _, f := range p.Report.Files {
			checked = append(checked, f.Name)
		}
		slices.Sort(checked)
		if !slices.Equal(listed, checked) {
			t.Errorf("%s: the mount shows %q, verify %q", id, listed, checked)
		}
		for _, h := range row.Hidden {
			name, reason, _ := strings.Cut(h, ": ")
			if !slices.ContainsFunc(p.Report.Warnings, func(w string) bool { return strings.Contains(w, name) && strings.Contains(w, reason) }) {
				t.Errorf("%s: list hides %q, verify says %q", id, h, p.Report.Warnings)
			}
		}
		shown++
	}
	t.Logf("%d archives: %d refused, %d shown", len(releases), refused, shown)
	if refused < 20 || shown < 20 {
		t.Errorf("%d refused and %d shown are too few to mean anything", refused, shown)
	}
}
