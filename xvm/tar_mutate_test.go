package xvm

import (
	"bytes"
	"compress/bzip2"
	"encoding/base64"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func tarReadTestdata(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(file) {
	case ".bz2":
		r = bzip2.NewReader(f)
	case ".base64":
		r = base64.NewDecoder(base64.StdEncoding, f)
	}
	return io.ReadAll(io.LimitReader(r, 8<<20))
}

// tarMend puts right sums into the header blocks at offsets.
func tarMend(b []byte, headers []int) {
	for _, off := range headers {
		if off+512 > len(b) {
			continue
		}
		h := b[off : off+512]
		copy(h[148:], "        ")
		var sum int64
		for _, c := range h {
			sum += int64(c)
		}
		if sum > 8*' ' {
			copy(h[148:], tarOctal(sum)[5:])
		}
	}
}

// tarMutate changes an archive in a few places, mostly where headers are, and mends the sums.
func tarMutate(rnd *rand.Rand, archive []byte) []byte {
	b := bytes.Clone(archive)
	var headers []int
	for off := 0; off+512 <= len(b); off += 512 {
		if h := tarBlock(b[off : off+512]); !h.zero() && h.sumOK() {
			headers = append(headers, off)
		}
	}
	fields := []struct{ at, n int }{{0, 4}, {96, 8}, {124, 12}, {156, 1}, {157, 4}, {257, 8}, {329, 16}, {345, 12}, {386, 24}, {480, 20}, {512, 60}}
	values := []byte("\x00\x00 \x80\xff0001127LKxgSVMNDAX./ab\n=5")
	for range 1 + rnd.IntN(3) {
		off := headers[rnd.IntN(len(headers))]
		f := fields[rnd.IntN(len(fields))]
		for range 1 + rnd.IntN(2) {
			if at := off + f.at + rnd.IntN(f.n); at < len(b) {
				b[at] = values[rnd.IntN(len(values))]
			}
		}
	}
	tarMend(b, headers)
	if rnd.IntN(4) == 0 { // some blocks less, twice, or from elsewhere
		at, from := rnd.IntN(len(b)/512)*512, headers[rnd.IntN(len(headers))]
		moved := archive[from:min(len(archive), from+512*rnd.IntN(4))]
		b = slices.Concat(b[:at], moved, b[min(len(b), at+512*rnd.IntN(3)):])
	}
	return b
}

func tarSeeds(t testing.TB) map[string][]byte {
	tarNeed(t, "tar")
	tarNeed(t, "bsdtar")
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "first", "b": strings.Repeat("second", 200), strings.Repeat("n", 120): "long"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(6) {
		f.WriteAt(bytes.Repeat([]byte{'s'}, 512), i*2048)
	}
	f.Truncate(20000)
	f.Close()
	os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "z"))
	seeds := map[string][]byte{}
	for name, args := range map[string][]string{
		"ustar": {"--format=ustar", "--exclude=nnn*"}, "gnu": {"--format=gnu", "-S", "--hole-detection=raw"},
		"oldgnu": {"--format=oldgnu"}, "pax": {"--format=posix"}, "v7": {"--format=v7", "--exclude=nnn*"},
		"sparse00": {"--format=posix", "-S", "--hole-detection=raw", "--sparse-version=0.0"},
		"sparse01": {"--format=posix", "-S", "--hole-detection=raw", "--sparse-version=0.1"},
		"sparse10": {"--format=posix", "-S", "--hole-detection=raw", "--sparse-version=1.0"},
	} {
		out, err := exec.Command("tar", append(args, "--sort=name", "-b1", "-cf", "-", "-C", dir, ".")...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seeds[name] = out
	}
	for _, format := range []string{"ustar", "gnutar", "pax"} {
		out, err := exec.Command("bsdtar", "--format="+format, "-cf", "-", "-C", dir, "a", "b", "s", "z").Output()
		if err != nil {
			t.Fatalf("bsdtar %s: %v", format, err)
		}
		seeds["bsdtar "+format] = out
	}
	return seeds
}

// TestTarDifferentialMutated compares with the programs on damaged archives. VMCASTFS_TAR_MUTATIONS sets how many of
// each format, VMCASTFS_TAR_SEED which.
func TestTarDifferentialMutated(t *testing.T) {
	count, random := 40, uint64(1)
	fmt.Sscan(os.Getenv("VMCASTFS_TAR_MUTATIONS"), &count)
	fmt.Sscan(os.Getenv("VMCASTFS_TAR_SEED"), &random)
	for name, seed := range tarSeeds(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(random, crc64.Checksum([]byte(name), crc64.MakeTable(crc64.ISO))))
			for i := range count {
				archive := tarMutate(rnd, seed)
				tarCompare(t, archive, tarViews(t, archive))
				if t.Failed() {
					bad := filepath.Join(t.ArtifactDir(), "mutated.tar")
					os.WriteFile(bad, archive, 0o600)
					t.Fatalf("mutation %d, kept in %s", i, bad)
				}
			}
		})
	}
}
