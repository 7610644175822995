package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/feed"
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
	var state *TrustState
	h := s.open(func(c *Config) {
		var err error
		if state, err = OpenTrustState(dir, c.FeedURL, c.Logger); err != nil {
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
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), why) {
		h.t.Errorf("%s/%s opens with %v, want a refusal because of %q", release, name, err, why)
	}
	if st := h.rel(release).Status(); st.State != "refused" || !strings.Contains(st.Error, why) {
		h.t.Errorf("status of %s: %s, %s", release, st.State, st.Error)
	}
}

// TestS10ManifestChanged: a signed manifest that is another one than first seen
// is refused, over restarts and without a cache, until it is accepted.
func TestS10ManifestChanged(t *testing.T) {
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
		d, err := OpenTrustDir(dir, true)
		if err != nil {
			t.Fatal(err)
		}
		h = s.trusting(dir, ring, require)
		h.pkg("one")
		accepted, err := d.Accept(feedURL, "one")
		if err != nil || len(accepted) != 1 || accepted[0].Kind != AlarmChanged {
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
	d, _ := OpenTrustDir(dir, true)
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
	key, ring := publisher(t, "publisher")
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	for i, id := range []string{"one", "two", "three"} {
		s.release(id, "/"+id+".xvm", packed(t, true, key, file{"root.img", diskImage(blk, uint64(i))}))
	}
	h := s.trusting(dir, ring, true)
	eventually(t, "the newest release is seen", func() bool {
		seen := false
		h.cfg.Trust.look(func(ft *FeedTrust) { seen = ft.Newest != nil && ft.Newest.ID == "three" })
		return seen
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

	d, _ := OpenTrustDir(dir, true)
	accepted, err := d.Accept(h.cfg.FeedURL, "")
	if err != nil || len(accepted) != 1 || accepted[0].Kind != AlarmRollback {
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
	d, _ := OpenTrustDir(dir, true)
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

// TestRollbackRules: what counts as going back.
func TestRollbackRules(t *testing.T) {
	day := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return testTime.AddDate(0, 0, n)
	}
	type rel struct {
		id  string
		day int
	}
	for name, c := range map[string]struct {
		newest rel
		known  string // releases seen before
		feed   []rel
		back   bool
	}{
		"the same":                       {rel{"b", 2}, "a b", []rel{{"b", 2}, {"a", 1}}, false},
		"a newer one":                    {rel{"b", 2}, "a b", []rel{{"c", 3}, {"b", 2}}, false},
		"a newer one, the others gone":   {rel{"b", 2}, "a b", []rel{{"c", 3}}, false},
		"the newest gone":                {rel{"b", 2}, "a b", []rel{{"a", 1}}, true},
		"the newest gone, others unseen": {rel{"b", 2}, "b", []rel{{"a", 1}}, true},
		"its date changed":               {rel{"b", 2}, "b", []rel{{"b", 1}}, false},
		"no dates, a new one":            {rel{"b", 0}, "a b", []rel{{"c", 0}}, false},
		"no dates, an old one":           {rel{"b", 0}, "a b", []rel{{"a", 0}}, true},
		"dates gone, a new one":          {rel{"b", 2}, "a b", []rel{{"c", 0}}, false},
		"dates gone, an old one":         {rel{"b", 2}, "a b", []rel{{"a", 0}}, true},
		"nothing seen yet":               {rel{}, "", []rel{{"a", 1}}, false},
	} {
		ft := &FeedTrust{Releases: map[string]*ReleaseSeen{}}
		if c.newest.id != "" {
			ft.Newest = &NewestSeen{ID: c.newest.id, Published: day(c.newest.day)}
		}
		for id := range strings.FieldsSeq(c.known) {
			ft.Releases[id] = &ReleaseSeen{}
		}
		f := &feed.Feed{}
		for _, r := range c.feed {
			f.Releases = append(f.Releases, feed.Release{ID: r.id, Name: r.id, Published: day(r.day)})
		}
		if got := ft.rollback(f); got != "" != c.back {
			t.Errorf("%s: %q", name, got)
		}
	}
	// A date far ahead does not make all others old.
	ft := &FeedTrust{}
	now := testTime
	ft.advance(feed.Release{ID: "a", Published: now}, now)
	ft.advance(feed.Release{ID: "z", Published: now.AddDate(50, 0, 0)}, now)
	if ft.Newest.ID != "a" {
		t.Error("a release of the far future is the newest")
	}
}

// TestTrustDirOwner: the directory is this user's alone, and no link.
func TestTrustDirOwner(t *testing.T) {
	top := t.TempDir()
	open := filepath.Join(top, "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTrustDir(open, true); err != nil {
		t.Error(err)
	}
	if info, _ := os.Stat(open); info.Mode().Perm() != 0o700 {
		t.Error("mode", info.Mode())
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTrustDir(link, true); err == nil {
		t.Error("a symbolic link is accepted")
	}
	mustWrite(t, filepath.Join(top, "file"), nil)
	for _, bad := range []string{"", filepath.Join(top, "file"), filepath.Join(top, "file", "below"), "/proc/vmcastfs"} {
		if _, err := OpenTrustState(bad, "http://x/", nil); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(top, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTrustDir(foreign, true); err == nil || !strings.Contains(err.Error(), "12345") {
			t.Error(err)
		}
	}
}

// TestTrustFileDamaged: a damaged file is not taken for an empty one.
func TestTrustFileDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := OpenTrustState(dir, "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d, _ := OpenTrustDir(dir, true)
	for _, text := range []string{"", "{", `{"version": 99}`} {
		mustWrite(t, d.file("http://x/"), []byte(text))
		if _, err := OpenTrustState(dir, "http://x/", nil); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestTrustShared: two processes that learn at the same time lose nothing.
func TestTrustShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var states []*TrustState
	for range 3 {
		s, err := OpenTrustState(dir, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, s)
	}
	for i := range 30 {
		id := string(rune('A' + i))
		states[i%3].change(func(ft *FeedTrust) { ft.note(seen{id: id, name: id, manifest: id}, testTime) })
	}
	for _, s := range states {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, _ := OpenTrustDir(dir, true)
	ft, err := d.Load("http://x/")
	if err != nil || len(ft.Releases) != 30 {
		t.Errorf("%d releases, %v", len(ft.Releases), err)
	}
	if all, err := d.Feeds(); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
	if err := d.Forget("http://x/", "A"); err != nil {
		t.Error(err)
	}
	if err := d.Forget("http://x/", "nobody"); err == nil {
		t.Error("forgets what it does not know")
	}
	if err := d.Forget("http://x/", ""); err != nil {
		t.Error(err)
	}
	if ft, _ := d.Load("http://x/"); len(ft.Releases) != 0 {
		t.Error("not forgotten")
	}
}

// TestTrustUnwritable: when the state cannot be kept any more, what is new is
// refused where signatures are required, and the status says why.
func TestTrustUnwritable(t *testing.T) {
	key, ring := publisher(t, "publisher")
	s, dir := newSite(t), filepath.Join(t.TempDir(), "state")
	s.release("one", "/one.xvm", packed(t, true, key, file{"root.img", diskImage(blk, 1)}))
	state, err := OpenTrustState(dir, s.origin.URL()+"/vmcast.xml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	h := s.open(func(c *Config) { c.Trust, c.Keyring, c.RequireSigned = state, ring, true })
	h.pkg("one")
	eventually(t, "it is noticed", func() bool { return state.broken() != nil })
	h.refused("one", "root.img", "cannot be kept")
	if h.Status().Feed.TrustError == "" {
		t.Error("the status does not tell")
	}
	h.close()
	if err := state.Close(); err == nil {
		t.Error("closed without an error")
	}
}
