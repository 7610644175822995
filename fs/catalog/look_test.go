package catalog

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/store"
)

// TestStatusShared: all that ask within a second get one and the same content.
func TestStatusShared(t *testing.T) {
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img", diskImage(2*blk, 1)}))
	h := s.open()
	h.read("one", "root.img")
	for { // until a second was enough for all of them
		var mu sync.Mutex
		contents := make(map[*byte]int)
		begun := time.Now()
		h.StatusJSON()
		var asking sync.WaitGroup
		for range 400 {
			asking.Go(func() {
				raw := h.StatusJSON()
				mu.Lock()
				defer mu.Unlock()
				contents[&raw[0]]++
			})
		}
		asking.Wait()
		if took := time.Since(begun); len(contents) > 1+int(took/statusEvery) {
			t.Fatalf("%d contents within %s", len(contents), took)
		}
		if len(contents) == 1 {
			return
		}
	}
}

// TestStatusFromMemory: what status.json says of an image that is not open is not
// looked up when it is asked for; the look behind the question finds what changed.
func TestStatusFromMemory(t *testing.T) {
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img", diskImage(4*blk, 1)}))
	h := s.open()
	if err := h.complete("one", "root.img"); err != nil {
		t.Fatal(err)
	}
	f := h.file("one", "root.img")
	if st := f.Known(); st.CachedBytes != 4*blk {
		t.Fatalf("%+v", st)
	}
	h.status.last = h.look() // as if somebody had asked before
	key := store.Key(h.key("one", "root.img"))
	eventually(t, "it can be removed", func() bool { return h.cfg.Store.Remove(key) == nil })
	if st := f.Known(); st.CachedBytes != 4*blk {
		t.Errorf("the disk was looked at: %+v", st)
	}
	eventually(t, "the look behind a question finds it", func() bool {
		var st Status
		if err := json.Unmarshal(h.StatusJSON(), &st); err != nil {
			t.Fatal(err)
		}
		return st.Releases[0].Files[0].CachedBytes == 0
	})
	if st := f.Status(); st.CachedBytes != 0 {
		t.Errorf("%+v", st)
	}
}
