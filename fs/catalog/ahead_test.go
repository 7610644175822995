package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"vmcastfs/cache/origin"
)

// TestListingInflatesNothing: a look at the directory of a release whose archive is
// compressed as a whole takes its first bytes and no more. Who asks for a file has it
// indexed, and from then on it is listed, also by another process and without its server.
func TestListingInflatesNothing(t *testing.T) {
	s := newSite(t)
	image := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(image)
	s.release("one", "/one.tar.xz", xzOf(t, tarOf(t, file{"xvm.xml", []byte("<x/>")}, file{"root.img", image}), 1))
	h := s.open()
	r := h.rel("one")
	for range 3 {
		if _, err := Listed(t.Context(), r); !errors.Is(err, ErrNotListed) {
			t.Fatal(err)
		}
	}
	if n := s.origin.Stats("/one.tar.xz").BytesSent; n > 1<<20 {
		t.Errorf("a listing took %d bytes", n)
	}
	if st := r.Status(); st.State != "listed" || !strings.Contains(st.Error, "`ls DIR/one/xvm.xml` or `vmcastfs prefetch DIR/one`") {
		t.Errorf("status: %+v", st)
	}
	// One that lists and one that uses it at the same time: both get it.
	var both sync.WaitGroup
	both.Go(func() { _, _ = Listed(t.Context(), r) })
	both.Go(func() {
		if _, err := r.PackageSoon(t.Context()); err != nil {
			t.Error(err)
		}
	})
	both.Wait()
	if _, err := Listed(t.Context(), r); err != nil {
		t.Error(err)
	}
	h.close()
	s.origin.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	h = s.open()
	if _, err := Listed(t.Context(), h.rel("one")); err != nil {
		t.Error("without its server:", err)
	}
}

// TestNewestAreIndexedBehindAMount: nobody looks, and then the server is gone: the
// newest releases are listed all the same. Their archives are asked for with the least
// urgency, one at a time, and none is inflated.
func TestNewestAreIndexedBehindAMount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	image := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(image)
	for i := range indexAhead + 3 {
		s.release(fmt.Sprintf("r%02d", i), fmt.Sprintf("/r%02d.xvm", i), tarOf(t, file{"xvm.xml", []byte("<x/>")}, file{"root.img", diskImage(blk, uint64(i))}))
	}
	s.release("whole", "/whole.tar.xz", xzOf(t, tarOf(t, file{"root.img", image}), 1))
	s.release("broken", "/broken.xvm", []byte(strings.Repeat("no package ", 100)))
	h := s.open(keeping(t, s, true))
	newest := h.Snapshot().Releases()[:indexAhead]
	eventually(t, "the newest", func() bool {
		for _, r := range newest {
			if !r.record.Known() && r.Name() != "whole" && r.Name() != "broken" {
				return false
			}
		}
		return true
	})
	if n := s.origin.Stats("/whole.tar.xz").BytesSent; n > 1<<20 {
		t.Errorf("%d bytes of a compressed archive", n)
	}
	if h.rel("r00").record.Known() {
		t.Error("an old one is indexed, too")
	}
	remove := s.origin.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	defer remove()
	for _, r := range newest {
		if _, err := Listed(t.Context(), r); err != nil && r.Name() != "whole" && r.Name() != "broken" {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
}

// TestIndexingIsUrgentOnceSomebodyWaits: what is indexed for nobody gives way, until a
// listing joins it.
func TestIndexingIsUrgentOnceSomebodyWaits(t *testing.T) {
	r := &Release{}
	for why, want := range map[purpose]bool{toKnow: true, toList: false, toUse: false} {
		if r.wanted = why; unawaited(r) != want {
			t.Errorf("%v: %v", why, !want)
		}
	}
}
