package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDirOwner: the directory is this user's alone, and no link.
func TestDirOwner(t *testing.T) {
	top := t.TempDir()
	open := filepath.Join(top, "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(open, true); err != nil {
		t.Error(err)
	}
	if info, _ := os.Stat(open); info.Mode().Perm() != 0o700 {
		t.Error("mode", info.Mode())
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(link, true); err == nil {
		t.Error("a symbolic link is accepted")
	}
	write(t, filepath.Join(top, "file"), nil)
	for _, bad := range []string{"", filepath.Join(top, "file"), filepath.Join(top, "file", "below"), "/proc/vmcastfs"} {
		if _, err := Open(bad, "http://x/", nil); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(top, "foreign")
		if err := os.Mkdir(foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(foreign, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(foreign, true); err == nil || !strings.Contains(err.Error(), "12345") {
			t.Error(err)
		}
	}
}

// TestFileDamaged: a damaged file is not taken for an empty one.
func TestFileDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d, _ := OpenDir(dir, true)
	for _, text := range []string{"", "{", `{"version": 99}`} {
		write(t, d.file("http://x/"), []byte(text))
		if _, err := Open(dir, "http://x/", nil); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestShared: two processes that learn at the same time lose nothing.
func TestShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var states []*State
	for range 3 {
		s, err := Open(dir, "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, s)
	}
	for i := range 30 {
		id := string(rune('A' + i))
		states[i%3].change(func(ft *Feed) { ft.note(Package{ID: id, Name: id, Manifest: id}, testTime()) })
	}
	for _, s := range states {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, _ := OpenDir(dir, true)
	ft, err := d.Load("http://x/")
	if err != nil || len(ft.Releases) != 30 {
		t.Errorf("%d releases, %v", len(ft.Releases), err)
	}
	if all, err := d.Feeds(); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
	if err := d.Forget("http://x/", "A"); err != nil {
		t.Error(err)
	}
	if err := d.Forget("http://x/", "nobody"); err == nil {
		t.Error("forgets what it does not know")
	}
	if err := d.Forget("http://x/", ""); err != nil {
		t.Error(err)
	}
	if ft, _ := d.Load("http://x/"); len(ft.Releases) != 0 {
		t.Error("not forgotten")
	}
}
