package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

const bs = minBlockSize

func TestMain(m *testing.M) {
	if cmd := os.Getenv("STORE_TEST_CHILD"); cmd != "" {
		os.Exit(child(cmd))
	}
	goleak.VerifyTestMain(testkit.Settled{M: m})
}

func key(name string) Key {
	h := sha256.Sum256([]byte(name))
	return Key(hex.EncodeToString(h[:]))
}

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func openFile(t testing.TB, s *Store, name string, size int64, blockSize int) *File {
	t.Helper()
	f, err := s.File(key(name), size, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// content is the plain file of a test: block b differs from all others, unless it is chosen to be zero.
func content(b int64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24), 1})
	r.Read(p)
	return p
}

func write(t testing.TB, f *File, blocks ...int64) {
	t.Helper()
	for _, b := range blocks {
		if err := f.WriteBlock(b, content(b, f.present.mapping.blockLen(b))); err != nil {
			t.Fatal(err)
		}
	}
}

func wantBlock(t testing.TB, f *File, b int64) {
	t.Helper()
	p := make([]byte, f.BlockSize())
	n, err := f.ReadBlock(b, p)
	if err != nil {
		t.Fatalf("block %d: %v", b, err)
	}
	if !bytes.Equal(p[:n], content(b, n)) {
		t.Fatalf("block %d has wrong bytes", b)
	}
}

func wantAbsent(t testing.TB, f *File, b int64) {
	t.Helper()
	if _, err := f.ReadBlock(b, make([]byte, f.BlockSize())); !errors.Is(err, ErrAbsent) || f.Has(b) {
		t.Fatalf("block %d: has %v, read %v", b, f.Has(b), err)
	}
}

func path(s *Store, name, suffix string) string {
	return filepath.Join(s.opt.Dir, "files", string(key(name))+suffix)
}

func allocated(t testing.TB, p string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestSizes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, size := range []int64{0, 1, bs - 1, bs, bs + 1, 2 * bs, 3*bs + 500, 1100 * bs} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			name := fmt.Sprint(size)
			s := openStore(t, Options{Dir: dir})
			f := openFile(t, s, name, size, bs)
			blocks := f.Blocks()
			if want := (size + bs - 1) / bs; blocks != want {
				t.Fatalf("%d blocks, want %d", blocks, want)
			}
			for b := range blocks {
				wantAbsent(t, f, b)
				write(t, f, b)
				wantBlock(t, f, b)
			}
			wantAbsent(t, f, blocks)
			wantAbsent(t, f, -1)
			if err := f.WriteBlock(blocks, make([]byte, bs)); err == nil {
				t.Error("wrote behind the end")
			}
			if blocks > 0 {
				if err := f.WriteBlock(blocks-1, make([]byte, bs+1)); err == nil {
					t.Error("wrote a block of the wrong length")
				}
			}
			if n, bytes := f.Present(); n != blocks || bytes != size {
				t.Errorf("%d blocks of %d bytes present", n, bytes)
			}
			if err := f.SetState(Verified, "ok"); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = openStore(t, Options{Dir: dir})
			f = openFile(t, s, name, Unknown, bs)
			if f.Size() != size || f.State() != Verified || f.Note() != "ok" {
				t.Errorf("size %d, state %v, note %q", f.Size(), f.State(), f.Note())
			}
			for b := range blocks {
				wantBlock(t, f, b)
			}
			d := f.Data()
			if d == nil {
				t.Fatal("no data file of a verified file")
			}
			if fi, err := d.Stat(); err != nil || fi.Size() != size {
				t.Errorf("data file: %v, %v", fi, err)
			}
		})
	}
}

