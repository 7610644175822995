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
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

const bs = minBlockSize

func TestMain(m *testing.M) {
	if cmd := os.Getenv("STORE_TEST_CHILD"); cmd != "" {
		os.Exit(child(cmd))
	}
	goleak.VerifyTestMain(m)
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

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := openStore(t, Options{Dir: dir})
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode(), err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG")); err != nil || !bytes.HasPrefix(b, []byte("Signature: 8a477f597d28d172789f06886806bc55")) {
		t.Error(err)
	}
	s.Close()
	os.Chmod(dir, 0o755)
	openStore(t, Options{Dir: dir}).Close()
	if fi, _ := os.Stat(dir); fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode())
	}
	refused := func(why, dir string, want error) {
		t.Helper()
		s, err := Open(Options{Dir: dir})
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", why)
		} else if want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("no name", "", nil)
	os.WriteFile(filepath.Join(dir, "version"), []byte("vmcastfs cache 2\n"), 0o600)
	refused("L5 newer version", dir, ErrFormat)
	os.WriteFile(filepath.Join(dir, "version"), nil, 0o600)
	refused("empty version", dir, nil)
	home := t.TempDir()
	os.WriteFile(filepath.Join(home, "letter.txt"), nil, 0o600)
	refused("not a cache", home, nil)
	if _, err := os.Stat(filepath.Join(home, "files")); err == nil {
		t.Error("wrote into somebody's directory")
	}
	file := filepath.Join(home, "letter.txt")
	refused("a file", file, nil)
	if os.Geteuid() == 0 {
		other := t.TempDir()
		os.Chown(other, 1234, 1234)
		refused("L2 another user's", other, nil)
		link := filepath.Join(t.TempDir(), "link")
		os.Symlink(t.TempDir(), link)
		os.Lchown(link, 1234, 1234)
		refused("L2 another user's link", link, nil)
	}
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(t.TempDir(), link)
	openStore(t, Options{Dir: link}).Close()
}

func TestL2SymlinkInside(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	victim := filepath.Join(t.TempDir(), "victim")
	os.WriteFile(victim, []byte("precious"), 0o600)
	for _, suffix := range []string{dataSuffix, journalSuffix, lockSuffix} {
		name := "f" + suffix
		if err := os.Symlink(victim, path(s, name, suffix)); err != nil {
			t.Fatal(err)
		}
		f, err := s.File(key(name), bs, bs)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.WriteBlock(0, bytes.Repeat([]byte{1}, bs)); !errors.Is(err, ErrFull) {
			t.Errorf("%s: followed a link: %v", suffix, err)
		}
		f.Close()
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Error("victim was changed")
	}
}

// TestL3Loose opens a file for which there is no place: it works, without
// caching; and once there is one, the next to open it gets it.
func TestL3Loose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	if err := os.RemoveAll(filepath.Join(dir, "files")); err != nil {
		t.Fatal(err)
	}
	k := key("loose")
	f, err := s.File(k, Unknown, bs)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{1}, bs)
	if err := f.WriteBlock(0, data); !errors.Is(err, ErrFull) || f.Has(0) {
		t.Errorf("write: %v", err)
	}
	if err := f.WriteBlock(1, make([]byte, bs)); err != nil || !f.Has(1) {
		t.Errorf("zeros: %v", err)
	}
	if err := f.SetSize(3 * bs); err != nil || f.Size() != 3*bs || f.Blocks() != 3 {
		t.Errorf("size: %v", err)
	}
	if err := f.WriteZeros(2, 1); err != nil || !f.Has(2) {
		t.Errorf("known zeros: %v", err)
	}
	if release, ok := f.Claim(0); !ok {
		t.Error("no claim")
	} else {
		release()
	}
	if err := f.SetState(Verified, ""); !errors.Is(err, ErrAbsent) {
		t.Errorf("verified: %v", err)
	}
	if err := f.SetState(Corrupt, "why"); err != nil || f.State() != Corrupt || f.Note() != "why" {
		t.Errorf("corrupt: %v", err)
	}
	if f.Data() != nil {
		t.Error("there is data")
	}
	s.Prune(0)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	s.Close()

	s = openStore(t, Options{Dir: dir})
	f, err = s.File(k, 3*bs, bs)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.State() != Partial || f.Has(1) {
		t.Error("something was left of it")
	}
	if err := f.WriteBlock(0, data); err != nil || !f.Has(0) {
		t.Errorf("write: %v", err)
	}
}

