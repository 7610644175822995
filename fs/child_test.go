package fs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/internal/fusetest"
)

func TestMain(m *testing.M) {
	fusetest.Main(m, map[string]func([]string) error{
		"mmap":       childMmap,
		"mmapreread": childMmapReread,
		"odirect":    childODirect,
		"locks":      childLocks,
		"read":       childRead,
		"handled":    childHandled,
		"serve":      childServe,
	})
}

// childMmap compares a shared read-only mapping of a file with pattern.
func childMmap(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	f.Close()
	if !bytes.Equal(p, pattern(len(p))) {
		return fmt.Errorf("wrong bytes")
	}
	return nil
}

// childMmapReread reads the first page of a file, waits for a byte on stdin,
// and expects the next read of the same page through the same descriptor to fail.
func childMmapReread(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 0); err != nil {
		return err
	}
	fmt.Println("ready")
	os.Stdin.Read(p[:1])
	if _, err := f.ReadAt(p, 0); err == nil {
		return fmt.Errorf("the corrupt page is still readable")
	}
	return nil
}

// childODirect reads a file with O_DIRECT in odd pieces.
func childODirect(args []string) error {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	want := pattern(n)
	buf := make([]byte, 3<<20)
	skip := 4096 - int(uintptr(unsafe.Pointer(&buf[0]))&4095)
	buf = buf[skip:]
	for _, c := range []struct{ off, len int }{{0, 512}, {512, 4096}, {4096, 1 << 20}, {1 << 20, 2 << 20}, {n &^ 511, 4096}} {
		got, err := unix.Pread(fd, buf[:c.len], int64(c.off))
		if err != nil {
			return fmt.Errorf("read %d at %d: %w", c.len, c.off, err)
		}
		if w := want[min(c.off, n):min(c.off+c.len, n)]; !bytes.Equal(buf[:got], w) {
			return fmt.Errorf("read %d at %d: got %d bytes, want %d, or wrong ones", c.len, c.off, got, len(w))
		}
	}
	return nil
}

// childLocks takes the locks that QEMU takes on an image.
func childLocks(args []string) error {
	a, err := os.Open(args[0])
	if err != nil {
		return err
	}
	b, err := os.Open(args[0])
	if err != nil {
		return err
	}
	for _, start := range []int64{100, 101, 103, 200, 201, 203} {
		l := unix.Flock_t{Type: unix.F_RDLCK, Start: start, Len: 1}
		if err := unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &l); err != nil {
			return fmt.Errorf("shared lock of byte %d: %w", start, err)
		}
		l = unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: 1}
		if err := unix.FcntlFlock(b.Fd(), unix.F_OFD_GETLK, &l); err != nil || l.Type != unix.F_RDLCK {
			return fmt.Errorf("lock of byte %d not seen by another: type %d, %v", start, l.Type, err)
		}
	}
	l := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 1}
	if err := unix.FcntlFlock(a.Fd(), unix.F_SETLK, &l); err != nil {
		return fmt.Errorf("POSIX lock: %w", err)
	}
	if err := unix.Flock(int(a.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("flock: %w", err)
	}
	if err := unix.Flock(int(b.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return fmt.Errorf("second flock: %v", err)
	}
	return nil
}

// childRead reads with O_DIRECT, so that the read itself waits for the answer.
func childRead(args []string) error {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	_, err = unix.Pread(fd, make([]byte, 8192), 0)
	return err
}

// childHandled is childRead with a handler for SIGUSR1, and prints the outcome
// of one single read(2).
func childHandled(args []string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	start := time.Now()
	err := childRead(args)
	fmt.Printf("%v after %d ms\n", err, time.Since(start).Milliseconds())
	return nil
}

// childServe mounts a tree and is killed.
func childServe(args []string) error {
	s, err := Mount(context.Background(), newFakeTree(newRelease("one", newFile("disk.img", 4096))), Options{Dir: args[0], Source: "gone"})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	s.Wait()
	return nil
}
