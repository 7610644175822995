package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

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
