package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/feed"
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

// TestReadAheadIsPerServer: where one server takes all requests and answers none,
// another's images are still fetched ahead of their readers.
func TestReadAheadIsPerServer(t *testing.T) {
	t.Parallel()
	const region = 512 << 10 // of which the middle is read: what precedes it is fetched ahead
	s, slow := newSite(t), origin.New()
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	s.origin.SetLatency(10 * time.Millisecond) // it is far, so that regions are long
	slow.SetLatency(10 * time.Millisecond)
	disk := diskImage(12*region, 5)
	pkg := tarOf(t, file{"xvm.xml", []byte("<x/>")}, file{"root.img", disk})
	s.release("good", "/good.xvm", pkg)
	slow.PutBytes("/slow.xvm", pkg)
	s.item(feed.Entry{ID: "slow", Title: "slow", URL: slow.URL() + "/slow.xvm", Length: int64(len(pkg)), Published: testTime.AddDate(0, 0, 1)})
	h := s.open()
	bad, good := h.open("slow", "root.img"), h.open("good", "root.img")
	slow.Inject(origin.Fault{Kind: origin.Hang})
	before := slow.Stats("").Requests
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for i := range int64(10) {
		readers.Go(func() { _, _ = bad.ReadAt(ctx, make([]byte, 4096), (i+1)*region+region/2) })
	}
	eventually(t, "the slow server's", func() bool { return slow.Stats("").Requests >= before+8 })
	sent := s.origin.Stats("/good.xvm").BytesSent
	if _, err := good.ReadAt(ctx, make([]byte, 4096), 5*region+region/2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what precedes", func() bool { return s.origin.Stats("/good.xvm").BytesSent >= sent+region })
}
