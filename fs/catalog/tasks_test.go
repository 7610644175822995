package catalog

import (
	"testing"
	"time"
)

// TestPublishWhileIndexing: a release that begins to be indexed while a feed is
// published waits for nothing that waits for it.
func TestPublishWhileIndexing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.xvm", tarOf(t, file{"root.img", diskImage(2*blk, 1)}))
	h := s.open()
	r := h.rel("one")
	h.mu.Lock() // as publish holds it
	indexed := make(chan error, 1)
	go func() {
		_, err := r.Package(t.Context())
		indexed <- err
	}()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !r.mu.TryLock() { // Package is under way
			break
		}
		r.mu.Unlock()
	}
	seen := make(chan struct{})
	go func() {
		r.Item()
		close(seen)
	}()
	select {
	case <-seen:
	case <-time.After(time.Minute):
		t.Error("publishing waits for a release that waits for it")
	}
	h.mu.Unlock()
	if err := <-indexed; err != nil {
		t.Error(err)
	}
}

// TestLookPause: looks at the disk take a twentieth of the time, and come once a minute
// at least.
func TestLookPause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{0: lookEvery, 100 * time.Millisecond: lookEvery, time.Second: 20 * time.Second, time.Hour: looksLate} {
		if got := lookPause(took); got != want {
			t.Errorf("after %s: %s", took, got)
		}
	}
}
