package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestWriteCopy runs where the temporary directory is, and on the directory
// that VMCASTFS_TEST_REFLINK names, on a filesystem that can share blocks.
func TestWriteCopy(t *testing.T) {
	dirs := []string{t.TempDir()}
	if d := os.Getenv("VMCASTFS_TEST_REFLINK"); d != "" {
		sub, err := os.MkdirTemp(d, "store-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(sub) })
		dirs = append(dirs, sub)
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
		if i > 0 && s.noClone.Load() {
			t.Errorf("%s: no block is shared", dir)
		}
	}
}

func TestStamp(t *testing.T) {
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
