package cache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOutcome: each read counts once, as a hit, a prefetch hit or a miss.
func TestOutcome(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Options{Store: newStoreAt(t, dir)})
		f := mustOpen(t, c, Spec{Size: 64 << 20, Source: newLink(64<<20, 30*time.Millisecond, 1<<30)})
		count := func(hits, prefetched, misses int64) {
			t.Helper()
			synctest.Wait()
			s := c.Stats()
			if s.Hits != hits || s.PrefetchHits != prefetched || s.Misses != misses || s.Reads != hits+prefetched+misses {
				t.Errorf("%d hits, %d prefetch hits, %d misses of %d reads; want %d, %d, %d", s.Hits, s.PrefetchHits, s.Misses, s.Reads, hits, prefetched, misses)
			}
		}
		const bs = DefaultBlockSize
		readAt(t, f, 0)
		count(0, 0, 1)
		readAt(t, f, 100)
		count(1, 0, 1)
		time.Sleep(time.Second)
		readAt(t, f, 3*bs) // came along with the first
		readAt(t, f, 3*bs)
		count(2, 1, 1)
		if _, err := f.ReadAt(context.Background(), make([]byte, 3*bs), 3*bs); err != nil { // one that was read, two that were not
			t.Fatal(err)
		}
		count(2, 2, 1)

		// Two who wait for one demanded block both missed; who waits for the rest of
		// its region did not.
		done := make(chan error)
		for _, off := range []int64{32 << 20, 32 << 20, 32<<20 + 4*bs} {
			go func() {
				_, err := f.ReadAt(context.Background(), make([]byte, 10), off)
				done <- err
			}()
			synctest.Wait()
		}
		if err := errors.Join(<-done, <-done, <-done); err != nil {
			t.Fatal(err)
		}
		count(2, 3, 3)

		s := c.Stats().Latency
		if least := s.Miss.Most(0.5); least < 30*time.Millisecond || least > 80*time.Millisecond {
			t.Errorf("half of the misses took at most %v", least)
		}
		if s.Hit.Most(1) > time.Millisecond || s.Hit.Nanos != 0 || s.Miss.Nanos < int64(90*time.Millisecond) {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnread(t *testing.T) {
	var u *unread
	if u.take(0) {
		t.Error("nothing was noted")
	}
	places := make(unread, unreadMost)
	u = &places
	u.note(0)
	u.note(7)
	u.note(7 + unreadMost)
	for i, want := range []bool{true, false} {
		if u.take(0) != want || u.take(7+unreadMost) != want || u.take(7) {
			t.Errorf("look %d", i)
		}
	}
}