func TestUnknownSize(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	f := openFile(t, s, "f", Unknown, bs)
	if f.Size() != Unknown || f.Blocks() != Unknown {
		t.Fatal("size is known")
	}
	write(t, f, 0, 1, 5)
	if err := f.WriteBlock(2, make([]byte, 10)); err == nil {
		t.Error("short block while the size is unknown")
	}
	if err := f.SetSize(3*bs - 1); err != nil {
		t.Fatal(err)
	}
	if err := f.SetSize(3*bs - 1); err != nil {
		t.Error(err)
	}
	if err := f.SetSize(3 * bs); !errors.Is(err, ErrGeometry) {
		t.Error(err)
	}
	wantBlock(t, f, 1)
	wantAbsent(t, f, 5)
	if n, _ := f.Present(); n != 2 {
		t.Errorf("%d blocks", n)
	}
	f.Close()
	for _, x := range []struct {
		size int64
		bs   int
	}{{3 * bs, bs}, {3*bs - 1, 2 * bs}} {
		if _, err := s.File(key("f"), x.size, x.bs); !errors.Is(err, ErrGeometry) {
			t.Errorf("%v: %v", x, err)
		}
	}
	f = openFile(t, s, "f", 3*bs-1, bs)
	wantBlock(t, f, 0)
}

