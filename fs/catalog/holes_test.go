package catalog

import (
	"os/exec"
	"path/filepath"
	"testing"

	"vmcastfs/fs/catalog/image"
)

// Blocks of zeros in a block list are holes for stat as they are for reading, from
// the first listing on, and in the next process without the list.
func TestZeroBlocksAreHoles(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 64*blk+100)
	copy(disk[5*blk:], noise(blk, 1))
	copy(disk[40*blk+7:], noise(2*blk, 2))
	for _, tail := range []bool{false, true} {
		data := int64(4 * blk)
		if tail {
			disk[len(disk)-1] = 1
			data += 100
		}
		root := file{"root.img", disk}
		for form, pkg := range map[string][]byte{
			"stored": packed(t, false, nil, root), "compressed": packed(t, true, nil, root), "sidecar": tarOf(t, manifestOf(root), root),
		} {
			s := newSite(t)
			s.release("one", "/one.xvm", pkg)
			if form == "sidecar" {
				s.sidecar = t.TempDir()
				mustWrite(t, s.sidecar+"/one.xvm.sidecar", sidecarOf(t, pkg, nil))
			}
			for range 2 {
				h := s.open()
				if n, settled := h.file("one", "root.img").Blocks(); n != (data+511)/512 || !settled {
					t.Errorf("tail %t, %s: %d blocks (settled: %t), want %d", tail, form, n, settled, data/512)
				}
				fh := h.open("one", "root.img")
				if got := seekData(t, fh, int64(len(disk))); got != data {
					t.Errorf("tail %t, %s: %d bytes are data for reading, want %d", tail, form, got, data)
				}
				h.close()
			}
		}
	}
}

// seekData counts the data of a file as a copying program does.
func seekData(t *testing.T, fh image.Handle, size int64) (data int64) {
	t.Helper()
	for off := int64(0); off < size; {
		at, err := fh.SeekData(off)
		if err != nil {
			t.Fatal(err)
		}
		if at >= size {
			break
		}
		if off, err = fh.SeekHole(at); err != nil {
			t.Fatal(err)
		}
		data += off - at
	}
	return data
}

// What stat has as blocks is what SeekData and SeekHole show: also of images without a
// block list, whose holes become known as they are read, of members with holes in the
// archive that are no whole blocks, and after a restart before anybody opens them.
func TestStatAndSeekTellTheSameHoles(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 32*blk)
	copy(disk[5*blk:], noise(blk, 1))
	copy(disk[20*blk+7:], noise(2*blk, 2))
	root := file{"root.img", disk}
	small := file{"root.img.gz", gz(t, disk)}
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "root.img"), disk)
	holes, err := exec.Command("tar", "-S", "--hole-detection=raw", "-C", dir, "-c", "root.img").Output()
	if err != nil {
		t.Fatal(err)
	}
	for form, pkg := range map[string][]byte{
		"stored": tarOf(t, manifestOf(root), root), "compressed": tarOf(t, manifestOf(small), small),
		"listed": packed(t, false, nil, root), "sparse": holes,
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", pkg)
		var after int64
		same := func(h *host, when string) (n int64) {
			t.Helper()
			fh := h.open("one", "root.img")
			defer fh.Close() //nolint:errcheck
			want := (seekData(t, fh, int64(len(disk))) + 511) / 512
			n, _ = h.file("one", "root.img").Blocks()
			if n != want {
				t.Errorf("%s, %s: stat has %d blocks, lseek %d", form, when, n, want)
			}
			return n
		}
		h := s.open()
		same(h, "new")
		h.read("one", "root.img")
		if after = same(h, "read"); after >= int64(len(disk))/512 {
			t.Errorf("%s: no hole is known after all was read", form)
		}
		h.close()
		h = s.open()
		if n, _ := h.file("one", "root.img").Blocks(); n != after {
			t.Errorf("%s: %d blocks before anybody opens it again, %d after it was read", form, n, after)
		}
		same(h, "opened again")
		h.close()
	}
}
