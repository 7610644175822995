package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDocs(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	if _, err := s.GetDoc("feed", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if l, err := s.DocNames("feed"); err != nil || len(l) != 0 {
		t.Error(l, err)
	}
	names := []string{"../../etc/passwd", "a", "http://example.org/vmcast.xml?x=1", strings.Repeat("n", maxDocName), "\x00\n"}
	for i, n := range names {
		for _, data := range [][]byte{nil, []byte("first"), bytes.Repeat([]byte{byte(i)}, 1000*i)} {
			if err := s.PutDoc("feed", n, data); err != nil {
				t.Fatal(err)
			}
			if got, err := s.GetDoc("feed", n); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%.20q: %d bytes, %v", n, len(got), err)
			}
		}
	}
	if l, err := s.DocNames("feed"); err != nil || len(l) != len(names) || l[2] != "a" {
		t.Errorf("%.200q %v", l, err)
	}
	if l, err := s.DocNames("feed"); err != nil || len(l) != len(names) || l[2] != "a" {
		t.Errorf("%.200q %v", l, err)
	}
	if l, err := s.DocNames("none"); err != nil || len(l) != 0 {
		t.Error(l, err)
	}
	if !s.HasDoc("feed", "a") || s.HasDoc("feed", "b") || s.HasDoc("none", "a") || s.HasDoc("..", "a") {
		t.Error("HasDoc is wrong")
	}
	if err := s.DeleteDoc("feed", "a"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteDoc("feed", "a"); err != nil {
		t.Error(err)
	}
	if _, err := s.GetDoc("feed", "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, x := range [][2]string{{"", "a"}, {"..", "a"}, {"a/b", "a"}, {"Feed", "a"}, {"feed", ""}, {"feed", strings.Repeat("n", maxDocName+1)}} {
		if err := s.PutDoc(x[0], x[1], nil); err == nil {
			t.Errorf("%.20q accepted", x)
		}
	}
	if err := s.PutDoc("feed", "big", make([]byte, MaxDoc+1)); err == nil {
		t.Error("too large a document accepted")
	}
}

func TestL1DamagedDoc(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	if err := s.PutDoc("index", "name", []byte("data")); err != nil {
		t.Fatal(err)
	}
	file, _ := docFile("index", "name")
	p := filepath.Join(s.opt.Dir, "docs", "index", file)
	whole, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		os.WriteFile(p, b, 0o600)
		if d, err := s.GetDoc("index", "name"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", what, d, err)
		}
	}
	for i := range whole {
		hurt := bytes.Clone(whole)
		hurt[i] ^= 0x10
		check(fmt.Sprint("bit of byte ", i), hurt)
		check(fmt.Sprint("cut at ", i), whole[:i])
	}
	check("longer", append(bytes.Clone(whole), 0))
	if err := s.PutDoc("index", "name", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if d, err := s.GetDoc("index", "name"); string(d) != "again" {
		t.Error(err)
	}
}

// Readers see the old document or the new one, whoever writes.
func TestDocReplacedWhileRead(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	docs := [][]byte{bytes.Repeat([]byte("a"), 5000), bytes.Repeat([]byte("b"), 3000)}
	if err := s.PutDoc("feed", "x", docs[0]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			for range 20 {
				if err := s.PutDoc("feed", "x", docs[i]); err != nil {
					t.Error(err)
				}
				if d, err := s.GetDoc("feed", "x"); err != nil || !bytes.Equal(d, docs[0]) && !bytes.Equal(d, docs[1]) {
					t.Errorf("%d bytes, %v", len(d), err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDoc(f *testing.F) {
	f.Add([]byte(docMagic + strings.Repeat("\x00", 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, data, err := parseDoc(b); err == nil && len(name)+len(data)+docHead != len(b) {
			t.Error("bytes are missing")
		}
	})
}

// setDocUsed makes a document look as if it had been used some time ago.
func setDocUsed(t *testing.T, s *Store, kind, name string, ago time.Duration) {
	t.Helper()
	file, err := docFile(kind, name)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(s.opt.Dir, "docs", kind, file), at, at); err != nil {
		t.Fatal(err)
	}
}

// TestDocumentsCount: documents count towards the limit. A flood of them evicts documents, the least
// recently used first, and no image; what people said of files and what belongs to a kept file stays.
func TestDocumentsCount(t *testing.T) {
	t.Parallel()
	const limit, doc = 4 << 20, 60 << 10
	s := openStore(t, Options{Dir: t.TempDir(), Limit: limit})
	f := openFile(t, s, "image", 2<<20, 64<<10)
	for b := range f.Blocks() {
		write(t, f, b)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	kept := string(key("kept"))
	if err := s.Keep(key("kept"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.SetLabel(key("image"), "a release/an image"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{kept, "used", "old"} {
		if err := s.PutDoc("points", name, make([]byte, doc)); err != nil {
			t.Fatal(err)
		}
		setDocUsed(t, s, "points", name, time.Hour)
	}
	if _, err := s.GetDoc("points", "used"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // 12 MB in all
		if err := s.PutDoc("index", fmt.Sprint(i), content(int64(i), doc)); err != nil {
			t.Fatal(i, err)
		}
		if i < 20 {
			setDocUsed(t, s, "index", fmt.Sprint(i), 30*time.Minute)
		}
		if i == 40 && (s.HasDoc("points", "old") || !s.HasDoc("points", "used")) {
			t.Errorf("not the least recently used document went: old %v, used %v", s.HasDoc("points", "old"), s.HasDoc("points", "used"))
		}
		if u := s.usage(); u.total() > limit {
			t.Fatalf("%+v of %d", u, limit)
		}
	}
	if st, err := s.Stat(key("image")); err != nil || st.Bytes != 2<<20 {
		t.Errorf("the flood evicted an image: %+v, %v", st, err)
	}
	if !s.HasDoc("points", kept) || s.Label(key("image")) == "" || len(s.Kept()) != 1 {
		t.Error("it evicted what belongs to a kept file, or what people said")
	}
	if st := s.Stats(); st.DocBytes < limit/docShare/2 || st.Bytes < st.DocBytes+2<<20 {
		t.Errorf("%+v", st)
	}
	if freed, err := s.Prune(0); err != nil || freed < 2<<20 {
		t.Error(freed, err)
	}
	if u := s.usage(); u.documents > 100<<10 || u.blocks > 0 {
		t.Errorf("after a prune of all: %+v", u)
	}
}

// TestDocumentsWithoutRoom: a document that finds no room is refused as blocks are.
func TestDocumentsWithoutRoom(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), Limit: 1 << 20})
	if err := s.PutDoc("index", "large", make([]byte, 2<<20)); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if err := s.PutDoc("index", "small", make([]byte, 100)); err != nil && !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if u := s.usage(); u.total() > 1<<20 {
		t.Errorf("%+v", u)
	}
}
