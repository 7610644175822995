package catalog

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
)

// TestOtherValidators: the same bytes get another validator, as when their server has moved,
// or two stand behind one name. What a block list proves is read on, by guests that run and
// after a mount. Bytes that nothing proves follow the old rule, as other bytes do.
func TestOtherValidators(t *testing.T) {
	t.Parallel()
	disk := diskImage(24*blk, 5)
	other := bytes.Clone(disk)
	for i := 2; i < 24; i++ { // the beginning stays: it is what an open reads
		other[i*blk] ^= 1
	}
	plain := tarOf(t, manifestOf(file{"root.img", disk}), file{"root.img", disk})
	date := testTime.Add(time.Hour)
	forms := []struct {
		name, path string
		was, is    []byte // is: other bytes of the same size
		sidecar    bool
		proven     bool
	}{
		{"raw image with a list", "/r.xvm", packed(t, false, nil, file{"root.img", disk}), bytes.Replace(packed(t, false, nil, file{"root.img", disk}), disk, other, 1), false, true},
		{"gzip blocks", "/g.xvm", packed(t, true, nil, file{"root.img", disk}), nil, false, true},
		{"sidecar", "/s.xvm", plain, bytes.Replace(plain, disk, other, 1), true, true},
		{"bare image", "/root.img", disk, other, false, false},
	}
	type put struct {
		etag string
		date time.Time
	}
	servers := []struct {
		name    string
		was, is put
		flap    bool // each answer is one or the other
		same    bool // nothing tells them apart
		longer  bool // what has the other validator is longer
	}{
		{name: "strong ETag", was: put{`"a"`, date}, is: put{`"b"`, date}},
		{name: "strong ETag alone", was: put{`"a"`, time.Time{}}, is: put{`"b"`, time.Time{}}},
		{name: "weak ETag", was: put{`W/"a"`, time.Time{}}, is: put{`W/"b"`, time.Time{}}, same: true},
		{name: "date alone", was: put{"", date}, is: put{"", date.Add(time.Hour)}},
		{name: "none", same: true},
		{name: "ETag lost", was: put{`"a"`, date}},
		{name: "two servers", was: put{`"a"`, date}, is: put{`"b"`, date}, flap: true},
		{name: "another size", was: put{`"a"`, date}, is: put{`"b"`, date}, longer: true},
		{name: "another size alone", longer: true},
	}
	for _, f := range forms {
		for _, sv := range servers {
			t.Run(f.name+", "+sv.name, func(t *testing.T) {
				t.Parallel()
				set := func(s *site, p []byte, v put) {
					s.origin.Put(f.path, bytes.NewReader(p), int64(len(p)), v.date, v.etag, "")
				}
				flap := func(s *site) {
					if sv.flap {
						s.origin.Inject(origin.Fault{Path: f.path, Kind: origin.ChangeETag, Value: sv.is.etag, Rate: 0.5})
					}
				}
				s := newSite(t)
				s.release("one", f.path, f.was)
				if f.sidecar {
					s.sidecar = t.TempDir()
					mustWrite(t, s.sidecar+f.path+".sidecar", sidecarOf(t, f.was, nil))
				}
				set(s, f.was, sv.was)
				if f.proven {
					flap(s) // also while it is indexed
				}
				h := s.open()
				guest := h.open("one", "root.img")
				at := func(b int) error {
					p := make([]byte, 512)
					n, err := guest.ReadAt(t.Context(), p, int64(b)*blk)
					if (err == nil || err == io.EOF) && !bytes.Equal(p[:n], disk[b*blk:b*blk+n]) {
						t.Errorf("block %d: wrong bytes", b)
					}
					return err
				}
				if err := at(0); err != nil {
					t.Fatal(err)
				}
				flap(s)
				switch {
				case sv.longer:
					set(s, append(bytes.Clone(f.was), 0), sv.is)
				case !sv.flap:
					set(s, f.was, sv.is)
				}
				var failed error
				for _, b := range []int{23, 12, 18, 6} {
					if err := at(b); err != nil {
						failed = err
					}
				}
				if goesOn := !sv.longer && (f.proven || sv.same); goesOn && failed != nil || !goesOn && !sv.flap && failed == nil {
					t.Errorf("a running guest: %v", failed)
				}
				if !f.proven || sv.longer {
					return
				}
				h.close()
				h = s.open()
				r := h.rel("one")
				if _, err := r.Package(t.Context()); err != nil {
					t.Fatal("a new mount:", err)
				}
				if now, err := r.Confirm(t.Context()); err != nil || now != r {
					t.Errorf("a new mount takes it for another archive: %v", err)
				}
				if !bytes.Equal(h.read("one", "root.img"), disk) {
					t.Error("a new mount reads something else")
				}
				if f.is == nil || sv.same || sv.flap {
					return
				}
				// Other bytes under another validator: no wrong byte, and a new generation.
				h.close()
				s.dir = t.TempDir()
				set(s, f.was, sv.was)
				h = s.open()
				guest, r = h.open("one", "root.img"), h.rel("one")
				set(s, f.is, sv.is)
				for b := 20; at(b) == nil; b-- {
					if b == 12 {
						t.Fatal("other bytes are not noticed")
					}
				}
				eventually(t, "another generation", func() bool { return r.line.newest.Load() != r })
				if err := at(14); err == nil || !strings.Contains(err.Error(), "replaced") {
					t.Errorf("the old generation: %v", err)
				}
			})
		}
	}
}

