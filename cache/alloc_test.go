//go:build !race

package cache

import (
	"testing"

	"vmcastfs/cache/trace"
)

// TestHitAllocates: a hit allocates nothing, from disk or memory, also while
// the file is still incomplete, and its reads are recorded.
func TestHitAllocates(t *testing.T) {
	for _, memory := range []int64{0, 8 << 20} {
		for _, whole := range []bool{true, false} {
			f := localFile(t, memory, 1<<20)
			f.e.standing.whole.Store(whole)
			f.e.recorder = trace.NewRecorder(&trace.Pool{}, DefaultBlockSize, nil, func() {})
			small, large := make([]byte, 4096), make([]byte, 256<<10)
			f.ReadAt(ctx, small, 4096)
			f.e.s.mem.wait()
			if n := testing.AllocsPerRun(200, func() {
				f.ReadAt(ctx, small, 4096)
				f.ReadAt(ctx, large, 0)
			}); n > 0 {
				t.Errorf("memory %d, whole %v: %v allocations per hit", memory, whole, n)
			}
		}
	}
}
