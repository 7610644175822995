package catalog

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"

	"vmcastfs/cache/store"
)

// TestStatusShared: many that ask at once share what took long to make, and each
// gets what is not older than its question.
func TestStatusShared(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img", diskImage(2*blk, 1)}))
	h := s.open()
	h.StatusJSON()
	h.status.mu.Lock()
	h.status.took = statusEvery / statusShare
	h.status.mu.Unlock()
	h.read("one", "root.img")
	var mu sync.Mutex
	contents := make(map[*byte][]byte)
	var asking sync.WaitGroup
	for range 400 {
		asking.Go(func() {
			raw := h.StatusJSON()
			mu.Lock()
			defer mu.Unlock()
			contents[&raw[0]] = raw
		})
	}
	asking.Wait()
	if len(contents) > 4 { // one, and what those got that could not ask at once
		t.Errorf("%d contents for %d questions", len(contents), 400)
	}
	for _, raw := range contents {
		if !bytes.Contains(raw, []byte("root.img")) {
			t.Error("an answer is older than its question")
		}
	}
}

// TestStatusFromMemory: what status.json says of an image that is not open is not
// looked up when it is asked for; a look that follows finds what changed.
func TestStatusFromMemory(t *testing.T) {
	t.Parallel()
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
	before := h.look() // as if somebody had asked before
	h.status.mu.Lock()
	h.status.last = before
	h.status.mu.Unlock()
	key := store.Key(h.key("one", "root.img"))
	eventually(t, "it can be removed", func() bool { return h.cfg.Store.Remove(key) == nil })
	shown := func() int64 {
		var st Status
		if err := json.Unmarshal(h.StatusJSON(), &st); err != nil {
			t.Fatal(err)
		}
		return st.Releases[0].Files[0].CachedBytes
	}
	n := shown()
	h.status.mu.Lock()
	looked := h.status.last != before // ten seconds have passed
	h.status.mu.Unlock()
	if n != 4*blk && !looked {
		t.Errorf("the disk was looked at: %d bytes", n)
	}
	// Something is fetched, so that the next question has a look follow it.
	s.release("two", "/two.xvm", tarOf(t, file{"root.img", diskImage(4*blk, 2)}))
	if err := h.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.read("two", "root.img")
	eventually(t, "a look finds it", func() bool {
		shown()
		return f.Known().CachedBytes == 0
	})
}
