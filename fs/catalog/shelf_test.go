package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
)

// TestIdlePackagesAreGivenBack: the packages of releases that were looked at take no
// more memory than there is room for; one that is used stays the object it is, and the
// others are read from the disk again, without a request.
func TestIdlePackagesAreGivenBack(t *testing.T) {
	s := newSite(t)
	const releases = 16
	for i := range releases {
		s.release(fmt.Sprint("r", i), fmt.Sprintf("/r%d.xvm", i), tarOf(t, file{"xvm.xml", []byte("<x/>")}, file{"profile.txt", bytes.Repeat([]byte{byte('a' + i)}, 3<<20)}, file{"root.img", diskImage(2*blk, uint64(i))}))
	}
	s.publish(s.items...)
	h := s.open()
	used, err := h.rel("r0").PackageSoon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range releases {
		if _, err := h.rel(fmt.Sprint("r", i)).PackageSoon(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.settle(fmt.Sprint("r", i))
	}
	runtime.GC()
	runtime.GC()
	held := 0
	for i := range releases {
		if _, ok := h.rel(fmt.Sprint("r", i)).Peek(); ok {
			held++
		}
	}
	if held > releases/2 {
		t.Errorf("%d packages of 3 MiB are in memory", held)
	}
	if p, _ := h.rel("r0").Peek(); p != used {
		t.Error("a package that is used has been forgotten")
	}
	requests := s.origin.Stats("/r1.xvm").Requests
	p, err := h.rel("r1").PackageSoon(t.Context())
	if err != nil || p.File("profile.txt").Size() != 3<<20 || s.origin.Stats("/r1.xvm").Requests != requests {
		t.Error(err, s.origin.Stats("/r1.xvm").Requests-requests, "requests")
	}
	runtime.KeepAlive(used)
}

// TestGivenBackAndReplaced: if the archive turns out to be another one when a package is
// read again, nothing of it is shown as what was listed.
func TestGivenBackAndReplaced(t *testing.T) {
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img", diskImage(2*blk, 1)}))
	s.publish(s.items...)
	h := s.open()
	r := h.rel("one")
	if _, err := r.PackageSoon(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that nobody holds the package", func() bool {
		giveBack(r)
		runtime.GC()
		_, held := r.Peek()
		return !held
	})
	if err := h.cfg.Store.DeleteDoc("package", docName(r)); err != nil { // it was evicted
		t.Fatal(err)
	}
	s.origin.PutBytes("/one.xvm", tarOf(t, file{"root.img", diskImage(3*blk, 2)}))
	if _, err := r.Package(t.Context()); !errors.Is(err, archive.ErrReplaced) {
		t.Error(err)
	}
	var p *bundle.Package
	var err error
	eventually(t, "the new one", func() bool { p, err = h.rel("one").Package(t.Context()); return err == nil })
	if n := p.File("root.img").Size(); n != 3*blk {
		t.Error(n)
	}
}
