package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
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
	for _, text := range []string{"", "{", `{"version": 99}`} {
		write(t, filepath.Join(dir, feedsDir, file("http://x/")), []byte(text))
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

// TestL2SwappedState: who owns the directory above the state's puts a link to
// somewhere else in its place while it is opened. Nothing is ever made there.
func TestL2SwappedState(t *testing.T) {
	parent, victim := t.TempDir(), t.TempDir()
	state, link, away := filepath.Join(parent, "state"), filepath.Join(parent, "link"), filepath.Join(parent, "away")
	if err := errors.Join(os.Symlink(victim, link), os.Mkdir(away, 0o700)); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	var swaps atomic.Int64
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if os.Rename(state, filepath.Join(away, fmt.Sprint(i))) == nil && os.Rename(link, state) == nil {
				swaps.Add(1)
				runtime.Gosched()
				_ = os.Rename(state, link)
			}
		}
	}()
	opened, refused := 0, 0
	for opened+refused < 500 || swaps.Load() < 50 && opened+refused < 5000 {
		d, err := OpenDir(state, true)
		if err != nil {
			refused++
			continue
		}
		opened++
		_ = d.Close()
	}
	close(stop)
	<-ended
	if entries, err := os.ReadDir(victim); err != nil || len(entries) > 0 {
		t.Errorf("in the directory that the link leads to: %v, %v", entries, err)
	}
	t.Logf("%d times opened, %d times refused, %d swaps", opened, refused, swaps.Load())
}

// TestL2PlantedState: what another user, or a link, put into the directory
// while that was open to all is neither followed nor believed.
func TestL2PlantedState(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	write(t, victim, []byte(`{"version": 1}`))
	d, err := OpenDir(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	file := filepath.Join(dir, feedsDir, file("http://x/"))
	plant := func(what string, make func() error) {
		t.Helper()
		_ = os.RemoveAll(file)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if f, err := d.Load("http://x/"); err == nil {
			t.Errorf("%s is believed: %+v", what, f)
		}
	}
	plant("a link", func() error { return os.Symlink(victim, file) })
	plant("a fifo", func() error { return syscall.Mkfifo(file, 0o600) })
	if os.Geteuid() == 0 {
		plant("another user's file", func() error {
			return errors.Join(os.WriteFile(file, []byte(`{"version": 1}`), 0o644), os.Chown(file, 12345, 12345))
		})
	}
	_ = os.RemoveAll(file)
	lock := filepath.Join(dir, "lock")
	made := filepath.Join(filepath.Dir(victim), "made")
	if err := errors.Join(os.RemoveAll(lock), os.Symlink(made, lock)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Change("http://x/", func(*Feed) error { return nil }); err == nil {
		t.Error("a lock that is a link is taken")
	}
	if _, err := os.Lstat(made); err == nil {
		t.Error("a link was followed")
	}
	if got, _ := os.ReadFile(victim); string(got) != `{"version": 1}` {
		t.Errorf("the file that the link leads to is now %q", got)
	}
}

// TestRest: what is on the disk and was not asked for is given back, and read when it is
// wanted. What cannot be read then is not taken for nothing.
func TestRest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	changed := Package{ID: "a", Name: "a", Manifest: "other"}
	s.change(func(ft *Feed) { ft.note(Package{ID: "a", Name: "a", Manifest: "first"}, testTime()) })
	for range 2 {
		if s.Rest() {
			t.Error("what is not on the disk yet is given back")
		}
	}
	s.mu.Lock()
	s.save()
	s.mu.Unlock()
	rest := func() {
		t.Helper()
		if s.Objection(changed) == "" || s.Err() != nil {
			t.Error("another manifest is not noticed", s.Err())
		}
		first, second, third := s.Rest(), s.Rest(), s.Rest()
		if first || !second || third || s.now != nil {
			t.Error("it is not given back by the second call, once", first, second, third)
		}
	}
	rest()
	rest()
	at := filepath.Join(dir, feedsDir, file("http://x/"))
	good, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	write(t, at, []byte("{"))
	if s.Objection(changed); s.Err() == nil {
		t.Error("a damaged file is taken for an empty one")
	}
	write(t, at, good)
	rest()
	s.change(func(ft *Feed) { ft.note(Package{ID: "b", Name: "b", Manifest: "b"}, testTime()) })
	s.mu.Lock()
	s.save()
	s.mu.Unlock()
	if ft, err := s.dir.Load("http://x/"); err != nil || len(ft.Releases) != 2 {
		t.Error("what was seen before is lost", err)
	}
}
