package pack

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

func TestIndex(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	disk := image(3<<19, 7)
	dir := t.TempDir()
	compressed := map[string][]byte{}
	for ext, tool := range map[string]string{"gz": "gzip", "xz": "xz", "zst": "zstd", "bz2": "bzip2"} {
		name := filepath.Join(dir, ext)
		if err := os.WriteFile(name, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(testkit.Need(t, tool), "-c", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		compressed[ext] = out
	}
	files := []file{{"xvm.xml", []byte(description)}, {"raw.img", disk}}
	manifest := []byte{}
	for ext, content := range compressed {
		files = append(files, file{"d" + ext + ".img." + ext, content})
	}
	for _, f := range files {
		manifest = fmt.Appendf(manifest, "%x  %s\n", sha1.Sum(f.content), f.name)
	}
	pkg := tarred(t, append(files, file{"manifest.txt", manifest})...)
	o := IndexOptions{Time: testTime, Sign: KeySign(s)}
	make := func(pkg []byte) ([]byte, *Report, error) {
		var b bytes.Buffer
		r, err := Index(t.Context(), memory(pkg), int64(len(pkg)), &b, o)
		return b.Bytes(), r, err
	}
	raw, report, err := make(pkg)
	if err != nil {
		t.Fatalf("%v, %+v", err, report)
	}
	if again, _, _ := make(pkg); !bytes.Equal(again, raw) {
		t.Error("twice the same gives different sidecars")
	}
	side, err := xvm.ReadSidecar(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Verify(side.Manifest, side.Signature, testTime); err != nil {
		t.Error(err)
	}
	index, err := xvm.Walk(t.Context(), memory(pkg), int64(len(pkg)), xvm.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := side.Match(index); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"raw.img", "dgz.img", "dxz.img", "dzst.img", "dbz2.img"} {
		b := side.Blocks.Image(name)
		if b == nil || b.Size != int64(len(disk)) || b.Member != "" {
			t.Fatalf("%s: %+v", name, b)
		}
		v := &comparison{image: b}
		v.hasher = sums.NewHasher(b.BlockSize, func(sum [32]byte, zero bool) error { v.see(v.blocks, sum, zero); return nil })
		if _, err := v.hasher.Write(disk); err != nil {
			t.Fatal(err)
		}
		if v.wrong > 0 || v.blocks != b.Blocks() {
			t.Errorf("%s: %d of %d blocks are wrong", name, v.wrong, v.blocks)
		}
	}
	if b := side.Blocks.Image("dgz.img.gz"); b == nil || b.Size != int64(len(compressed["gz"])) {
		t.Errorf("dgz.img.gz as stored: %+v", b)
	}
	// With the seek points a read in the middle does not begin at the start.
	r, err := seekable.Open(seekable.Gzip, memory(compressed["gz"]), int64(len(compressed["gz"])), seekable.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Restore(side.Points["dgz.img.gz"]); err != nil {
		t.Fatal(err)
	}
	if n := r.Start(5 << 18); n == 0 {
		t.Error("there is no seek point in the middle")
	}

	bad := bytes.Clone(pkg)
	bad[bytes.Index(bad, compressed["xz"])+1000] ^= 4
	if _, r, err := make(bad); !errors.Is(err, ErrFaults) || len(r.Faults) == 0 {
		t.Errorf("a damaged package got a sidecar: %v", err)
	}
	// Of one with a block list only where none that is trusted has signed it.
	listed, signed := build(t, options(t, nil)), build(t, options(t, s))
	raw, _, err = make(listed)
	if err != nil {
		t.Fatal("a package with a block list that is not signed:", err)
	}
	if side, err = xvm.ReadSidecar(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	how := CheckOptions{Keyring: ring, RequireSigned: true, Sidecar: side}
	if r := check(t, listed, how); len(r.Faults) > 0 || r.Sidecar == nil || r.Sidecar.State != "good" {
		t.Errorf("vouched for by a sidecar: %q, %+v", r.Faults, r.Sidecar)
	}
	for _, m := range walk(t, listed).Members {
		if m.Name == "raw.img" {
			listed[m.Offset+1000] ^= 1
		}
	}
	if r := check(t, listed, how); len(r.Faults) == 0 {
		t.Error("a byte that the sidecar knows otherwise is not found")
	}
	if r := check(t, signed, how); len(r.Faults) > 0 || !slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.Contains(s, "the sidecar is not used") }) {
		t.Errorf("a signed package with the sidecar of another: %q, %q", r.Faults, r.Warnings)
	}
	o.Keyring = ring
	if _, _, err := make(signed); !errors.Is(err, ErrListed) {
		t.Errorf("a signed package with a block list: %v", err)
	}
	o.Keyring, o.Sign = nil, nil
	if _, _, err := make(signed); !errors.Is(err, ErrListed) {
		t.Errorf("a package with a block list, for a sidecar that is not signed: %v", err)
	}
}
