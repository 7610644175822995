package fs

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/fs/internal/fusetest"
)

// An image may have as many waiting reads as there are slots left.
func TestSlotsAreShared(t *testing.T) {
	for _, total := range []int{0, 1, 2, 3, 255, 256, 257} {
		for _, images := range []int{1, 2, 8} {
			s := slots{total: total}
			users := make([]slotUser, images)
			for progress := true; progress; {
				progress = false
				for i := range users {
					progress = s.take(&users[i]) || progress
				}
			}
			for i := range users {
				// In turns, the last ones may come one short of the first.
				if most, least := (total+images)/(images+1), total/(images+1); users[i].waiting > most || users[i].waiting < least {
					t.Errorf("%d slots, image %d of %d: %d wait, want %d to %d", total, i, images, users[i].waiting, least, most)
				}
			}
			for i := range users {
				for users[i].waiting > 0 {
					s.give(&users[i])
				}
			}
			if s.used != 0 {
				t.Errorf("%d slots, %d images: %d are used by nobody", total, images, s.used)
			}
		}
	}
}

// A server that does not answer holds up the readers of its image, and nobody else,
// however many they are.
func TestL8WaitingReads(t *testing.T) {
	const depth, others, size = 1024, 8, 256 << 10
	lost := newFile("lost.img", depth*4096)
	lost.hang.Store(true)
	files := []*scriptedFile{lost}
	for i := range others {
		files = append(files, newFile(fmt.Sprintf("cached%d.img", i), size))
	}
	m := mountTree(t, newTree(t, newRelease("one", files...)), func(o *Options) { o.NoPassthrough = true })
	flood := fusetest.Child(t.Context(), "flood", m.path("one/lost.img"), fmt.Sprint(depth))
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all wait", time.Minute, func() bool {
		m.vfs.room.slots.mu.Lock()
		defer m.vfs.room.slots.mu.Unlock()
		return m.vfs.room.slots.used == depth
	})
	var wg sync.WaitGroup
	for _, f := range files[1:] {
		wg.Go(func() {
			out, err := fusetest.Child(t.Context(), "odirect", m.path("one/"+f.name), fmt.Sprint(size)).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", f.name, err, out)
			}
		})
	}
	wg.Wait()
	if err := flood.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	flood.Wait()
	testkit.Eventually(t, "no slot is held", time.Minute, func() bool {
		m.vfs.room.slots.mu.Lock()
		defer m.vfs.room.slots.mu.Unlock()
		return m.vfs.room.slots.used == 0
	})
}

// Reads beyond the share of an image fail at once, and the others go on.
func TestL8ReadsBeyondTheShare(t *testing.T) {
	const depth, total = 64, 100
	lost, cached := newFile("lost.img", depth*4096), newFile("cached.img", 256<<10)
	lost.hang.Store(true)
	m := mountTree(t, newTree(t, newRelease("one", lost, cached)), func(o *Options) { o.NoPassthrough = true })
	m.vfs.room.slots.mu.Lock()
	m.vfs.room.slots.total = total
	m.vfs.room.slots.mu.Unlock()
	flood := fusetest.Child(t.Context(), "flood", m.path("one/lost.img"), fmt.Sprint(depth))
	var out bytes.Buffer
	flood.Stdout = &out
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the excess failed", time.Minute, func() bool { return m.Stats().Errors == depth-total/2 })
	if got := readFile(t, m.path("one/cached.img")); !bytes.Equal(got, cached.data) {
		t.Error("wrong bytes of the other image")
	}
	lost.hang.Store(false)
	flood.Process.Kill()
	flood.Wait()
	if !strings.Contains(m.log.String(), errCrowded.Error()) {
		t.Errorf("the log does not say why:\n%s", m.log)
	}
}
