package privdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpen: a directory is this user's alone; a link to it is followed if that
// is asked for, and a trusted user made it.
func TestOpen(t *testing.T) {
	top := t.TempDir()
	loose, link, file := filepath.Join(top, "loose"), filepath.Join(top, "link"), filepath.Join(top, "file")
	if err := errors.Join(os.Mkdir(loose, 0o777), os.Chmod(loose, 0o777), os.Symlink(loose, link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		p    Policy
		ok   bool
	}{
		{loose, 0, true}, {link, 0, false}, {link, Follow, true}, {"", Make, false}, {file, Make, false}, {filepath.Join(file, "below"), Make, false},
		{filepath.Join(top, "new"), 0, false}, {filepath.Join(top, "new", "newer"), Make, true},
	} {
		d, err := Open(c.path, c.p, "mark", "ours")
		if (err == nil) != c.ok {
			t.Errorf("%q with %d: %v", c.path, c.p, err)
		}
		if err == nil {
			d.Close()
		}
	}
	if info, err := os.Stat(loose); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
}

// TestForAnotherPurpose: a directory that holds something else is refused, and
// keeps its mode: it may be /etc.
func TestForAnotherPurpose(t *testing.T) {
	for _, c := range []struct {
		holds []string
		ok    bool
	}{
		{nil, true}, {[]string{"mark", "passwd"}, true}, {[]string{"ours", "lost+found", TempPrefix + "x"}, true},
		{[]string{"passwd"}, false}, {[]string{"ours", "passwd"}, false},
	} {
		dir := t.TempDir()
		for _, name := range c.holds {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := os.FileMode(0o755)
		if err := os.Chmod(dir, want); err != nil {
			t.Fatal(err)
		}
		d, err := Open(dir, Make, "mark", "ours")
		if (err == nil) != c.ok {
			t.Errorf("%q: %v", c.holds, err)
		}
		if c.ok {
			want = 0o700
			d.Close()
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: the mode is %v, %v", c.holds, info.Mode(), err)
		}
	}
}

// TestL2WorstMoment: a link that comes right after the look is not followed.
func TestL2WorstMoment(t *testing.T) {
	victim, path := t.TempDir(), filepath.Join(t.TempDir(), "dir")
	nofollow, err := look(path, Make|Follow)
	if err := errors.Join(err, os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := openLooked(path, nofollow, Make|Follow); err == nil {
		t.Error("it was followed")
	}
	if entries, _ := os.ReadDir(victim); len(entries) > 0 {
		t.Errorf("in the directory that the link leads to: %v", entries)
	}
}

// TestReplace: a file is replaced whole; a FIFO or a link in its place holds
// nobody up and leads nowhere.
func TestReplace(t *testing.T) {
	d, err := Open(t.TempDir(), 0, "mark")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(unix.Mkfifo(d.Path("fifo"), 0o600), os.Symlink(victim, d.Path("link"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "link"} {
		if f, err := d.OpenFile(name, unix.O_RDONLY); err == nil {
			f.Close()
			t.Errorf("a %s is opened", name)
		}
		if f, err := d.Replace(name, []byte("new")); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		if b, err := os.ReadFile(d.Path(name)); string(b) != "new" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("the link was followed")
	}
	names, err := d.Names()
	if err != nil || strings.Contains(strings.Join(names, " "), TempPrefix) {
		t.Error(names, err)
	}
}

// TestL2ForeignFile: what another user could put among the files is not taken for ours.
func TestL2ForeignFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, and another user")
	}
	d, err := Open(t.TempDir(), 0, "mark")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, make := range map[string]func(path string) error{
		"file":      func(p string) error { return os.WriteFile(p, nil, 0o666) },
		"directory": func(p string) error { return os.Mkdir(p, 0o777) },
	} {
		if err := errors.Join(make(d.Path(name)), os.Chown(d.Path(name), 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if f, err := d.OpenFile(name, os.O_RDONLY); err == nil {
			f.Close()
			t.Errorf("another user's %s is opened", name)
		}
	}
	if _, err := d.MakeSub("directory"); err == nil {
		t.Error("another user's directory is entered")
	}
}
