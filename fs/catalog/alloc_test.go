//go:build !race

package catalog

import "testing"

// TestHitAllocates: reading what is here makes no garbage between the mount and
// the cache, whichever way the image is stored.
func TestHitAllocates(t *testing.T) {
	disk := diskImage(16*blk, 9)
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, manifestOf(file{"root.img", disk}), file{"root.img", disk}))
	s.release("two", "/two.xvm", packed(t, true, nil, file{"root.img", disk}))
	h := s.open()
	for _, release := range []string{"one", "two"} {
		fh := h.open(release, "root.img")
		p := make([]byte, 64<<10)
		read := func() {
			if n, err := fh.ReadAt(t.Context(), p, blk/2); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		read()
		least := testing.AllocsPerRun(200, read)
		for range 20 { // what runs in the background allocates as well, for a while
			least = min(least, testing.AllocsPerRun(200, read))
		}
		if least >= 1 {
			t.Errorf("%s: %v allocations", release, least)
		}
	}
}
