package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// besideSlow is how long one sequential reader takes, beside so many others whose
// servers drip.
func besideSlow(t *testing.T, others int, host func(i int) string) (took time.Duration) {
	st := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, Options{Store: newStoreAt(t, st)})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		read := func(f *File, off, size int64) {
			buf := make([]byte, 128<<10)
			for ; off < size; off += int64(len(buf)) {
				if _, err := f.ReadAt(ctx, buf, off); err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
			}
		}
		for i := range others {
			const size = 16 << 20
			f := mustOpen(t, c, Spec{Key: testKey(10 + i), Size: size, Origin: host(i), Source: newLink(size, 30*time.Millisecond, 20_000)})
			wg.Go(func() { read(f, 256<<10, size) }) // what precedes it in the region takes a slot
		}
		time.Sleep(2 * slotTrial)
		const size = 32 << 20
		f := mustOpen(t, c, Spec{Key: testKey(1), Size: size, Origin: "good", Source: newLink(size, 30*time.Millisecond, 12_500_000)})
		begun := time.Now()
		read(f, 0, size)
		took = time.Since(begun)
		c.shared.slots.mu.Lock()
		if n := len(c.shared.slots.jobs); n > allSlots {
			t.Errorf("%d slots are held, of %d", n, allSlots)
		}
		c.shared.slots.mu.Unlock()
		cancel()
		wg.Wait()
	})
	return took
}

// TestSlowOrigins: servers that drip do not keep others from being read ahead of.
func TestSlowOrigins(t *testing.T) {
	alone := besideSlow(t, 0, nil)
	for _, tc := range []struct {
		name    string
		readers int
		host    func(i int) string
		delays  bool // as it is within one origin, which shows that the test can tell
	}{
		{"one", 12, func(int) string { return "slow" }, false},
		{"its own", 12, func(int) string { return "good" }, true},
		{"nine", 20, func(i int) string { return fmt.Sprint(i % 9) }, false},
		{"seventy", 70, func(i int) string { return fmt.Sprint(i) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			took := besideSlow(t, tc.readers, tc.host)
			t.Logf("%v, alone %v: %.2f", took, alone, float64(took)/float64(alone))
			if delayed := took > alone*3/2; delayed != tc.delays {
				t.Errorf("%v, alone %v", took, alone)
			}
		})
	}
}