// TestPackedAnew: a package whose block list, and one block of an image, are others under
// another validator is another package, though nearly all blocks are the same.
func TestPackedAnew(t *testing.T) {
	t.Parallel()
	disk := diskImage(96*blk, 5)
	other := bytes.Clone(disk)
	other[40*blk] ^= 1
	was, is := packed(t, false, nil, file{"root.img", disk}), packed(t, false, nil, file{"root.img", other})
	if len(was) != len(is) {
		t.Fatal("the packages differ in size")
	}
	s := newSite(t)
	s.release("one", "/r.xvm", was)
	put := func(p []byte, date time.Time) {
		s.origin.Put("/r.xvm", bytes.NewReader(p), int64(len(p)), date, "", "")
	}
	put(was, testTime)
	h := s.open()
	h.read("one", "root.img")
	r := h.rel("one")
	put(is, testTime.Add(time.Hour))
	r.checker.checked = time.Time{}
	if now, err := r.Confirm(t.Context()); err != nil || now == r {
		t.Errorf("it is taken for the same package: %v", err)
	}
	if !bytes.Equal(h.read("one", "root.img"), other) {
		t.Error("it is not read")
	}
}

// TestValidatorsLost: a server gives no validator at all any more, of a package without block
// list. If every header and the manifest are as before it is the same archive: guests read on,
// and a new mount reads it. Otherwise it is another one, however like it is.
func TestValidatorsLost(t *testing.T) {
	t.Parallel()
	disk := diskImage(24*blk, 5)
	second := diskImage(24*blk, 6)
	changed := bytes.Clone(disk)
	for i := 2; i < 24; i++ {
		changed[i*blk] ^= 1
	}
	a, b, c := file{"a.img", disk}, file{"b.img", second}, file{"a.img", changed}
	was := tarOf(t, manifestOf(a, b), a, b)
	for name, test := range map[string]struct {
		was, is []byte
		same    bool // it goes on
		other   bool // it is known to be another
	}{
		"the same":              {was, was, true, false},
		"other bytes":           {was, tarOf(t, manifestOf(c, b), c, b), false, true},
		"another order":         {was, tarOf(t, manifestOf(a, b), b, a), false, true},
		"no manifest":           {tarOf(t, a, b), tarOf(t, a, b), false, false},
		"one of two not listed": {tarOf(t, manifestOf(b), a, b), tarOf(t, manifestOf(b), a, b), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.release("one", "/r.xvm", test.was)
			put := func(p []byte, date time.Time, etag string) {
				s.origin.Put("/r.xvm", bytes.NewReader(p), int64(len(p)), date, etag, "")
			}
			put(test.was, testTime, `"a"`)
			h := s.open()
			guest := h.open("one", "a.img")
			at := func(block int) error {
				p := make([]byte, 512)
				n, err := guest.ReadAt(t.Context(), p, int64(block)*blk)
				if (err == nil || err == io.EOF) && !bytes.Equal(p[:n], disk[block*blk:block*blk+n]) {
					t.Errorf("block %d: bytes of two archives", block)
				}
				return err
			}
			if err := at(0); err != nil {
				t.Fatal(err)
			}
			r := h.rel("one")
			put(test.is, time.Time{}, "")
			again := func() error {
				r.checker.mu.Lock()
				r.checker.checked = time.Time{} // it may be asked again
				r.checker.mu.Unlock()
				return at(20)
			}
			if test.same {
				eventually(t, "a running guest reads on", func() bool { return again() == nil })
			} else {
				for range 3 {
					if again() == nil {
						t.Fatal("a running guest reads of what nothing proves")
					}
				}
			}
			if test.other {
				eventually(t, "another generation", func() bool { return r.line.newest.Load() != r })
				return
			}
			if !test.same {
				return
			}
			guest.Close()
			h.close()
			h = s.open()
			if now, err := h.rel("one").Confirm(t.Context()); err != nil || now != h.rel("one") {
				t.Errorf("a new mount takes it for another archive: %v", err)
			}
			image := h.file("one", "a.img")
			opened := h.open("one", "a.img")
			if st := image.Status(); st.Verify != "strict" {
				t.Errorf("it is checked %q", st.Verify)
			}
			opened.Close()
			if !bytes.Equal(h.read("one", "a.img"), disk) || !bytes.Equal(h.read("one", "b.img"), second) {
				t.Error("a new mount reads something else")
			}
			// And it is asked again: nothing else would tell that it is replaced now.
			r = h.rel("one")
			put(tarOf(t, manifestOf(c, b), c, b), time.Time{}, "")
			r.checker.checked = time.Time{}
			if now, err := r.Confirm(t.Context()); err != nil || now == r {
				t.Errorf("another archive is not noticed: %v", err)
			}
			if !bytes.Equal(h.read("one", "a.img"), changed) {
				t.Error("the other archive is not read")
			}
		})
	}
}
