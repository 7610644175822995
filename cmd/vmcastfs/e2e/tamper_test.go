package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// boundaries are the offsets in a package made by pack at which one byte is
// changed: where every header, file, compressed block and padding begins and
// ends, and fields of the headers.
func boundaries(t testing.TB, pkg []byte) map[string]int64 {
	t.Helper()
	at := make(map[string]int64)
	r := bytes.NewReader(pkg)
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		begin := r.Size() - int64(r.Len())
		for name, off := range map[string]int64{"name": 0, "size": 124, "checksum": 148, "type": 156, "magic": 257} {
			at[h.Name+": header, "+name] = begin - 512 + off
		}
		at[h.Name+": first byte"] = begin
		if h.Size%512 != 0 {
			at[h.Name+": padding"] = begin + h.Size
		}
		if !strings.HasSuffix(h.Name, ".gz") {
			at[h.Name+": middle"], at[h.Name+": last byte"] = begin+h.Size/2, begin+h.Size-1
			continue
		}
		magic := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0}
		content := pkg[begin : begin+h.Size]
		for off, n := 0, 0; off < len(content); n++ {
			at[fmt.Sprintf("%s: block %d, first byte", h.Name, n)] = begin + int64(off)
			next := bytes.Index(content[off+1:], magic)
			if next < 0 {
				at[fmt.Sprintf("%s: block %d, last byte", h.Name, n)] = begin + h.Size - 1
				break
			}
			off += 1 + next
			at[fmt.Sprintf("%s: block %d, last byte", h.Name, n)] = begin + int64(off) - 1
			at[fmt.Sprintf("%s: block %d, within", h.Name, n)] = begin + int64(off) - 40
		}
	}
	at["end"] = r.Size() - 1
	return at
}

// seeded is a block of noise.
func seeded(seed string) []byte {
	p := make([]byte, 64<<10)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(p) //nolint:errcheck // it has none
	return p
}

// TestTamper: one byte changed anywhere in a signed package, read through a
// mount that requires signatures: no wrong byte is ever served, and a wrong byte
// of a compressed block costs that block at most.
func TestTamper(t *testing.T) {
	t.Parallel()
	const blk = 64 << 10
	key, err := xvm.NewSigner("Publisher", "p@example.org", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "ring.asc")
	if err := os.WriteFile(ring, public, 0o600); err != nil {
		t.Fatal(err)
	}
	// Each has a guid of its own, else it would be refused for a replay, and
	// blocks of its own, else they would be copied from another.
	build := func(guid string) (disk, pkg []byte) {
		var b bytes.Buffer
		disk = slices.Concat(seeded(guid+"a"), seeded(guid+"b"), make([]byte, blk), bytes.Repeat([]byte(guid), blk)[:blk])
		o := xvmpack.Options{Description: []byte("<xvm/>"), Release: guid, Time: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Compress: true,
			Inputs: []xvmpack.Input{{Name: "root.img", Size: int64(len(disk)), Content: bytes.NewReader(disk)}}, Sign: xvmpack.KeySign(key), TempDir: t.TempDir()}
		if _, err := xvmpack.Pack(t.Context(), &b, o); err != nil {
			t.Fatal(err)
		}
		return disk, b.Bytes()
	}
	w := bareWorld(t)
	_, pkg := build("good")
	var places []string
	for what := range boundaries(t, pkg) {
		places = append(places, what)
	}
	name := func(i int) string { return fmt.Sprintf("t%03d", i) }
	want := make([]map[string][]byte, len(places))
	for i, what := range places {
		disk, pkg := build(name(i))
		want[i] = map[string][]byte{"root.img": disk}
		in := tar.NewReader(bytes.NewReader(pkg))
		for h, err := in.Next(); err == nil; h, err = in.Next() {
			if want[i][h.Name], err = io.ReadAll(in); err != nil {
				t.Fatal(err)
			}
		}
		bad := bytes.Clone(pkg)
		bad[boundaries(t, pkg)[what]] ^= 4
		w.publish(name(i), bad)
	}
	w.mount("keyring="+ring, "complete=off")
	refused, lost := 0, make(map[string][]int64)
	for i, what := range places {
		entries, err := os.ReadDir(w.path(name(i)))
		if err != nil {
			refused++ // it is no package any more
			continue
		}
		opened := false
		for _, e := range entries {
			path := w.path(name(i), e.Name())
			f, err := os.Open(path)
			if err != nil {
				continue
			}
			content := want[i][e.Name()]
			for b := int64(0); b*blk < int64(len(content)); b++ {
				p := make([]byte, blk)
				n, err := f.ReadAt(p, b*blk)
				right := content[b*blk : min((b+1)*blk, int64(len(content)))]
				switch {
				case err != nil && err != io.EOF && !errors.Is(err, syscall.EIO):
					t.Errorf("%s: block %d of %s: %v", what, b, e.Name(), err)
				case e.Name() == "root.img.gz": // its sum is of the whole
				case errors.Is(err, syscall.EIO) && e.Name() == "root.img":
					lost[what] = append(lost[what], b)
				case err == nil && !bytes.Equal(p[:n], right):
					t.Errorf("%s: block %d of %s is wrong", what, b, e.Name())
				}
				opened = opened || e.Name() == "root.img" && err == nil
			}
			f.Close()
		}
		var block int64
		isBlock, _ := fmt.Sscanf(what, "root.img.gz: block %d,", &block)
		switch {
		case isBlock == 1 && block == 2: // of zeros, which are not asked for
			if len(lost[what]) > 0 {
				t.Errorf("%s: zeros are lost", what)
			}
		case isBlock == 1 && (!opened || !slices.Equal(lost[what], []int64{block})):
			t.Errorf("%s: opened %v, lost are the blocks %d", what, opened, lost[what])
		case strings.Contains(what, "padding") && (!opened || len(lost[what]) > 0):
			t.Errorf("%s: it says nothing, and is no reason to refuse", what)
		case !opened:
			refused++
		}
	}
	if len(lost) < 8 || refused < 30 {
		t.Errorf("of %d packages %d are refused, of %d a block is lost", len(places), refused, len(lost))
	}
}
