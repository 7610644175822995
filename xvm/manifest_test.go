package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"vmcastfs/xvm/sums"
)

var (
	hex32  = strings.Repeat("a1", 16)
	hex40  = strings.Repeat("b2", 20)
	hex64  = strings.Repeat("c3", 32)
	hex128 = strings.Repeat("d4", 64)
)

func TestManifestForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text, member string
		want               []sums.Sum
	}{
		{"sha1sum text", hex40 + "  root.img\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"sha1sum binary", hex40 + " *root.img\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"md5sum", hex32 + "  root.img", "root.img", []sums.Sum{{Algo: sums.MD5, Hex: hex32}}},
		{"sha256sum", hex64 + "  root.img", "root.img", []sums.Sum{{Algo: sums.SHA256, Hex: hex64}}},
		{"sha512sum", hex128 + "  root.img", "root.img", []sums.Sum{{Algo: sums.SHA512, Hex: hex128}}},
		{"md5 -r", hex32 + " root.img", "root.img", []sums.Sum{{Algo: sums.MD5, Hex: hex32}}},
		{"tab", hex32 + "\troot.img", "root.img", []sums.Sum{{Algo: sums.MD5, Hex: hex32}}},
		{"upper case", strings.ToUpper(hex40) + "  root.img\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"crlf", hex40 + "  root.img\r\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"bom", "\xef\xbb\xbf" + hex40 + "  root.img\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"comment, blank", "# made by hand\n\n  \n" + hex40 + "  root.img\n", "root.img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"spaces in name", hex40 + "  my disk .img\n", "my disk .img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"name begins with a blank", hex40 + "   x\n", " x", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"escaped", `\` + hex40 + `  a\\b` + "\n", `a\b`, []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"backslash not escaped", hex40 + `  a\nb` + "\n", `a\nb`, []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"bsd tag", "SHA256 (root.img) = " + hex64, "root.img", []sums.Sum{{Algo: sums.SHA256, Hex: hex64}}},
		{"bsd tag escaped", `\SHA256 (a\\b) = ` + hex64, `a\b`, []sums.Sum{{Algo: sums.SHA256, Hex: hex64}}},
		{"bsd tag, parentheses in name", "SHA1 (root (1).img) = " + hex40, "root (1).img", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"ovf", "SHA256(a.vmdk)= " + hex64, "a.vmdk", []sums.Sum{{Algo: sums.SHA256, Hex: hex64}}},
		{"ovf sha1", "SHA1(a.vmdk)=" + hex40, "a.vmdk", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"openssl 3", "SHA2-256(a.vmdk)= " + hex64, "a.vmdk", []sums.Sum{{Algo: sums.SHA256, Hex: hex64}}},
		{"dashed", "SHA-512 (a.vmdk) = " + hex128, "a.vmdk", []sums.Sum{{Algo: sums.SHA512, Hex: hex128}}},
		{"mixed, strongest first", hex40 + "  a\nSHA256 (a) = " + hex64 + "\n" + hex32 + "  a\n", "a",
			[]sums.Sum{{Algo: sums.SHA256, Hex: hex64}, {Algo: sums.SHA1, Hex: hex40}, {Algo: sums.MD5, Hex: hex32}}},
		{"said twice alike", hex40 + "  a\n" + hex40 + " *./a\n", "a", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"garbage between", "hello\n" + hex40 + "  a\nbye bye\n", "a", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"asked by another spelling", hex40 + "  d/a\n", "./d//a", []sums.Sum{{Algo: sums.SHA1, Hex: hex40}}},
		{"absent", hex40 + "  a\n", "b", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseManifest("manifest.txt", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Sums(tt.member); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Sums(%q) = %v, want %v", tt.member, got, tt.want)
			}
			if got := m.Lists(tt.member); got != (tt.want != nil) {
				t.Errorf("Lists(%q) = %v", tt.member, got)
			}
		})
	}
}

