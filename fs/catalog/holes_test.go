package catalog

import (
	"testing"
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
				var holes int64
				for off := int64(0); off < int64(len(disk)); {
					at, err := fh.SeekData(off)
					if err != nil {
						t.Fatal(err)
					}
					holes += at - off
					if at >= int64(len(disk)) {
						break
					}
					if off, err = fh.SeekHole(at); err != nil {
						t.Fatal(err)
					}
				}
				if holes != int64(len(disk))-data {
					t.Errorf("tail %t, %s: %d bytes are holes for reading, want %d", tail, form, holes, int64(len(disk))-data)
				}
				h.close()
			}
		}
	}
}
