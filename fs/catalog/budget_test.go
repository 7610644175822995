package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"

	"vmcastfs/xvm/seekable"
)

// xzOf compresses with a dictionary of so many MiB.
func xzOf(t testing.TB, p []byte, dict int) []byte {
	t.Helper()
	cmd := exec.Command("xz", "-T1", fmt.Sprintf("--lzma2=preset=0,dict=%dMiB", dict))
	cmd.Stdin = bytes.NewReader(p)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("xz: %v", err)
	}
	return out
}

// TestC1SharedBudget: whatever is inflated takes its memory from what all
// decoders of its kind share, and decoders of members get on that wait for one
// of an archive, with memory for one each.
func TestC1SharedBudget(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var members []file
	for i := range 4 {
		members = append(members, file{fmt.Sprintf("%d.img.xz", i), xzOf(t, diskImage(9*blk, uint64(i)), 4)})
	}
	s.release("one", "/one.xvm", tarOf(t, members...))
	s.release("two", "/two.tar.xz", xzOf(t, tarOf(t, members...), 4))
	s.release("bare", "/bare.img.xz", xzOf(t, diskImage(9*blk, 1), 4))
	s.publish(s.items...)

	memory := func(members, archives int64) func(*Config) {
		return func(cfg *Config) { cfg.inflate = newBudgets(members, archives) }
	}
	h := s.open(memory(5<<20, 5<<20))
	var readers sync.WaitGroup
	for _, release := range []string{"two", "one"} {
		for i := range members {
			f := h.open(release, fmt.Sprintf("%d.img", i))
			readers.Go(func() {
				got := make([]byte, 9*blk)
				if _, err := f.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, diskImage(9*blk, uint64(i))) {
					t.Errorf("%s/%d.img: %v", release, i, err)
				}
			})
		}
	}
	readers.Wait()
	h.close()

	s.dir = t.TempDir()
	h = s.open(memory(1, 1<<30))
	if _, err := h.open("one", "0.img").ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, seekable.ErrLimit) {
		t.Errorf("a member without memory for it: %v", err)
	}
	h.close()

	s.dir = t.TempDir()
	h = s.open(memory(1<<30, 1))
	if _, err := h.rel("two").Package(t.Context()); !errors.Is(err, seekable.ErrLimit) {
		t.Errorf("an archive without memory for it: %v", err)
	}
	if _, err := h.rel("bare").Package(t.Context()); !errors.Is(err, seekable.ErrLimit) {
		t.Errorf("a look into what is compressed, without memory for it: %v", err)
	}
}
