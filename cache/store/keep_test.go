package store

import (
	"errors"
	"io/fs"
	"testing"
	"time"
)

func TestKeptFilesStay(t *testing.T) {
	t.Parallel()
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

// TestHeldFilesStay: a held file stays as a kept one does; one that goes last outlives
// all others, but for what was not used for long and takes too much.
func TestHeldFilesStay(t *testing.T) {
	s := openStore(t, Options{Dir: t.TempDir(), Limit: 64 * bs})
	for _, name := range []string{"base", "last", "oldest", "older", "other"} {
		f := openFile(t, s, name, 12*bs, bs)
		write(t, f, 0, 1, 2, 3, 4, 5, 6, 7)
		if err := errors.Join(f.Close(), s.PutDoc("sums", string(key(name)), make([]byte, bs))); err != nil {
			t.Fatal(err)
		}
	}
	for name, h := range map[string]Hold{"base": EvictNever, "last": EvictLast, "oldest": EvictLast, "older": EvictLast} {
		if err := s.SetHold(key(name), h); err != nil {
			t.Fatal(err)
		}
	}
	setUsed(t, s, "oldest", 20*24*time.Hour)
	setUsed(t, s, "older", 10*24*time.Hour)
	setUsed(t, s, "base", 30*24*time.Hour)
	expect := func(want ...string) {
		t.Helper()
		if _, err := s.Prune(0); err != nil {
			t.Fatal(err)
		}
		infos, err := s.List()
		if err != nil || len(infos) != len(want) {
			t.Errorf("%d files stay, not %v: %v", len(infos), want, err)
		}
		for _, name := range want {
			if i, err := s.Stat(key(name)); err != nil || i.Blocks != 8 || !s.HasDoc("sums", string(key(name))) {
				t.Errorf("%s: %+v, %v", name, i, err)
			}
		}
	}
	expect("base", "last", "oldest", "older") // half of the limit
	s.opt.Limit = 28 * bs
	expect("base", "last", "older") // the oldest two do not fit into three quarters
	s.opt.Limit = bs
	expect("base", "last")
	if err := errors.Join(s.SetHold(key("base"), EvictLast), s.SetHold(key("last"), NoHold)); err != nil {
		t.Fatal(err)
	}
	expect()
	if s.HasDoc(kindLast, string(key("base"))) || s.HasDoc(kindHold, string(key("base"))) {
		t.Error("a file that is gone is still held")
	}
}