// TestL3LooseSettles gives a file its place back while it is open and in use.
func TestL3LooseSettles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir, settle: time.Millisecond, SyncEvery: time.Millisecond})
	const blocks = 64
	k := key("loose")
	f, err := s.File(k, blocks*bs, bs)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, 0, 1)
	f.Close()
	data := filepath.Join(dir, "files", string(k)+dataSuffix)
	onDisk, err := os.OpenFile(data, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close()
	// What a crash may leave where nothing is journalled.
	if _, err := onDisk.WriteAt(bytes.Repeat([]byte{7}, 3*bs), 2*bs); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "files", string(k)+lockSuffix)
	if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}

	if f, err = s.File(k, Unknown, bs); err != nil {
		t.Fatal(err)
	}
	f.Pin()
	if err := errors.Join(f.WriteBlock(2, make([]byte, bs)), f.SetSize(blocks*bs)); err != nil || !f.Has(2) || f.Has(0) {
		t.Fatal(err)
	}
	if err := f.WriteBlock(5, content(5, bs)); !errors.Is(err, ErrFull) || errors.Is(err, ErrFailing) {
		t.Errorf("%v", err)
	}
	if st := s.Stats(); st.Full != 1 || !st.Refusing || st.Failing || !strings.Contains(st.FullWhy, "is a directory") {
		t.Errorf("%+v", st)
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i := range int64(4) {
		work.Go(func() {
			for b := 2 + i; ; b = 2 + (b+3)%(blocks-2) { // 0 and 1 are there already
				select {
				case <-stop:
					return
				default:
				}
				p, got := make([]byte, bs), make([]byte, bs)
				if b%2 != 0 {
					p = content(b, bs)
				}
				release, mine := f.Claim(b)
				if err := f.WriteBlock(b, p); err != nil && !errors.Is(err, ErrFull) {
					t.Error(err)
				}
				if mine {
					release()
				}
				if _, err := f.ReadBlock(b, got); err == nil && !bytes.Equal(got, p) || err != nil && !errors.Is(err, ErrAbsent) {
					t.Errorf("block %d: wrong, %v", b, err)
				}
			}
		})
	}
	if err := os.Remove(lock); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "a block is written", time.Minute, func() bool { return f.Has(0) })
	close(stop)
	work.Wait()
	wantBlock(t, f, 0)
	if err := f.WriteBlock(2, make([]byte, bs)); err != nil {
		t.Error(err)
	}
	if err := f.WriteBlock(5, content(5, bs)); err != nil {
		t.Error(err)
	}
	if lk, err := os.OpenFile(lock, os.O_RDWR, 0); err != nil || !lockedElsewhere(lk, lockPin) || !lockedElsewhere(lk, lockOpen) {
		t.Errorf("it is not pinned and open on the disk: %v", err)
	} else {
		lk.Close()
	}
	f.Unpin()
	f.Close()

	// All of it is on the disk, and zeros are zeros there.
	if f, err = s.File(k, blocks*bs, bs); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, b := range []int64{0, 1, 5} {
		wantBlock(t, f, b)
	}
	got := make([]byte, bs)
	if _, err := onDisk.ReadAt(got, 2*bs); !f.Has(2) || err != nil || !isZero(got) {
		t.Errorf("zeros: %v", err)
	}
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%d damaged", n)
	}
}

// TestDeletedByHand removes the files of a cache that two processes use: what
// the one still has open must not be mixed with what the other makes anew.
func TestDeletedByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := openStore(t, Options{Dir: dir, SyncEvery: time.Millisecond}), openStore(t, Options{Dir: dir, SyncEvery: time.Millisecond})
	old := openFile(t, a, "k", 4*bs, bs)
	defer old.Close()
	write(t, old, 0)
	if err := old.flush(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "files", "*"))
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
	anew := openFile(t, b, "k", 4*bs, bs)
	defer anew.Close()
	write(t, anew, 1)
	if err := anew.flush(); err != nil {
		t.Fatal(err)
	}
	old.j.refresh()
	wantAbsent(t, old, 1)
	wantBlock(t, old, 0)
	write(t, old, 1, 2, 3)
	if err := old.SetState(Verified, ""); err == nil {
		t.Error("a deleted file was noted as verified")
	}
	anew.j.refresh()
	if anew.Has(0) || anew.Has(2) || anew.State() != Partial {
		t.Errorf("the new file has what is in the deleted one; it is %v", anew.State())
	}
	wantBlock(t, anew, 1)
}

// TestRemovedAndMadeAgain removes the whole directory under its user.
func TestRemovedAndMadeAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	s := openStore(t, Options{Dir: dir, settle: time.Millisecond})
	away := dir + ".away" // as the store may make it again at any moment, a removal in place may find it not empty
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the old directory is gone, in which the store may still be writing", time.Minute, func() bool { return os.RemoveAll(away) == nil })
	f := openFile(t, s, "k", 4*bs, bs) // with a place or without one yet
	defer f.Close()
	testkit.Eventually(t, "a block is written", time.Minute, func() bool { return f.WriteBlock(0, content(0, bs)) == nil })
	wantBlock(t, f, 0)
	if err := errors.Join(f.flush(), s.PutDoc("feed", "x", []byte("doc"))); err != nil {
		t.Error(err)
	}
	lk, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lk.Close()
	if !lockedElsewhere(lk, lockUse) {
		t.Error("the directory is not locked as one in use")
	}
	again := openStore(t, Options{Dir: dir})
	g := openFile(t, again, "k", 4*bs, bs)
	defer g.Close()
	wantBlock(t, g, 0)
	if doc, err := again.GetDoc("feed", "x"); err != nil || string(doc) != "doc" {
		t.Errorf("%q, %v", doc, err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	s.Close()
	files := filepath.Join(s.opt.Dir, "files")
	for _, n := range []string{".tmp-old", ".tmp-new", ".gone-x"} {
		os.WriteFile(filepath.Join(files, n), []byte("x"), 0o600)
	}
	old := time.Now().Add(-2 * time.Hour)
	os.Chtimes(filepath.Join(files, ".tmp-old"), old, old)
	openStore(t, Options{Dir: s.opt.Dir})
	left, _ := os.ReadDir(files)
	if len(left) != 1 || left[0].Name() != ".tmp-new" {
		t.Errorf("left: %v", left)
	}
}
