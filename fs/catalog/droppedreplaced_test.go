package catalog

import (
	"bytes"
	"testing"

	"vmcastfs/cache/store"
)

// TestDroppedWhileReplaced: the feed drops a release while another generation is about
// to take its place. A pinned one stays, with its bytes, whichever comes first, and so
// does one whose data is cached if it was dropped first; no new generation takes the
// place of one that stays.
func TestDroppedWhileReplaced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pinned, before bool
		stays          bool
	}{
		"pinned, dropped in between": {pinned: true, stays: true},
		"pinned, dropped before":     {pinned: true, before: true, stays: true},
		"cached, dropped before":     {before: true, stays: true},
		"cached, dropped in between": {}, // it had been replaced
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			content := diskImage(4*blk, 1)
			s.release("old", "/old.xvm", packed(t, true, nil, file{"root.img", content}))
			s.release("new", "/new.xvm", packed(t, true, nil, file{"root.img", diskImage(2*blk, 2)}))
			keep := keeping(t, s, true)
			h := s.open(keep)
			if err := h.complete("old", "root.img"); err != nil {
				t.Fatal(err)
			}
			if c.pinned {
				if err := h.cfg.Store.Keep(store.Key(h.key("old", "root.img")), 4*blk); err != nil {
					t.Fatal(err)
				}
			}
			r := h.rel("old")
			if !c.before && !h.keeper.giveWay(r) {
				t.Fatal("it does not give way")
			}
			s.drop("old")
			h.refresh()
			if c.before {
				h.replace(r)
			} else {
				follow(h.Catalog, r)
			}
			check := func() {
				t.Helper()
				is, ok := h.Snapshot().Release("old")
				if ok != c.stays || len(h.Snapshot().gone) > 1 {
					t.Fatalf("it is there: %t, of %d", ok, len(h.Snapshot().gone))
				}
				if ok && (is.Withdrawn().IsZero() || !bytes.Equal(h.read("old", "root.img"), content)) {
					t.Error("it is another one")
				}
			}
			check()
			h.settleNow(t.Context())
			check()
			h.close()
			h = s.open(keep)
			check()
		})
	}
}
