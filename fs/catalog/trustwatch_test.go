package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// publisher is a key, and the keyring that trusts it.
func publisher(t testing.TB, name string) (*xvm.Signer, *xvm.Keyring) {
	t.Helper()
	key, err := xvm.NewSigner(name, name+"@example.org", testTime.AddDate(-1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.asc")
	mustWrite(t, path, public)
	ring, err := xvm.LoadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	return key, ring
}

// trusting opens a site with a trust state; require asks for signatures by
// ring.
func (s *site) trusting(dir string, ring *xvm.Keyring, require bool) *host {
	s.t.Helper()
	var state *trust.State
	h := s.open(func(c *Config) {
		var err error
		if state, err = trust.Open(dir, c.FeedURL, c.Logger); err != nil {
			s.t.Fatal(err)
		}
		c.Trust, c.Keyring, c.RequireSigned = state, ring, require
	})
	before := h.close
	done := false
	h.close = func() {
		before()
		if !done {
			done = true
			if err := state.Close(); err != nil {
				s.t.Error(err)
			}
		}
	}
	s.t.Cleanup(h.close)
	return h
}

func (h *host) refused(release, name, why string) {
	h.t.Helper()
	f := h.file(release, name)
	_, err := f.Open(h.t.Context())
	if !errors.Is(err, archive.ErrRefused) || !strings.Contains(err.Error(), why) {
		h.t.Errorf("%s/%s opens with %v, want a refusal because of %q", release, name, err, why)
	}
	if st := h.rel(release).Status(); st.State != "refused" || !strings.Contains(st.Error, why) {
		h.t.Errorf("status of %s: %s, %s", release, st.State, st.Error)
	}
}

// TestS10ManifestChanged: a signed manifest that is another one than first seen
// is refused, over restarts and without a cache, until it is accepted.
func TestS10ManifestChanged(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	disk := diskImage(2*blk, 1)
	for _, require := range []bool{true, false} {
		s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
		s.release("one", "/one.xvm", packed(t, true, key, file{"root.img", disk}))
		h := s.trusting(dir, ring, require)
		h.read("one", "root.img")
		h.close()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Error(info.Mode(), err)
		}

		s.dir = t.TempDir() // the cache is gone
		other := diskImage(2*blk, 2)
		s.origin.PutBytes("/one.xvm", packed(t, true, key, file{"root.img", other}))
		h = s.trusting(dir, ring, require)
		const why = "signed manifest of this release changed after it was first seen"
		if require {
			h.refused("one", "root.img", why)
			h.refused("one", "xvm.xml", why)
		} else {
			h.read("one", "root.img")
		}
		if st := h.rel("one").Status(); !strings.Contains(st.Alarm, why) {
			t.Errorf("status: %+v", st)
		}
		if !strings.Contains(s.log.String(), why) {
			t.Error("the log does not tell")
		}
		feedURL := h.cfg.FeedURL
		h.close()
		d, err := trust.OpenDir(dir, true)
		if err != nil {
			t.Fatal(err)
		}
		h = s.trusting(dir, ring, require)
		h.pkg("one")
		accepted, err := d.Accept(feedURL, "one")
		if err != nil || len(accepted) != 1 || accepted[0].Kind != trust.Changed {
			t.Errorf("accept: %+v, %v", accepted, err)
		}
		h.read("one", "root.img") // at once, in the running process
		if st := h.rel("one").Status(); st.Alarm != "" || st.State != "indexed" {
			t.Errorf("after accepting: %+v", st)
		}
	}
}

// TestS5Replay: a manifest signed for one release is refused under another.
func TestS5Replay(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	old := packed(t, true, key, file{"root.img", diskImage(2*blk, 1)})
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	s.release("one", "/one.xvm", old)
	h := s.trusting(dir, ring, true)
	h.read("one", "root.img")
	s.release("two", "/two.xvm", old)
	if err := h.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.refused("two", "root.img", `it is the package of the release "one"`)
	h.refused("two", "root.img", "ask the publisher; if it is meant so, accept it: vmcastfs trust accept "+h.cfg.FeedURL+" two")
	h.read("one", "root.img")
	d, _ := trust.OpenDir(dir, true)
	eventually(t, "the alarm is on the disk", func() bool {
		ft, err := d.Load(h.cfg.FeedURL)
		return err == nil && len(ft.Alarms) == 1
	})
	if _, err := d.Accept(h.cfg.FeedURL, ""); err != nil {
		t.Fatal(err)
	}
	h.read("two", "root.img")
	h.read("one", "root.img")
}

// TestS5Bound: a manifest that names its release is good for no other, seen
// before or not.
func TestS5Bound(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	build := func(id string) []byte {
		disk, about := file{"root.img", diskImage(blk, 1)}, file{"xvm.xml", []byte("<xvm/>")}
		manifest := manifestOf(about, disk)
		manifest.content = append([]byte("# vmcast-release: "+id+"\n"), manifest.content...)
		s1, err := key.Sign(manifest.content, testTime)
		if err != nil {
			t.Fatal(err)
		}
		s2, err := key.Sign(about.content, testTime)
		if err != nil {
			t.Fatal(err)
		}
		return tarOf(t, about, manifest, file{"mf-signature.asc", s1}, file{"signature.asc", s2}, disk)
	}
	s := newSite(t)
	s.release("one", "/one.xvm", build("one"))
	s.release("two", "/two.xvm", build("another"))
	dir := filepath.Join(t.TempDir(), "state")
	h := s.trusting(dir, ring, true)
	h.read("one", "root.img")
	h.refused("two", "root.img", `made for the release "another"`)
	h.refused("two", "root.img", `pack it with --guid "two"`)
	// What stood in its place is not remembered: the right one is no change.
	h.close()
	s.origin.PutBytes("/two.xvm", build("two"))
	s.dir = t.TempDir()
	h = s.trusting(dir, ring, true)
	h.read("two", "root.img")
}

// TestS10Rollback: a feed whose newest release goes back is not shown while
// there is a newer one, and serves nothing if there is none, until accepted.
func TestS10Rollback(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	for i, id := range []string{"one", "two", "three"} {
		s.release(id, "/"+id+".xvm", packed(t, true, key, file{"root.img", diskImage(blk, uint64(i))}))
	}
	h := s.trusting(dir, ring, true)
	eventually(t, "the newest release is seen", func() bool {
		d, err := trust.OpenDir(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := d.Load(h.cfg.FeedURL)
		return err == nil && seen.Newest != nil && seen.Newest.ID == "three"
	})
	all := s.items
	s.publish(all[:2]...)
	if err := h.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.Snapshot().Latest().Name(); got != "three" {
		t.Error("the newest release shown is", got)
	}
	st := h.Status().Feed
	if !strings.Contains(st.Rollback, "the feed went back") || !st.Kept {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(s.log.String(), "the feed went back") {
		t.Error("the log does not tell")
	}
	h.read("three", "root.img")
	h.close()

	// A restart still has the newer feed; without the cache there is only the
	// older one, which serves nothing.
	h = s.trusting(dir, ring, true)
	if got := h.Snapshot().Latest().Name(); got != "three" {
		t.Error("after a restart the newest release shown is", got)
	}
	h.close()
	s.dir = t.TempDir()
	h = s.trusting(dir, ring, true)
	h.refused("two", "root.img", "the feed went back")

	// When signatures are not required it is shown and served, and flagged.
	h2 := s.trusting(dir, ring, false)
	h2.read("two", "root.img")
	if st := h2.Status().Feed; st.Rollback == "" || st.Kept {
		t.Errorf("%+v", st)
	}
	h2.close()

	d, _ := trust.OpenDir(dir, true)
	accepted, err := d.Accept(h.cfg.FeedURL, "")
	if err != nil || len(accepted) != 1 || accepted[0].Kind != trust.Rollback {
		t.Fatalf("%+v, %v", accepted, err)
	}
	eventually(t, "the running process takes it", func() bool { return h.Status().Feed.Rollback == "" })
	h.read("two", "root.img")
	s.publish(all...) // forward again is no alarm
	if err := h.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.read("three", "root.img")
	if st := h.Status().Feed; st.Rollback != "" {
		t.Errorf("%+v", st)
	}
}

// TestS10RollbackAccepted: a feed that is held back is shown once accepted.
func TestS10RollbackAccepted(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	for i, id := range []string{"one", "two"} {
		s.release(id, "/"+id+".xvm", packed(t, true, key, file{"root.img", diskImage(blk, uint64(i))}))
	}
	h := s.trusting(dir, ring, true)
	h.read("two", "root.img")
	s.publish(s.items[:1]...)
	if err := h.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.Snapshot().Latest().Name(); got != "two" {
		t.Error("shown is", got)
	}
	d, _ := trust.OpenDir(dir, true)
	eventually(t, "the alarm is on the disk", func() bool {
		ft, err := d.Load(h.cfg.FeedURL)
		return err == nil && len(ft.Alarms) == 1
	})
	if _, err := d.Accept(h.cfg.FeedURL, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the older feed is shown", func() bool { return h.Snapshot().Latest().Name() == "one" })
	h.read("one", "root.img")
}

// TestTrustUnwritable: when the state cannot be kept any more, what is new is
// refused where signatures are required, and the status says why.
func TestTrustUnwritable(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	s.release("one", "/one.xvm", packed(t, true, key, file{"root.img", diskImage(blk, 1)}))
	state, err := trust.Open(dir, s.origin.URL()+"/vmcast.xml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	h := s.open(func(c *Config) { c.Trust, c.Keyring, c.RequireSigned = state, ring, true })
	h.pkg("one")
	eventually(t, "it is noticed", func() bool { return state.Err() != nil })
	h.refused("one", "root.img", "cannot be kept")
	if h.Status().Feed.TrustError == "" {
		t.Error("the status does not tell")
	}
	h.close()
	if err := state.Close(); err == nil {
		t.Error("closed without an error")
	}
}
