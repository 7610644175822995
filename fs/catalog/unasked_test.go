package catalog

import "testing"

// TestNothingUnasked: what a mount looks at by itself fetches no image whole: not one that
// is checked whole before its first byte is served, and not one that must be inflated for
// its size, neither for a listing. The latter is sized behind the open of another file of
// the release, or when it is asked for by its name.
func TestNothingUnasked(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	blob := diskImage(12*mib, 2)
	signed := func(files ...file) []byte {
		m := manifestOf(files...)
		sig, err := key.Sign(m.content, testTime)
		if err != nil {
			t.Fatal(err)
		}
		return tarOf(t, append([]file{m, {"mf-signature.asc", sig}}, files...)...)
	}
	s := newSite(t)
	s.release("parts", "/parts.xvm", signed(file{"imagefile", fsImage(6*mib, 1)}, file{"imagefile2", swapImage(3 * mib)}))
	s.release("one", "/one.xvm", signed(file{"blob.img", blob}))
	s.release("zipped", "/zipped.xvm", signed(file{"zipped.img.gz", gz(t, blob)}))
	s.release("unsigned", "/unsigned.img.gz", gz(t, blob))
	for name, change := range map[string]func(*Config){
		"require": func(c *Config) { c.Keyring, c.RequireSigned = ring, true },
		"strict":  func(c *Config) { c.Strict = true },
		"lazy":    func(*Config) {},
	} {
		s.dir = t.TempDir()
		s.origin.ResetStats()
		h := s.open(change, func(c *Config) { c.Resident = true })
		for _, r := range h.Snapshot().Releases() {
			eventually(t, r.Name()+" is indexed", func() bool { _, ok := r.Peek(); return ok })
		}
		fetched := func(when string, paths ...string) {
			for _, path := range paths {
				if n := s.origin.Stats(path).BytesSent; n > 1<<20 {
					t.Errorf("%s: %d bytes of %s were fetched %s", name, n, path, when)
				}
			}
		}
		fetched("by the mount", "/parts.xvm", "/one.xvm", "/zipped.xvm", "/unsigned.img.gz")
		for _, r := range []string{"parts", "one", "unsigned", "zipped"} {
			if _, err := Listed(t.Context(), h.rel(r)); err != nil {
				t.Error(err)
			}
		}
		for _, r := range []string{"parts", "one", "unsigned", "zipped"} {
			h.pkg(r).Files()
		}
		fetched("by a listing", "/parts.xvm", "/one.xvm", "/zipped.xvm", "/unsigned.img.gz")
		h.pkg("zipped").Opened()
		eventually(t, "the plain size is found behind an open", func() bool { return h.listed("zipped", "zipped.img").Size() == int64(len(blob)) })
		h.pkg("unsigned").Opened()
		if name == "require" {
			fetched("of what is refused", "/unsigned.img.gz")
		}
		if f := h.file("parts", "disk.img"); f.Size() != 10*mib {
			t.Errorf("%s: the disk has %d bytes", name, f.Size())
		}
		h.close()
	}
}
