package catalog

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
)

// TestManyAreDroppedAtOnce: the feed drops releases whose images are cached, and whose
// packages cannot be opened now, because the server of their sidecars hangs. The feed is
// shown in the time of one look, and all stay, also over a restart. Those that were not
// used go as soon as that can be told.
func TestManyAreDroppedAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const releases = 8
	content := func(i int) []byte { return diskImage(4*blk, uint64(i)) }
	name := func(i int) string { return fmt.Sprint("r", i) }
	for i := range releases {
		s.release(name(i), "/"+name(i)+".xvm", tarOf(t, manifestOf(file{"root.img", content(i)}), file{"root.img", content(i)}))
	}
	s.release("unused", "/unused.xvm", tarOf(t, manifestOf(file{"root.img", content(99)}), file{"root.img", content(99)}))
	s.release("new", "/new.xvm", tarOf(t, file{"root.img", content(100)}))
	h := s.open() // it keeps nothing outside of the cache, as older versions did
	for i := range releases {
		h.read(name(i), "root.img")
		if i == 0 { // and one is pinned
			if err := h.cfg.Store.Keep(store.Key(h.key("r0", "root.img")), 4*blk); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.pkg("unused")
	h.close()
	for i := range releases {
		s.drop(name(i))
	}
	s.drop("unused")
	s.sidecar = s.origin.URL() + "/sidecars/"
	hang := s.origin.Inject(origin.Fault{Path: "/sidecars/*", Kind: origin.Stall})
	const patience = time.Second
	keep := keeping(t, s, true)
	soon := func(cfg *Config) { keep(cfg); cfg.patience = patience }
	h = s.open(soon)
	clock := testkit.StartClock(t)
	eventually(t, "the feed is shown", func() bool { return len(h.Snapshot().Releases()) == 1 })
	if took := clock.Elapsed(); took > releases/2*patience {
		t.Errorf("it took %v", took)
	}
	if n := len(h.Snapshot().gone); n != releases+1 {
		t.Fatalf("%d stay", n)
	}
	eventually(t, "the disk knows", func() bool { return keptCount(h) == releases+1 })
	h.close()
	hang()
	h = s.open(soon)
	for i := range releases {
		if !bytes.Equal(h.read(name(i), "root.img"), content(i)) {
			t.Error("other bytes")
		}
	}
	eventually(t, "what was not used goes", func() bool {
		h.settleNow(t.Context())
		_, ok := h.Snapshot().Release("unused")
		return !ok
	})
	if n := len(h.Snapshot().gone); n != releases {
		t.Errorf("%d stay", n)
	}
}
