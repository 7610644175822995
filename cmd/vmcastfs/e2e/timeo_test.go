package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// TestSoftReadKeepsToTimeo: however a read comes, through the kernel's page cache
// and its read-ahead, past it, large, or of what another process is fetching
// already, it fails after timeo, and not after a multiple of it.
func TestSoftReadKeepsToTimeo(t *testing.T) {
	t.Parallel()
	disk := noise(24<<20, 26)
	archive := packListed(t, member{"disk.img", disk})
	const timeo = 2 * time.Second
	together(t, map[string]struct {
		flags  int
		length int
		second bool // a hard mount of the same cache waits for the same block
		fault  origin.Fault
	}{
		"buffered":           {0, 4096, false, origin.Fault{Kind: origin.Hang}},
		"buffered and large": {0, 2 << 20, false, origin.Fault{Kind: origin.Hang}},
		"direct":             {syscall.O_DIRECT, 4096, false, origin.Fault{Kind: origin.Hang}},
		"direct and large":   {syscall.O_DIRECT, 2 << 20, false, origin.Fault{Kind: origin.Hang}},
		"body goes silent":   {0, 256 << 10, false, origin.Fault{Kind: origin.Stall, After: 1000}},
		"storm of 503":       {0, 256 << 10, false, origin.Fault{Kind: origin.Status, Status: 503, RetryAfter: "30"}},
		"shared cache":       {syscall.O_DIRECT, 4096, true, origin.Fault{Kind: origin.Hang}},
	}, func(t *testing.T, c struct {
		flags  int
		length int
		second bool
		fault  origin.Fault
	}) {
		w := bareWorld(t)
		w.publish("one", archive)
		w.mount("complete=off", "soft", "timeo=2s")
		f := w.openWith(c.flags, "one", "disk.img")
		p := aligned(c.length)
		testkit.Eventually(t, "a first read", time.Minute, func() bool { _, err := f.ReadAt(p[:4096], 0); return err == nil })
		const off = 12 << 20
		if c.second {
			other := *w
			other.dir = t.TempDir()
			other.mount("complete=off", "hard")
			g := other.open("one", "disk.img")
			defer w.origin.Inject(c.fault)()
			go func() { _, _ = g.ReadAt(aligned(4096), off) }()
			time.Sleep(500 * time.Millisecond)
		} else {
			defer w.origin.Inject(c.fault)()
		}
		// A fault of ours would show each time, a busy machine not always.
		testkit.Eventually(t, fmt.Sprint("a read fails after ", timeo), time.Minute, func() bool {
			time.Sleep(500 * time.Millisecond)
			began := time.Now()
			_, err := f.ReadAt(p, off)
			took := time.Since(began)
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("the read: %v", err)
			}
			t.Logf("failed after %s", took.Round(time.Millisecond))
			return took > timeo*2/3 && took < timeo*3/2
		})
	})
}
