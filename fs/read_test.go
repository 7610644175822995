package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

func TestReadsFromOtherProcesses(t *testing.T) {
	const n = 3<<20 + 777
	for _, mode := range []string{"cached", "passthrough"} {
		t.Run(mode, func(t *testing.T) {
			disk := newFile("disk.img", n)
			m := mountTree(t, newTree(t, newRelease("one", disk)))
			if mode == "passthrough" {
				requirePassthrough(t, m)
				disk.complete(t)
			}
			run := func(child string) {
				fusetest.Run(t, fusetest.Child(t.Context(), child, m.path("one/disk.img"), fmt.Sprint(n)))
			}
			run("mmap")
			run("locks")
			if got := disk.reads.Load(); (got == 0) != (mode == "passthrough") {
				t.Errorf("%d reads came to us", got)
			}
			run("odirect")
		})
	}
}

// TestOddDirectReads: what O_DIRECT gives does not depend on whether the image is
// complete.
func TestOddDirectReads(t *testing.T) {
	const n = 3<<20 + 777
	disk := newFile("disk.img", n)
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	odd := func() {
		fusetest.Run(t, fusetest.Child(t.Context(), "odd", m.path("one/disk.img"), fmt.Sprint(n)))
	}
	odd()
	requirePassthrough(t, m)
	testkit.Eventually(t, "closed", time.Minute, func() bool { return disk.closed.Load() == 1 })
	disk.complete(t)
	odd()
	f, err := os.Open(m.path("one/disk.img")) // the kernel reads for this one
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	odd()
	before := disk.reads.Load()
	if _, err := f.ReadAt(make([]byte, 4097), 1); err != nil || disk.reads.Load() != before {
		t.Errorf("a read of the complete image came to us, or failed: %v", err)
	}
}

