package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vmcastfs/xvm"
)

// TestKeyWatch changes a keyring under a watch in every way that an operator may.
func TestKeyWatch(t *testing.T) {
	key := func(name string) []byte {
		s, err := xvm.NewSigner(name, name+"@example.org", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dir := filepath.Join(t.TempDir(), "keys")
	required := false
	var keys []int // how many, each time that they were handed out
	w := &keyWatch{
		path: dir, none: true, required: true, log: slog.New(slog.DiscardHandler),
		set: func(p xvm.Policy) { keys, required = append(keys, p.Keyring.Len()), p.Required },
	}
	step := func(what string, want int, change func() error) { // want -1: nothing is handed out
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		keys = nil
		w.look()
		w.look()
		w.look()
		if want < 0 && len(keys) > 0 || want >= 0 && (len(keys) != 1 || keys[0] != want) {
			t.Errorf("%s: handed out are %v, want %d", what, keys, want)
		}
	}
	a, b := filepath.Join(dir, "a.asc"), filepath.Join(dir, "b.asc")
	one, two := key("one"), key("two")
	write := func(path string, content []byte) func() error {
		return func() error { return os.WriteFile(path, content, 0o600) }
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	step("no key", -1, func() error { return nil })
	step("garbage before there was a key", -1, write(a, []byte("no key")))
	step("the first key", 1, write(a, one))
	step("nothing", -1, func() error { return nil })
	step("a second", 2, write(b, two))
	step("one is removed", 1, func() error { return os.Remove(a) })
	step("the other becomes garbage", 0, write(b, []byte("no key")))
	step("and is mended", 1, write(b, one))
	step("the directory goes", 0, func() error { return os.RemoveAll(dir) })
	step("and comes back", 1, func() error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		return os.WriteFile(a, one, 0o600)
	})

	if !required {
		t.Error("keys have come, and are not required")
	}

	// A file that is being written is not believed at the first look.
	keys = nil
	if err := write(a, one[:100])(); err != nil {
		t.Fatal(err)
	}
	w.look()
	if err := write(a, two)(); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.look()
	if len(keys) != 1 || keys[0] != 1 {
		t.Errorf("a file in the middle of being written: %v", keys)
	}
	// Nor is it where others can be read: its keys stay.
	step("a second again", 2, write(b, one))
	keys = nil
	if err := write(b, one[:100])(); err != nil {
		t.Fatal(err)
	}
	w.look()
	if err := write(b, one)(); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.look()
	if len(keys) != 1 || keys[0] != 2 {
		t.Errorf("one of two files in the middle of being written: %v", keys)
	}
	step("one of two becomes garbage", 1, write(b, []byte("no key")))
}
