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
)

func TestDocs(t *testing.T) {
	s := openStore(t, Options{Dir: t.TempDir()})
	if _, err := s.GetDoc("feed", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if l, err := s.ListDocs("feed"); err != nil || len(l) != 0 {
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
	if l, err := s.ListDocs("feed"); err != nil || len(l) != len(names) || l[2] != "a" {
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
		if l, err := s.ListDocs("index"); err != nil || len(l) != 0 {
			t.Errorf("%s: listed %q, %v", what, l, err)
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
