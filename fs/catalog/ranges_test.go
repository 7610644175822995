package catalog

import (
	"bytes"
	"sync"
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

// TestRangesLostWhileOpen: a guest that runs goes on when the server loses its ranges. The
// archive is taken once, as one stream, however many read.
func TestRangesLostWhileOpen(t *testing.T) {
	t.Parallel()
	disk := diskImage(12*mib, 1)
	plain := file{"root.img", disk}
	for name, pkg := range map[string][]byte{
		"ordinary":   tarOf(t, manifestOf(plain), plain),
		"block list": packed(t, true, nil, plain),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.release("one", "/one.xvm", pkg)
			h := s.open()
			guest := h.open("one", "root.img")
			read := func(off int) {
				p := make([]byte, blk)
				if _, err := guest.ReadAt(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, disk[off:off+blk]) {
					t.Errorf("at %d: %v", off, err)
				}
			}
			read(0)
			s.origin.ResetStats()
			well := s.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.IgnoreRange})
			var guests sync.WaitGroup
			for g := range 4 {
				guests.Go(func() {
					for i := range 12 {
						read(((7*i+3*g)%12*mib + g*blk))
					}
				})
			}
			guests.Wait()
			whole := 0
			for _, r := range s.origin.Log() {
				if r.Path == "/one.xvm" && r.Method == "GET" && r.Header.Get("Range") == "" {
					whole++
				}
			}
			if whole != 1 {
				t.Errorf("the whole archive was asked for %d times", whole)
			}
			well()
			if !bytes.Equal(h.read("one", "root.img"), disk) {
				t.Error("it differs")
			}
		})
	}
}