func TestReadOffsets(t *testing.T) {
	const n = 2*65536 + 500
	disk := newFile("disk.img", n)
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	f, err := os.Open(m.path("one/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	edges := []int{0, 1, 511, 512, 65535, 65536, 65537, 131072, n - 1, n, n + 1, n + 70000}
	for _, off := range edges {
		for _, size := range edges {
			p := make([]byte, size)
			got, err := f.ReadAt(p, int64(off))
			want := disk.data[min(off, n):min(off+size, n)]
			if !bytes.Equal(p[:got], want) || got < size != (err == io.EOF) {
				t.Fatalf("read %d at %d: %d bytes, %v; want %d", size, off, got, err, len(want))
			}
		}
	}
	s := m.Stats()
	var latencies int64
	for _, c := range s.Latency {
		latencies += c
	}
	if s.Reads == 0 || s.Bytes < n || latencies != int64(s.Reads) || s.OpenFiles != 1 || s.Opens != 1 || s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPagesAreKept(t *testing.T) {
	disk := newFile("disk.img", 1<<20)
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	readFile(t, m.path("one/disk.img"))
	before := disk.reads.Load()
	readFile(t, m.path("one/disk.img"))
	if got := disk.reads.Load(); got != before || before == 0 {
		t.Errorf("the second reader made %d requests, the first %d", got-before, before)
	}
}

func TestConcurrentReaders(t *testing.T) {
	disk := newFile("disk.img", 4<<20)
	m := mountTree(t, newTree(t, newRelease("one", disk)))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f, err := os.Open(m.path("one/disk.img"))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			p := make([]byte, 70_001)
			for k := range 40 {
				off := (i*1_000_003 + k*77_777) % (len(disk.data) - len(p))
				if _, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, disk.data[off:off+len(p)]) {
					t.Errorf("at %d: wrong bytes or %v", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
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
		for end := time.Now().Add(5 * time.Second); disk.closed.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d handles closed, want %d", disk.closed.Load(), n)
			}
		}
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

func hanging(t *testing.T, f *scriptedFile) {
	t.Helper()
	select {
	case <-f.waiting:
	case <-time.After(time.Minute):
		t.Fatal("no read arrived")
	}
}

func TestKilledReader(t *testing.T) {
	disk := newFile("disk.img", 1<<20)
	disk.hang.Store(true)
	m := mountTree(t, newTree(t, newRelease("one", disk)), func(o *Options) { o.InterruptGrace = time.Hour })
	direct := fusetest.Child(t.Context(), "read", m.path("one/disk.img")) // waits for the request itself
	dd := func() *exec.Cmd {                                              // waits for a page
		return exec.Command("dd", "if="+m.path("one/disk.img"), "of=/dev/null", "bs=4096", "count=1", "status=none")
	}
	for _, c := range []struct {
		cmd *exec.Cmd
		sig syscall.Signal
	}{
		{direct, syscall.SIGKILL}, // Go programs handle the others
		{dd(), syscall.SIGKILL}, {dd(), syscall.SIGTERM}, {dd(), syscall.SIGALRM},
	} {
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		hanging(t, disk)
		clock := testkit.StartClock(t)
		c.cmd.Process.Signal(c.sig)
		c.cmd.Wait()
		if took := clock.Elapsed(); took > 5*time.Second {
			t.Errorf("%s needed %v to die of %v", c.cmd.Path, took, c.sig)
		}
	}
	// ls, stat and df answer meanwhile, and the file works again afterwards.
	stat(t, m.path("one/disk.img"))
	disk.hang.Store(false)
	if !bytes.Equal(readFile(t, m.path("one/disk.img")), disk.data) {
		t.Error("wrong bytes after interrupted reads")
	}
}

// A signal that a program handles ends its waiting only after the grace.
func TestInterruptedLookup(t *testing.T) {
	rel := newRelease("one", newFile("disk.img", 1<<20))
	rel.block = make(chan struct{})
	defer close(rel.block)
	m := mountTree(t, newTree(t, rel), func(o *Options) { o.InterruptGrace = 300 * time.Millisecond })
	cmd := fusetest.Child(t.Context(), "handled", m.path("one/disk.img"))
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for rel.asked() == 0 {
		time.Sleep(time.Millisecond)
	}
	// The signal has to hit the thread that waits; the others just handle it.
	start := time.Now()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		var tid int
		fmt.Sscan(task.Name(), &tid)
		unix.Tgkill(cmd.Process.Pid, tid, unix.SIGUSR1)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 250*time.Millisecond {
		t.Errorf("interrupted after %v, before the grace", took)
	}
	if got := out.String(); got != "interrupted system call\n" {
		t.Errorf("stat: %s", got)
	}
	if strings.Contains(m.log.String(), "ERROR") {
		t.Error("interruptions are logged as errors")
	}
}

// Pages served before the image turned corrupt do not survive in the kernel.
func TestCorruptDropsPages(t *testing.T) {
	for _, by := range []string{"read", "call"} {
		t.Run(by, func(t *testing.T) {
			disk := newFile("disk.img", 8<<20)
			m := mountTree(t, newTree(t, newRelease("one", disk)))
			f, err := os.Open(m.path("one/disk.img"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, 4096)
			if _, err := f.ReadAt(p, 0); err != nil {
				t.Fatal(err)
			}
			disk.fail(fmt.Errorf("block 7: %w", errCorrupt))
			if _, err := f.ReadAt(p, 0); err != nil {
				t.Fatalf("the page was not kept: %v", err)
			}
			if by == "call" {
				m.Distrust(stat(t, m.path("one/disk.img")).Ino)
			} else if _, err := f.ReadAt(p, 4<<20); !errors.Is(err, syscall.EIO) {
				t.Fatalf("corrupt: %v", err)
			}
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				if _, err := f.ReadAt(p, 0); errors.Is(err, syscall.EIO) {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the corrupt page is still readable")
				}
			}
		})
	}
}

// eventually waits for a condition that depends on the notifier, for less time
// than entries live without it.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(shortly / 2); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not in time: %s", what)
			return
		}
	}
}

func TestNewSnapshot(t *testing.T) {
	old := newRelease("one", newFile("disk.img", 1<<16))
	kept := newRelease("two", newFile("disk.img", 1<<16))
	tree := newTree(t, old, kept)
	m := mountTree(t, tree)
	exists := func(name string) bool { _, err := os.Lstat(m.path(name)); return err == nil }

	held, err := os.Open(m.path("one/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	heldFeed, err := os.Open(m.path("feed.xml"))
	if err != nil {
		t.Fatal(err)
	}
	defer heldFeed.Close()
	inodes := map[string]uint64{}
	for _, name := range []string{"one", "one/disk.img", "two", "two/disk.img"} {
		inodes[name] = stat(t, m.path(name)).Ino
	}
	os.Readlink(m.path("latest"))
	readFile(t, m.path("two/disk.img"))
	if exists("three") {
		t.Fatal("three exists")
	}

	// "one" is replaced, "three" is new and the latest, "two" is as it was.
	replaced := newRelease("one", newFile("disk.img", 1<<16))
	replaced.files[0].data[100] ^= 0xff
	first := tree.Snapshot()
	tree.set(t, newRelease("three"), replaced, kept)
	eventually(t, "three appears", func() bool { return exists("three") })
	eventually(t, "latest moves", func() bool { to, _ := os.Readlink(m.path("latest")); return to == "three" })
	eventually(t, "feed.xml changes", func() bool { return bytes.Equal(readFile(t, m.path("feed.xml")), tree.Snapshot().FeedXML()) })
	eventually(t, "one is replaced", func() bool {
		return bytes.Equal(readFile(t, m.path("one/disk.img")), replaced.files[0].data)
	})
	eventually(t, "root has the feed's time", func() bool { return stat(t, m.dir).Mtim.Nano() == tree.Snapshot().FeedTime().UnixNano() })
	for _, name := range []string{"one", "one/disk.img", "two", "two/disk.img"} {
		if now := stat(t, m.path(name)).Ino; (now == inodes[name]) != strings.HasPrefix(name, "two") {
			t.Errorf("%s: inode %d before and %d after", name, inodes[name], now)
		}
	}
	got := make([]byte, 1<<16)
	if _, err := held.ReadAt(got, 0); err != nil || !bytes.Equal(got, old.files[0].data) {
		t.Errorf("the open file of the old generation changed, or %v", err)
	}
	if b, err := io.ReadAll(heldFeed); !bytes.Equal(b, first.FeedXML()) {
		t.Errorf("the open feed reads %q, %v", b, err)
	}
	if n := kept.files[0].reads.Load(); n == 0 {
		t.Error("nothing read")
	} else if readFile(t, m.path("two/disk.img")); kept.files[0].reads.Load() != n {
		t.Error("pages of an unchanged release were dropped")
	}

	// A release leaves the feed, and comes back.
	tree.set(t, kept)
	eventually(t, "three goes", func() bool { return !exists("three") })
	if !exists("one") {
		t.Error("a release in use went")
	}
	back := newRelease("three", newFile("x", 1))
	tree.set(t, kept, back)
	eventually(t, "three comes back", func() bool { return exists("three") })
	if got := names(t, m.path("three")); !slices.Equal(got, []string{"x"}) {
		t.Errorf("holds %q", got)
	}
	tree.set(t, newRelease("four"))
	eventually(t, "latest moves on", func() bool { to, _ := os.Readlink(m.path("latest")); return to == "four" && !exists("two") })
}

func TestLeavesWhenUnused(t *testing.T) {
	rel := newRelease("one", newFile("disk.img", 1<<16), newFile("xvm.xml", 10))
	tree := newTree(t, rel)
	m := mountTree(t, tree)
	a, err := os.Open(m.path("one/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	tree.set(t, newRelease("two"))
	time.Sleep(shortly + 100*time.Millisecond) // so that no cached entry answers

	if got := names(t, m.dir); !slices.Equal(got, []string{"feed.xml", "latest", "one", "two"}) {
		t.Errorf("root holds %q", got)
	}
	b, err := os.Open(m.path("one/xvm.xml"))
	if err != nil {
		t.Fatalf("another file of a release in use: %v", err)
	}
	a.Close()
	readFile(t, m.path("one/disk.img"))
	b.Close()
	eventually(t, "one goes with its last user", func() bool {
		_, err := os.Lstat(m.path("one"))
		return errors.Is(err, os.ErrNotExist)
	})
	if got := names(t, m.dir); !slices.Equal(got, []string{"feed.xml", "latest", "two"}) {
		t.Errorf("root holds %q", got)
	}
}

// Two files whose inode numbers collide are still two files.
func TestInodeCollision(t *testing.T) {
	a, b := newFile("a", 5000), newFile("b", 5000)
	a.inode, b.inode = 1<<20, 1<<20
	b.data[0] ^= 0xff
	m := mountTree(t, newTree(t, newRelease("one", a, b)))
	fa, err := os.Open(m.path("one/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer fa.Close()
	if !bytes.Equal(readFile(t, m.path("one/a")), a.data) || !bytes.Equal(readFile(t, m.path("one/b")), b.data) {
		t.Error("the files are mixed up")
	}
}

func TestOrdinaryUser(t *testing.T) {
	fusetest.Root(t)
	fusetest.Require(t)
	fusetest.Tool(t, "fusermount3")
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && len(p) > 1; p = p[:strings.LastIndexByte(p, '/')] {
		os.Chmod(p, 0o755)
	}
	cache := t.TempDir()
	for _, d := range []string{dir, cache} {
		if err := os.Chown(d, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := fusetest.Child(ctx, "namespace", dir, filepath.Join(t.TempDir(), "fuse"), cache)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	fusetest.Run(t, cmd)
}
