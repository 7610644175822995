package store

import (
	"errors"
	"io/fs"
	"testing"
)

func TestKeptFilesStay(t *testing.T) {
	s := openStore(t, Options{Dir: t.TempDir()})
	for _, name := range []string{"a", "b", "c"} {
		f := openFile(t, s, name, 4*bs, bs)
		write(t, f, 0, 1, 2, 3)
		if err := s.SetLabel(key(name), "release/"+name); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	pruneAfter := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prune(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Keep(key("a"), 7); err != nil {
		t.Fatal(err)
	}
	pruneAfter(s.Keep(key("b"), 0))
	infos, err := s.List()
	if err != nil || len(infos) != 2 {
		t.Fatalf("after pruning all there are %+v, %v", infos, err)
	}
	for _, i := range infos {
		if !i.Kept || i.Blocks != 4 || i.Label == "" {
			t.Errorf("kept: %+v", i)
		}
	}
	if got := s.Label(key("c")); got != "" {
		t.Errorf("an evicted file left its label %q", got)
	}
	pruneAfter(s.Unkeep(key("a")))
	if _, err := s.Stat(key("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no longer kept, but %v", err)
	}
	if err := s.Remove(key("b")); err != nil {
		t.Errorf("removing a kept file: %v", err)
	}
	if s.HasDoc(kindKeep, string(key("b"))) {
		t.Error("a removed file is still kept")
	}
	if err := s.Keep("../x", 0); err == nil {
		t.Error("a key that is none was accepted")
	}
}
