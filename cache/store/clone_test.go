package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reflinkDir is a directory on an XFS of its own, where files can share blocks;
// "" if this user or machine cannot have one.
func reflinkDir(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return ""
	}
	work := t.TempDir()
	image, dir := filepath.Join(work, "xfs"), filepath.Join(work, "mnt")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 320<<20), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.xfs", "-q", "-m", "reflink=1", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Logf("no XFS: %v: %v %s", command, err, out)
			return ""
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestWriteCopy runs where the temporary directory is, and on a filesystem that
// can share blocks.
func TestWriteCopy(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir()}
	if d := reflinkDir(t); d != "" {
		dirs = append(dirs, filepath.Join(d, "store"))
	}
	for i, dir := range dirs {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const bs = 64 << 10
		size := int64(3*bs + 1000)
		a, err := s.File(key("a"), size, bs)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := s.File(key("b"), size, bs)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		content := bytes.Repeat([]byte("some bytes of a block; "), 10000)[:size]
		copy(content[bs:], make([]byte, bs)) // zeros
		for n := range int64(4) {
			if err := a.WriteBlock(n, content[n*bs:min(size, n*bs+bs)]); err != nil {
				t.Fatal(err)
			}
		}
		p := make([]byte, bs)
		for from, to := range map[int64]int64{0: 2, 1: 0, 2: 1, 3: 3} {
			n, err := a.ReadBlock(from, p)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.WriteCopy(to, p[:n], a, from); err != nil {
				t.Fatal(err)
			}
		}
		for from, to := range map[int64]int64{0: 2, 1: 0, 2: 1, 3: 3} {
			n, err := b.ReadBlock(to, p)
			if err != nil || !bytes.Equal(p[:n], content[from*bs:min(size, from*bs+bs)]) {
				t.Errorf("%s: block %d is not what was copied: %v", dir, to, err)
			}
		}
		// A block that has gone from the other file meanwhile is written.
		if err := a.Drop(2); err != nil {
			t.Fatal(err)
		}
		if err := b.Drop(1); err != nil {
			t.Fatal(err)
		}
		if err := b.WriteCopy(1, content[2*bs:3*bs], a, 2); err != nil {
			t.Fatal(err)
		}
		if n, err := b.ReadBlock(1, p); err != nil || !bytes.Equal(p[:n], content[2*bs:3*bs]) {
			t.Error("a block that cannot be shared is not written")
		}
		if i > 0 && (s.noClone.Load() || !shared(t, b, 2)) {
			t.Errorf("%s: no block is shared", dir)
		}
	}
}

// shared tells whether another file has the same place on the disk for a block.
func shared(t testing.TB, f *File, b int64) bool {
	t.Helper()
	// struct fiemap with one extent; FIEMAP_EXTENT_SHARED is 0x2000.
	var m struct {
		start, length           uint64
		flags, mapped, count, _ uint32
		logical, physical, size uint64
		_                       [2]uint64
		extent                  uint32
		_                       [3]uint32
	}
	const fiemap, sync, isShared = 0xc020660b, 1, 0x2000
	m.start, m.length, m.flags, m.count = uint64(b)*uint64(f.data.blockSize), uint64(f.data.blockSize), sync, 1
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.data.f.Fd(), fiemap, uintptr(unsafe.Pointer(&m))); errno != 0 {
		t.Fatal(errno)
	}
	return m.mapped == 1 && m.extent&isShared != 0
}

func TestStamp(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Stamp(key("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stamp of nothing: %v", err)
	}
	f, err := s.File(key("a"), 8192, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stamp := func() Stamp {
		t.Helper()
		x, err := s.Stamp(key("a"))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	if err := f.WriteBlock(0, bytes.Repeat([]byte{1}, 4096)); err != nil {
		t.Fatal(err)
	}
	if err := f.flush(); err != nil {
		t.Fatal(err)
	}
	before := stamp()
	if stamp() != before {
		t.Error("the stamp changes by itself")
	}
	if err := f.Drop(0); err != nil {
		t.Fatal(err)
	}
	if stamp() == before {
		t.Error("the stamp does not show that a block was lost")
	}
}
