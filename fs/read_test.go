package fs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
	"vmcastfs/fs/internal/fusetest"
)

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
		if took := clock.Elapsed(); took > time.Minute {
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
			testkit.Eventually(t, "the corrupt page cannot be read", time.Minute, func() bool {
				_, err := f.ReadAt(p, 0)
				return errors.Is(err, syscall.EIO)
			})
		})
	}
}
