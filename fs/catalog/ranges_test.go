package catalog

import (
	"bytes"
	"testing"

	"vmcastfs/cache/origin"
)

// TestRangesLost: a server that has lost its ranges, as when it was moved behind a
// proxy, still serves what it served with them. The index of the disk says that there
// are some.
func TestRangesLost(t *testing.T) {
	t.Parallel()
	disk := diskImage(30*blk, 1)
	plain := file{"root.img", disk}
	for name, pkg := range map[string][]byte{
		"ordinary":   tarOf(t, manifestOf(plain), plain),
		"block list": packed(t, true, nil, plain),
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", pkg)
		h := s.open()
		p := make([]byte, 10)
		if _, err := h.open("one", "root.img").ReadAt(t.Context(), p, 0); err != nil {
			t.Fatal(name, err)
		}
		h.close()
		s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.IgnoreRange})
		for range 2 { // and once more from the index that was made now
			h = s.open()
			h.pkg("one")
			if _, err := h.rel("one").Confirm(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			// It waits for no look that is under way.
			eventually(t, name+" is read as one stream", func() bool {
				r := h.rel("one")
				_, err := r.Package(t.Context())
				return err == nil && r.Status().Transport == "whole"
			})
			if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
				t.Errorf("%s: wrong content", name)
			}
			h.close()
		}
	}
}
