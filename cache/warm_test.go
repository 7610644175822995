package cache

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWarm: what is missing of a boot set is fetched, no more than asked for, and a
// block that a reader demands meanwhile comes no later than one range takes.
func TestWarm(t *testing.T) {
	const rtt, rate = 30 * time.Millisecond, 12_500_000
	const late = rtt + DefaultBlockSize*time.Second/rate + followRange*DefaultBlockSize*time.Second/rate
	for name, profile := range map[string][]Extent{"short": profileOf(0, 400), "long": {{0, 64 << 20}}} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			src := newLink(1<<30, rtt, rate)
			c := newCache(t, Options{Store: newStoreAt(t, dir), Region: 4096})
			f := mustOpen(t, c, Spec{Size: 1 << 30, Source: src})
			done := make(chan int64, 1)
			const most = 20 << 20
			go func() {
				got, err := f.Warm(t.Context(), profile, most)
				if err != nil {
					t.Error(err)
				}
				done <- got
			}()
			read := int64(0)
			for i := range int64(10) {
				time.Sleep(50 * time.Millisecond)
				if took := readAt(t, f, 768<<20+50*i*DefaultBlockSize); took > late {
					t.Errorf("%s: read %d took %v, more than %v", name, i, took, late)
				}
				read += DefaultBlockSize
			}
			got := <-done
			if got < most || got > most+followRange*DefaultBlockSize || src.bytes.Load() != got+read {
				t.Errorf("%s: %d bytes counted and %d fetched, of at most %d", name, got, src.bytes.Load()-read, int64(most))
			}
			before := src.bytes.Load()
			if again, err := f.Warm(t.Context(), profile[:1], most); err != nil || again > most {
				t.Error(again, err)
			}
			if name == "short" && src.bytes.Load() != before {
				t.Error("what is here is fetched again")
			}
		})
	}
}
