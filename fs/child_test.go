package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/internal/fusetest"
)

func TestMain(m *testing.M) {
	os.Exit(fusetest.Main(m, map[string]func([]string) error{
		"mmap":      childMmap,
		"odirect":   childODirect,
		"odd":       childOddDirect,
		"locks":     childLocks,
		"read":      childRead,
		"flood":     childFlood,
		"handled":   childHandled,
		"namespace": childNamespace,
		"user":      childUser,
		"serve":     childServe,
		"hung":      childHung,
	}))
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

// childOddDirect reads a file with O_DIRECT where no disk would: the offset, the
// length or the buffer is off its sectors.
func childOddDirect(args []string) error {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	want, room := pattern(n), make([]byte, 3<<20)
	room = room[4096-int(uintptr(unsafe.Pointer(&room[0]))&4095):]
	for _, off := range []int{0, 1, 511, 512, 4095, 65537, n - 513, n &^ 511, n - 1, n, n + 1} {
		for _, size := range []int{1, 511, 512, 513, 4096, 2<<20 - 1, 2 << 20} {
			for _, skew := range []int{0, 1, 4, 511, 512} {
				got, err := unix.Pread(fd, room[skew:skew+size], int64(off))
				if w := want[min(off, n):min(off+size, n)]; err != nil || !bytes.Equal(room[skew:skew+max(got, 0)], w) {
					return fmt.Errorf("read %d at %d, buffer off by %d: %d bytes, or wrong ones, want %d: %w", size, off, skew, got, len(w), err)
				}
			}
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

// childFlood reads n blocks of 4096 bytes with O_DIRECT at once, and prints how many
// failed when all have an answer.
func childFlood(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var failed atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_DIRECT, 0)
			if err == nil {
				defer unix.Close(fd)
				buf := make([]byte, 8192)
				skip := 4096 - int(uintptr(unsafe.Pointer(&buf[0]))&4095)
				_, err = unix.Pread(fd, buf[skip:skip+4096], int64(i)*4096)
			}
			if err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(failed.Load())
	return nil
}

// childHandled handles SIGUSR1, and prints the outcome of one stat(2).
func childHandled(args []string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	var st unix.Stat_t
	fmt.Println(unix.Stat(args[0], &st))
	return nil
}

// childServe mounts a tree and is killed.
func childServe(args []string) error {
	tree, err := openTree(filepath.Dir(args[0]), newRelease("one", newFile("disk.img", 4096)))
	if err != nil {
		return err
	}
	s, err := Mount(context.Background(), tree.Catalog, Options{Dir: args[0], Source: "gone"})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-s.Done()
	return nil
}

const nobody = 65534

// childNamespace runs childUser as nobody with a /dev/fuse that is open to all,
// as it is on most machines, in a mount namespace of its own.
func childNamespace(args []string) error {
	dir, device, cache := args[0], args[1], args[2]
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		return err
	}
	if err := os.Chmod(device, 0o666); err != nil {
		return err
	}
	if err := unix.Mount(device, "/dev/fuse", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	// The test binary lies in a directory of root's; a descriptor leads there too.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	cmd := fusetest.Child(context.Background(), "user", dir, cache)
	cmd.Path = "/proc/self/fd/3"
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("as nobody: %w: %s", err, out)
	}
	return nil
}

// childUser mounts, looks and unmounts as a user without privileges.
func childUser(args []string) error {
	const source = `https://h/a,b\c d.xml`
	dir, cache := args[0], args[1]
	disk := newFile("disk.img", 100_000)
	tree, err := openTree(cache, newRelease("one", disk))
	if err != nil {
		return err
	}
	defer tree.close()
	s, err := Mount(context.Background(), tree.Catalog, Options{Dir: dir, Source: source})
	if err != nil {
		return err
	}
	defer s.Unmount(context.Background(), true)
	m, err := mountAt(dir)
	if err != nil || m == nil {
		return fmt.Errorf("not mounted: %w", err)
	}
	if m.Source != source || m.FSType != FSType {
		return fmt.Errorf("mounted as %q, type %q", m.Source, m.FSType)
	}
	path := dir + "/one/disk.img"
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, disk.data) {
		return fmt.Errorf("wrong bytes, or %w", err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		return fmt.Errorf("not owned by the user: %v, %w", st, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Unmount(ctx, false); !errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("unmount while busy: %v", err)
	}
	f.Close()
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Unmount(ctx, false); err != nil {
		return err
	}
	<-s.Done()
	if m, err := mountAt(dir); m != nil || err != nil {
		return fmt.Errorf("still mounted: %v, %w", m, err)
	}
	return nil
}
