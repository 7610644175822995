package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/bases"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/catalog/kept"
)

// keeping opens the catalogs of a test with one state directory.
func keeping(t *testing.T, s *site, cached bool) func(*Config) {
	state := filepath.Join(t.TempDir(), "state")
	return func(cfg *Config) {
		d, err := kept.Open(state, cfg.FeedURL, slog.New(slog.NewTextHandler(&s.log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		cfg.Resident, cfg.Kept, cfg.KeepCached, cfg.VMs = true, d, cached, filepath.Join(state, "vms")
	}
}

// drop publishes the feed without an item, and takes its package from the server.
func (s *site) drop(id string) {
	s.t.Helper()
	for i, e := range s.items {
		if e.ID == id {
			s.origin.Remove(strings.TrimPrefix(e.URL, s.origin.URL()))
			s.items = slices.Delete(slices.Clone(s.items), i, i+1)
			break
		}
	}
	s.publish(s.items...)
}

func (h *host) refresh() {
	h.t.Helper()
	if err := h.Refresh(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// shown is a release in the status.
func (h *host) shown(name string) ReleaseStatus {
	h.t.Helper()
	for _, r := range h.Status().Releases {
		if r.Name == name {
			return r
		}
	}
	return ReleaseStatus{}
}

// TestWithdrawn: a release whose image is cached stays when the feed drops it, over a
// new process that finds neither server nor index, and goes with its data.
func TestWithdrawn(t *testing.T) {
	s := newSite(t)
	content := diskImage(6*blk, 1)
	s.release("old", "/old.xvm", packed(t, true, nil, file{"root.img", content}))
	s.release("unused", "/unused.xvm", packed(t, true, nil, file{"root.img", diskImage(2*blk, 3)}))
	s.release("new", "/new.xvm", packed(t, true, nil, file{"root.img", diskImage(6*blk, 2)}))
	keep := keeping(t, s, true)
	h := s.open(keep)
	if err := h.complete("old", "root.img"); err != nil {
		t.Fatal(err)
	}
	h.pkg("unused")
	s.drop("old")
	s.drop("unused")
	h.refresh()
	check := func(h *host) {
		t.Helper()
		if _, ok := h.Snapshot().Release("unused"); ok {
			t.Error("a release that was not used stays")
		}
		if latest := h.Snapshot().Latest(); latest.Name() != "new" {
			t.Errorf("latest is %s", latest.Name())
		}
		if !bytes.Equal(h.read("old", "root.img"), content) {
			t.Error("other bytes")
		}
		r := h.rel("old")
		if r.Withdrawn().IsZero() || len(h.Snapshot().gone) != 1 {
			t.Error("it is not withdrawn")
		}
		if v, _ := h.file("old", "root.img").Attr("user.vmcast.withdrawn"); string(v) != r.Withdrawn().Format("2006-01-02T15:04:05Z07:00") {
			t.Errorf("attribute %q", v)
		}
		if notes := h.read("old", "notes.html"); !bytes.Contains(notes, []byte("Withdrawn")) {
			t.Errorf("notes %q", notes)
		}
		eventually(t, "status tells", func() bool {
			st := h.shown("old")
			return st.Withdrawn != nil && slices.Contains(st.Held, "cached") && st.Incomplete == nil
		})
	}
	check(h)
	h.close()
	s.origin.Down()
	// The cache has made room: no documents but what is held by the images, and no more files.
	st, err := store.Open(store.Options{Dir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Prune(0)
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	h = s.open(keep)
	check(h)
	r := h.rel("old")
	for _, key := range unpackKeys(r.images) {
		eventually(t, "it can be removed", func() bool { return h.cfg.Store.Remove(key) == nil })
	}
	eventually(t, "it goes with its data", func() bool {
		h.settleNow(t.Context())
		_, ok := h.Snapshot().Release("old")
		return !ok
	})
	if n := keptCount(h); n != 0 {
		t.Errorf("kept: %d", n)
	}
}

func keptCount(h *host) (n int) {
	for range h.cfg.Kept.All() {
		n++
	}
	return n
}

// TestWithdrawnReturns: a withdrawn release that comes back as it was is itself again.
// Another package under its guid gets another name, whatever its URL, and both have
// their own bytes.
func TestWithdrawnReturns(t *testing.T) {
	for _, path := range []string{"/old.xvm", "/other.xvm"} {
		t.Run(path, func(t *testing.T) {
			s := newSite(t)
			first, second := diskImage(4*blk, 1), diskImage(4*blk, 2)
			pkg := tarOf(t, manifestOf(file{"root.img", first}), file{"root.img", first})
			s.release("new", "/new.xvm", tarOf(t, file{"root.img", diskImage(blk, 3)}))
			s.release("old", "/old.xvm", pkg)
			item := s.items[1]
			keep := keeping(t, s, true)
			h := s.open(keep)
			h.read("old", "root.img")
			generation := h.rel("old").Generation()
			s.drop("old")
			h.refresh()
			s.origin.PutBytes("/old.xvm", pkg)
			s.item(item)
			h.refresh()
			if r := h.rel("old"); !r.Withdrawn().IsZero() || r.Generation() != generation || h.Snapshot().Latest() != r {
				t.Fatalf("it did not come back as it was: %v", r.Withdrawn())
			}
			if !bytes.Equal(h.read("old", "root.img"), first) {
				t.Fatal("other bytes")
			}
			s.drop("old")
			h.refresh()
			s.origin.PutBytes(path, tarOf(t, manifestOf(file{"root.img", second}), file{"root.img", second}))
			item.URL = s.origin.URL() + path
			s.item(item)
			h.refresh()
			check := func(h *host) {
				t.Helper()
				eventually(t, "there are two", func() bool { _, ok := h.Snapshot().Release("old-2"); return ok })
				if !bytes.Equal(h.read("old-2", "root.img"), second) || !bytes.Equal(h.read("old", "root.img"), first) {
					t.Error("generations are mixed")
				}
				if h.rel("old").Withdrawn().IsZero() || h.Snapshot().Latest().Name() != "old-2" {
					t.Error("the old one is not withdrawn")
				}
			}
			check(h)
			h.refresh()
			check(h)
			h.close()
			check(s.open(keep))
		})
	}
}

// TestPinned: a pinned image is completed, and keeps its path where cached data does
// not; so does the base of a machine.
func TestPinned(t *testing.T) {
	s := newSite(t)
	s.release("based", "/based.xvm", tarOf(t, file{"root.img", diskImage(40*blk, 1)}))
	s.release("pinned", "/pinned.xvm", tarOf(t, file{"root.img", diskImage(4*blk, 2)}))
	s.release("cached", "/cached.xvm", tarOf(t, file{"root.img", diskImage(4*blk, 3)}))
	s.release("new", "/new.xvm", tarOf(t, file{"root.img", diskImage(4*blk, 4)}))
	keep := keeping(t, s, false)
	h := s.open(keep)
	for _, name := range []string{"based", "pinned", "cached"} {
		p := make([]byte, 10)
		if _, err := h.open(name, "root.img").ReadAt(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.cfg.Store.Keep(store.Key(h.key("pinned", "root.img")), 4*blk); err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(bases.Record{
		Version: 1, Name: "web1", Feed: h.poller.Status().URL, GUID: "based", Release: "based", Mount: "/srv/vmcast", Engine: "qemu", Disk: "qcow2",
		Images: []bases.Image{{File: "root.img", Format: "raw", Size: 40 * blk, Digest: "sha256:" + strings.Repeat("0", 64), Disk: "root.qcow2"}},
	})
	vms, opened := bases.Open(h.cfg.VMs, true)
	machine := filepath.Join(h.cfg.VMs, "web1")
	if err = errors.Join(err, opened, vms.Close(), os.Mkdir(machine, 0o711), os.WriteFile(filepath.Join(machine, "machine.json"), record, 0o600)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pinned image is completed", func() bool {
		st := h.shown("pinned")
		return len(st.Files) > 0 && slices.ContainsFunc(st.Files, func(f image.Status) bool { return f.Pinned && f.Percent == 100 })
	})
	h.close()
	s.drop("based")
	s.drop("pinned")
	s.drop("cached")
	h = s.open(keep)
	eventually(t, "the feed is looked at", func() bool { return len(h.Snapshot().Releases()) == 1 })
	st := h.Status()
	held := make(map[string][]string)
	for _, r := range st.Releases {
		held[r.Name] = r.Held
		if r.Name == "based" && !slices.Equal(r.Incomplete, []string{"root.img"}) {
			t.Errorf("based lacks %v", r.Incomplete)
		}
	}
	if len(held) != 3 || !slices.Contains(held["pinned"], "pinned") || !slices.Contains(held["based"], "machine web1") {
		t.Errorf("held: %v", held)
	}
	if err := errors.Join(h.cfg.Store.Unkeep(store.Key(h.key("pinned", "root.img"))), os.RemoveAll(machine)); err != nil {
		t.Fatal(err)
	}
	if h.settleNow(t.Context()); len(h.Snapshot().gone) != 0 {
		t.Errorf("still there: %v", h.Snapshot().gone[0].Name())
	}
}
