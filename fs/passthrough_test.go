package fs

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/fs/internal/fusetest"
)

// requirePassthrough skips where the kernel does not offer it to us.
func requirePassthrough(t *testing.T, m *mounted) {
	t.Helper()
	if !m.vfs.passthrough.Load() {
		fusetest.Missing(t, "the kernel offers no passthrough")
	}
}

// An image that completes while it is open stays cached; after the last close
// the kernel reads it itself. Asking for passthrough at the second open would
// make that open fail with EIO.
func TestMixedOpens(t *testing.T) {
	disk := newFile("disk.img", 1<<20)
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	requirePassthrough(t, m)
	open := func() *os.File {
		t.Helper()
		f, err := os.Open(m.path("one/disk.img"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	check := func(f *os.File, off int64) {
		t.Helper()
		p := make([]byte, 4096)
		if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, disk.data[off:off+4096]) {
			t.Errorf("wrong bytes at %d, or %v", off, err)
		}
	}
	released := func(n int64) { // the kernel does not wait for releases
		t.Helper()
		testkit.Eventually(t, fmt.Sprint("handles are closed: ", n), time.Minute, func() bool { return disk.closed.Load() == n })
	}

	first := open()
	check(first, 0)
	disk.complete(t)
	second := open()
	check(second, 512<<10)
	check(first, 768<<10)
	first.Close()
	third := open()
	check(third, 900<<10)
	if m.Stats().Passthrough != 0 {
		t.Error("passthrough while the inode is cached")
	}
	second.Close()
	third.Close()
	released(3)

	before := disk.reads.Load()
	a, b := open(), open()
	if got := m.Stats().Passthrough; got != 2 {
		t.Errorf("%d opens by passthrough, want 2", got)
	}
	check(a, 0)
	check(b, 100<<10)
	a.Close() // owns the backing file, which has to stay
	released(3)
	disk.local.Store(nil) // as if evicted: still open, so still passthrough
	c := open()
	check(c, 200<<10)
	check(b, 300<<10)
	b.Close()
	c.Close()
	released(6)
	if got := disk.reads.Load(); got != before {
		t.Errorf("%d reads came to us in passthrough mode", got-before)
	}

	d := open()
	defer d.Close()
	check(d, 4096)
	if got := m.Stats().Passthrough; got != 3 {
		t.Errorf("%d opens by passthrough after it ended, want 3", got)
	}
}

// A file that the kernel refuses must not switch passthrough off for the others:
// go-fuse would, and opens of inodes in passthrough mode would fail from then on.
func TestRefusedPassthrough(t *testing.T) {
	good, bad := newFile("good", 1<<16), newFile("bad", 1<<16)
	m := mountTree(t, newTree(t, newRelease("one", bad, good)))
	requirePassthrough(t, m)
	good.complete(t)
	r, w, err := os.Pipe() // no regular file
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	bad.local.Store(r)

	first, err := os.Open(m.path("one/good"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if !bytes.Equal(readFile(t, m.path("one/bad")), bad.data) {
		t.Error("refused file has wrong bytes")
	}
	if !bytes.Equal(readFile(t, m.path("one/good")), good.data) {
		t.Error("good file has wrong bytes")
	}
	if good.reads.Load() != 0 || bad.reads.Load() == 0 {
		t.Errorf("good: %d reads, bad: %d", good.reads.Load(), bad.reads.Load())
	}
}

// TestPassthroughAfterRelease: an open for passthrough while the last file that
// was open otherwise is being released.
func TestPassthroughAfterRelease(t *testing.T) {
	disk := newFile("disk.img", 1<<16)
	disk.closeHook = func() { time.Sleep(10 * time.Millisecond) }
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	requirePassthrough(t, m)
	disk.complete(t)
	local := disk.local.Load()
	open := func() *os.File {
		t.Helper()
		f, err := os.Open(m.path("one/disk.img"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for range 10 {
		disk.local.Store(nil)
		open().Close()
		disk.local.Store(local)
		first := open()
		time.Sleep(20 * time.Millisecond) // the release is through
		second := open()
		first.Close()
		second.Close()
	}
}

func TestNoPassthrough(t *testing.T) {
	disk := newFile("disk.img", 1<<16)
	disk.complete(t)
	m := mountTree(t, newTree(t, newRelease("one", disk)), func(o *Options) { o.NoPassthrough = true })
	readFile(t, m.path("one/disk.img"))
	if disk.reads.Load() == 0 {
		t.Error("the kernel read the file itself")
	}
}