func TestArguments(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	for _, k := range []Key{"", "../../etc/passwd", Key(strings.Repeat("A", 64)), Key(strings.Repeat("a", 65)), Key("../" + strings.Repeat("a", 61))} {
		if _, err := s.File(k, 1, bs); err == nil {
			t.Errorf("key %q accepted", k)
		}
		if s.Remove(k) == nil {
			t.Errorf("key %q removed", k)
		}
	}
	for _, x := range [][2]int64{{1, 0}, {1, 512}, {1, bs + 1}, {1, 32 << 20}, {-2, bs}, {MaxSize + 1, 16 << 20}, {MaxSize, bs}} {
		if _, err := s.File(key("x"), x[0], int(x[1])); err == nil {
			t.Errorf("size %d, block size %d accepted", x[0], x[1])
		}
	}
	if err := s.Remove(key("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestZeros(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	f := openFile(t, s, "f", 10*bs+7, bs)
	write(t, f, 1)
	for _, b := range []int64{0, 2, 10} {
		if err := f.WriteBlock(b, make([]byte, f.present.mapping.blockLen(b))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WriteZeros(0, 6); err != nil { // around the present block 1
		t.Fatal(err)
	}
	if err := f.WriteZeros(6, 6); err == nil {
		t.Error("zeros behind the end")
	}
	check := func() {
		t.Helper()
		wantBlock(t, f, 1)
		wantAbsent(t, f, 6)
		p := bytes.Repeat([]byte{1}, bs)
		if n, err := f.ReadBlock(10, p); n != 7 || err != nil || !isZero(p[:7]) {
			t.Errorf("last block: %d, %v", n, err)
		}
		if n, bytes := f.Present(); n != 7 || bytes != 6*bs+7 {
			t.Errorf("%d present, %d bytes", n, bytes)
		}
		if a := allocated(t, path(s, "f", dataSuffix)); a != bs {
			t.Errorf("%d bytes allocated", a)
		}
		for _, x := range []struct{ off, data, hole int64 }{
			{0, bs, 0}, {5, bs, 5}, {bs, bs, 2 * bs}, {2*bs - 1, 2*bs - 1, 2 * bs},
			{2 * bs, 6 * bs, 2 * bs}, {6 * bs, 6 * bs, 10 * bs}, {10 * bs, 10*bs + 7, 10 * bs}, {10*bs + 7, 10*bs + 7, 10*bs + 7},
		} {
			if d, h := f.NextData(x.off), f.NextHole(x.off); d != x.data || h != x.hole {
				t.Errorf("from %d: data %d, hole %d; want %d, %d", x.off, d, h, x.data, x.hole)
			}
		}
		if b := f.NextMissing(0); b != 6 {
			t.Errorf("next missing %d", b)
		}
		if b := f.present.nextPresent(6); b != 10 {
			t.Errorf("next present %d", b)
		}
		if b := f.present.nextPresent(11); b != 11 {
			t.Errorf("next present %d", b)
		}
	}
	check()
	s.Close()
	s = openStore(t, Options{Dir: dir})
	f = openFile(t, s, "f", 10*bs+7, bs)
	check()
}

// A zero block must read as zeros through the data file too, whatever a crash left there.
func TestZerosOverLeftovers(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	f := openFile(t, s, "f", 2*bs, bs)
	if err := os.WriteFile(path(s, "f", dataSuffix), bytes.Repeat([]byte{7}, 2*bs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteBlock(0, make([]byte, bs)); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteZeros(1, 1); err != nil {
		t.Fatal(err)
	}
	if err := f.SetState(Verified, ""); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2*bs)
	if _, err := f.Data().ReadAt(p, 0); err != nil || !isZero(p) {
		t.Errorf("leftovers shine through: %v", err)
	}
}

func TestL1FlippedBitInData(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(d *os.File) error{
		"flip":     func(d *os.File) error { _, err := d.WriteAt([]byte{content(1, bs)[9] ^ 4}, bs+9); return err },
		"truncate": func(d *os.File) error { return d.Truncate(bs + 9) },
		"zeros":    func(d *os.File) error { _, err := d.WriteAt(make([]byte, bs), bs); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Options{Dir: t.TempDir()})
			f := openFile(t, s, "f", 3*bs, bs)
			write(t, f, 0, 1, 2)
			if err := f.SetState(Verified, ""); err != nil {
				t.Fatal(err)
			}
			d, err := os.OpenFile(path(s, "f", dataSuffix), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := hurt(d); err != nil {
				t.Fatal(err)
			}
			_, err = f.ReadBlock(1, make([]byte, bs))
			var damage *DamagedError
			if !errors.As(err, &damage) || !errors.Is(err, ErrAbsent) || damage.Block != 1 {
				t.Fatalf("%v", err)
			}
			wantBlock(t, f, 0)
			wantAbsent(t, f, 1)
			if f.State() != Partial {
				t.Errorf("state %v", f.State())
			}
			if n := s.Stats().Damaged; n != 1 {
				t.Errorf("%d damaged", n)
			}
			write(t, f, 1)
			wantBlock(t, f, 1)
		})
	}
}

func TestDropAndStates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	f := openFile(t, s, "f", 3*bs, bs)
	if err := f.SetState(Verified, ""); !errors.Is(err, ErrAbsent) {
		t.Errorf("incomplete file verified: %v", err)
	}
	if f.Data() != nil {
		t.Error("data of a partial file")
	}
	write(t, f, 0, 1, 2)
	if err := f.Drop(1); err != nil { // before it was journalled
		t.Fatal(err)
	}
	wantAbsent(t, f, 1)
	write(t, f, 1)
	if err := f.SetState(Unverified, strings.Repeat("é", 700)); err != nil {
		t.Fatal(err)
	}
	if n := f.Note(); len(n) > maxNote || !strings.HasPrefix(n, "éé") {
		t.Errorf("note of %d bytes", len(n))
	}
	s.Close()
	s = openStore(t, Options{Dir: dir})
	f = openFile(t, s, "f", 3*bs, bs)
	wantBlock(t, f, 1)
	if err := f.SetState(Corrupt, "sha1"); err != nil {
		t.Fatal(err)
	}
	for b := range int64(3) {
		wantAbsent(t, f, b)
	}
	if a := allocated(t, path(s, "f", dataSuffix)); a != 0 {
		t.Errorf("corrupt file keeps %d bytes", a)
	}
	s.Close()
	s = openStore(t, Options{Dir: dir})
	f = openFile(t, s, "f", 3*bs, bs)
	if f.State() != Corrupt || f.Note() != "sha1" || f.Has(0) {
		t.Errorf("%v %q", f.State(), f.Note())
	}
}

func TestSharedFile(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	a := openFile(t, s, "f", 2*bs, bs)
	b := openFile(t, s, "f", 2*bs, bs)
	if a != b {
		t.Fatal("two files")
	}
	a.Close()
	write(t, b, 0)
	wantBlock(t, b, 0)
	b.Close()
	if n := s.Stats().Open; n != 0 {
		t.Errorf("%d files open", n)
	}
	if _, err := b.ReadBlock(0, make([]byte, bs)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	c := openFile(t, s, "f", 2*bs, bs)
	wantBlock(t, c, 0)
}
