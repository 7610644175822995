package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vmcastfs/cache"
)

// TestSmallFilesAreFetched: a package with many small files is indexed and read with few
// requests, its document does not hold their content, and what is fetched again must be
// what was indexed, also where no manifest lists it.
func TestSmallFilesAreFetched(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var files []file
	size := 0
	for i := range 200 {
		files = append(files, file{fmt.Sprintf("f%d.txt", i), noise(9000+i, byte(i))})
		size += 9000 + i
	}
	wrong := file{"wrong.txt", []byte("what is listed")}
	manifest := manifestOf(append(files[1:], wrong)...)
	wrong.content = []byte("what is there ")
	members := append([]file{manifest}, append(files, wrong)...)
	put := func(members []file) {
		pkg := tarOf(t, members...)
		s.origin.Put("/one.xvm", bytes.NewReader(pkg), int64(len(pkg)), testTime, `"1"`, "")
	}
	s.release("one", "/one.xvm", tarOf(t, members...))
	put(members)
	h := s.open()
	for _, f := range files {
		if !bytes.Equal(h.read("one", f.name), f.content) {
			t.Errorf("%s: other bytes", f.name)
		}
	}
	if st := s.origin.Stats("/one.xvm"); st.BytesSent > int64(size)*13/10 || st.Requests > 30 {
		t.Errorf("%d bytes in %d requests for %d", st.BytesSent, st.Requests, size)
	}
	check := func() {
		t.Helper()
		for name, state := range map[string]string{"f0.txt": "unverified", "f1.txt": "verified", "wrong.txt": "corrupt"} {
			if st := h.file("one", name).Status(); st.State != state {
				t.Errorf("%s is %s: %s", name, st.State, st.Note)
			}
		}
		if _, err := h.file("one", "wrong.txt").Open(t.Context()); !errors.Is(err, cache.ErrCorrupt) {
			t.Error(err)
		}
	}
	check()
	doc, err := h.cfg.Store.GetDoc("package", docName(h.rel("one")))
	if err != nil || len(doc) > size/4 {
		t.Errorf("a document of %d bytes, %v", len(doc), err)
	}
	h.close()

	other := append([]file{}, members...)
	for i := range other {
		if strings.HasPrefix(other[i].name, "f") {
			other[i].content = noise(len(other[i].content), 99)
		}
	}
	put(other)
	h = s.open()
	check()
	_, lists := h.pkg("one").Keys()
	for _, key := range lists {
		if err := h.cfg.Store.Remove(key); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f0.txt", "f1.txt"} {
		if _, err := h.file("one", name).Open(t.Context()); !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(members)
	if !bytes.Equal(h.read("one", "f1.txt"), files[1].content) {
		t.Error("other bytes")
	}
}