func TestManifestXVM2(t *testing.T) {
	t.Parallel()
	text := "hd0.img 3221225472 " + hex32 + "\nmy cd.iso 1048576 " + strings.ToUpper(hex32) + "\nempty 0 " + hex32 + "\n" +
		hex32 + " 5 " + hex32 + "\n"
	m, err := ParseManifest("manifest.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	whole, prefix := sums.Sum{Algo: sums.MD5, Hex: hex32}, sums.Sum{Algo: sums.MD5, Hex: hex32, Prefix: 1 << 20}
	for name, want := range map[string]Plain{
		"hd0.img":   {3221225472, []sums.Sum{whole, prefix}},
		"my cd.iso": {1048576, []sums.Sum{whole}},
		"empty":     {0, []sums.Sum{whole}},
		hex32:       {5, []sums.Sum{whole}},
	} {
		if got, ok := m.Plain(name); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("Plain(%q) = %v %v, want %v", name, got, ok, want)
		}
		if m.Sums(name) != nil {
			t.Errorf("Sums(%q) of the stored bytes come from nowhere", name)
		}
		if !m.Lists(name) || !m.Lists(name+".gz") {
			t.Errorf("%q or its .gz is not listed", name)
		}
	}
	if _, ok := m.Plain("hd1.img"); ok || m.Lists("hd1.img.gz") {
		t.Error("hd1.img is listed")
	}
	if want := []string{hex32, "empty", "hd0.img", "my cd.iso"}; !reflect.DeepEqual(m.Names(), want) {
		t.Errorf("Names() = %q, want %q", m.Names(), want)
	}
	// In the GNU dialect a later line of this form is no disk.
	m, err = ParseManifest("manifest.txt", []byte(hex40+"  a\nhd0.img 12 "+hex32+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Lists("hd0.img") || len(m.Warnings()) != 1 {
		t.Errorf("dialects mixed: %q, %q", m.Names(), m.Warnings())
	}
}

func TestS1Listing(t *testing.T) {
	t.Parallel()
	m, err := ParseManifest("manifest.txt", []byte(hex40+"  a.gz\n"+hex40+"  absent\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Lists("a.gz.gz") || m.Lists("a") || !m.Lists("a.gz") {
		t.Error("listing of stored names is not exact")
	}
	if want := []string{"a.gz", "absent"}; !reflect.DeepEqual(m.Names(), want) {
		t.Errorf("Names() = %q", m.Names())
	}
}

func TestS2Names(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a": "a", "./a": "a", "a//b": "a/b", "a/./b": "a/b", "/a": "a", "././/a/": "a", "a b": "a b", "é": "é", "..a": "..a",
		"..": "", "a/../b": "", "../a": "", "": "", ".": "", "/": "", "a\x1bb": "", "a\x7f": "", "a\u0085": "", "\xff": "", "a\nb": "",
		strings.Repeat("a", maxManifestName+1): "",
	} {
		got, err := manifestName(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("manifestName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestManifestRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"S2 dotdot":           hex40 + "  ../a\n",
		"S2 dotdot tagged":    "SHA1 (a/../b) = " + hex40,
		"S2 escaped newline":  `\` + hex40 + `  a\nb` + "\n",
		"S2 utf-16":           "\xff\xfea\x00",
		"S2 NUL":              hex40 + "  a\x00b\n",
		"S3 two sums":         hex40 + "  a\n" + strings.Repeat("0", 40) + "  a\n",
		"S3 two spellings":    hex40 + "  a\nSHA1 (./a) = " + strings.Repeat("0", 40),
		"S3 xvm2 md5":         "a 1 " + hex32 + "\na 1 " + strings.Repeat("0", 32),
		"S3 xvm2 size":        "a 1 " + hex32 + "\na 2 " + hex32,
		"S6 cleartext signed": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + hex40 + "  a\n",
		"empty":               "",
		"html":                "<!DOCTYPE html>\n<html><body>404 not found</body></html>\n",
		"T18 size":            strings.Repeat(" ", MaxManifestSize) + "\n",
		"T18 entries":         strings.Repeat(hex32+"  a\n", MaxManifestEntries+1),
	} {
		if m, err := ParseManifest("manifest.txt", []byte(text)); !errors.Is(err, ErrManifest) || m != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		} else if len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
			t.Errorf("%s: message %q", name, err)
		}
	}
}

func TestS4Unsupported(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"crc":           "12345678  a\n",
		"sha224":        strings.Repeat("a", 56) + "  a\n",
		"not hex":       strings.Repeat("z", 40) + "  a\n",
		"short tagged":  "SHA256 (a) = " + hex40,
		"blake":         "BLAKE2b (a) = " + hex128,
		"sha512/256":    "SHA512/256 (a) = " + hex64,
		"empty digest":  "SHA256 (a) = ",
		"ovf not hex":   "SHA1(a)= " + strings.Repeat("g", 40),
		"base64 digest": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=  a",
	} {
		m, err := ParseManifest("manifest.txt", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Sums("a") != nil || len(m.Unsupported("a")) != 1 || !m.Lists("a") {
			t.Errorf("%s: sums %v, unsupported %q", name, m.Sums("a"), m.Unsupported("a"))
		}
	}
	if !(sums.Sum{Algo: sums.MD5}).Weak() || !(sums.Sum{Algo: sums.SHA256, Prefix: 1}).Weak() || (sums.Sum{Algo: sums.SHA1}).Weak() {
		t.Error("Weak")
	}
}

func TestManifestWarningsBounded(t *testing.T) {
	t.Parallel()
	m, err := ParseManifest("manifest.txt", []byte(hex40+"  a\n"+strings.Repeat("x\n", 5000)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Warnings()); n != maxManifestNotes+1 {
		t.Errorf("%d warnings", n)
	}
}

// TestManifestOfTools lets coreutils make manifests and check ours.
func TestManifestOfTools(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{"root.img", "with space", `back\slash`, "(1) = x", "d/e"}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return out
	}
	var ours []byte
	for i, tool := range [][]string{{"md5sum"}, {"sha1sum", "-b"}, {"sha256sum", "--tag"}, {"sha512sum", "-b", "--tag"}, {"sha256sum", "-t"}} {
		m, err := ParseManifest("manifest.txt", run(append(tool, names...)...))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Names()) != len(names) || len(m.Warnings()) != 0 {
			t.Errorf("%q: names %q, warnings %q", tool, m.Names(), m.Warnings())
		}
		for _, n := range names {
			sums := m.Sums(n)
			if len(sums) != 1 {
				t.Fatalf("%q: %q has sums %v", tool, n, sums)
			}
			switch i {
			case 1:
				ours = AppendGNU(ours, sums[0], n)
			case 2:
				ours = AppendTag(ours, sums[0], n)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.txt"), ours, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"sha1sum", "sha256sum"} {
		if out := run(tool, "-c", "manifest.txt"); bytes.Count(out, []byte(": OK\n")) != len(names) {
			t.Errorf("%s -c: %s", tool, out)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(hex40 + "  a\nSHA256 (a) = " + hex64 + "\n"))
	f.Add([]byte(`\` + hex32 + ` *a\\b` + "\r\n"))
	f.Add([]byte("hd0.img 12345678 " + hex32 + "\n"))
	f.Add([]byte("SHA1(a.ovf)= " + hex40 + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest("m", b)
		if err != nil {
			return
		}
		// What was understood, written again, is understood alike.
		var gnu, tag []byte
		for _, n := range m.Names() {
			for _, s := range m.Sums(n) {
				gnu, tag = AppendGNU(gnu, s, n), AppendTag(tag, s, n)
			}
		}
		for _, out := range [][]byte{gnu, tag} {
			if len(out) == 0 || len(out) > MaxManifestSize {
				continue
			}
			again, err := ParseManifest("m", out)
			if err != nil {
				t.Fatalf("%v\n%q", err, out)
			}
			for _, n := range m.Names() {
				if got, want := fmt.Sprint(again.Sums(n)), fmt.Sprint(m.Sums(n)); got != want {
					t.Fatalf("%q: %s became %s\n%q", n, want, got, out)
				}
			}
		}
	})
}

// A sum tool that is run over everything lists the manifest and what signs it, with
// sums that are wrong by then. Such lines are left out, and told.
func TestManifestListsItself(t *testing.T) {
	t.Parallel()
	requireTool(t, "sha1sum")
	dir := t.TempDir()
	for name, content := range map[string]string{"root.img": "disk", "xvm.xml": "<xvm/>", "signature.asc": "s", "mf-signature.asc": "m", "vm.cert": "c", "other.cert": "o", "manifest.txt.asc": "m", "vm.mf.asc": "m"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, own := range map[string]int{"manifest.txt": 4, "vm.mf": 5} {
		cmd := exec.Command("sh", "-c", "sha1sum * > "+file+"; sha1sum * > "+file+"; cat "+file+"; rm "+file)
		cmd.Dir = dir
		raw, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(file, raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(m.Warnings()); got != own || !strings.Contains(m.Warnings()[0], "depends on that of the manifest") {
			t.Errorf("%s: warnings %q, want %d", file, m.Warnings(), own)
		}
		for _, name := range []string{file, file + ".asc", "signature.asc", "mf-signature.asc"} {
			if m.Sums(name) != nil {
				t.Errorf("%s: it has sums of %s", file, name)
			}
		}
		for _, name := range []string{"root.img", "xvm.xml", "other.cert"} {
			if len(m.Sums(name)) != 1 {
				t.Errorf("%s: it has no sum of %s", file, name)
			}
		}
	}
	// Also where the lines contradict each other, as after two runs that append.
	m, err := ParseManifest("manifest.txt", []byte(strings.Repeat("a", 40)+"  manifest.txt\n"+strings.Repeat("b", 40)+"  ./manifest.txt\n"+strings.Repeat("c", 40)+"  root.img\n"))
	if err != nil || len(m.Names()) != 1 {
		t.Errorf("%v, %v", m, err)
	}
}
