package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dir is a directory held open. Its entries are reached through the descriptor, one plain component at a
// time and never through a symbolic link: so nobody can lead us elsewhere after it was checked.
type dir struct{ f *os.File }

func (d dir) fd() int { return int(d.f.Fd()) }

func (d dir) path(name string) string { return filepath.Join(d.f.Name(), name) }

func (d dir) open(name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: d.path(name), Err: err}
		}
		f := os.NewFile(uintptr(fd), d.path(name))
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "stat", Path: d.path(name), Err: err}
		}
		want := uint32(unix.S_IFREG)
		if flags&unix.O_DIRECTORY != 0 {
			want = unix.S_IFDIR
		}
		if st.Mode&unix.S_IFMT != want || int(st.Uid) != os.Geteuid() {
			f.Close()
			return nil, fmt.Errorf("%q is not a file of this user: remove it", d.path(name))
		}
		return f, nil
	}
}

// sub opens a directory in d, making it first if need be.
func (d dir) sub(name string) (dir, error) {
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil && err != unix.EEXIST {
		return dir{}, &fs.PathError{Op: "mkdir", Path: d.path(name), Err: err}
	}
	return d.existing(name)
}

// existing opens a directory in d.
func (d dir) existing(name string) (dir, error) {
	f, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	return dir{f}, err
}

func (d dir) names() ([]string, error) {
	f, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d dir) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &fs.PathError{Op: "stat", Path: d.path(name), Err: err}
	}
	return st, nil
}

func (d dir) remove(name string) error {
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: d.path(name), Err: err}
	}
	return nil
}

func (d dir) rename(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return &fs.PathError{Op: "rename", Path: d.path(from), Err: err}
	}
	return nil
}

// touch sets the times of an entry to now.
func (d dir) touch(name string) {
	// Only the order of eviction depends on it.
	_ = unix.UtimesNanoAt(d.fd(), name, nil, unix.AT_SYMLINK_NOFOLLOW)
}

// replace puts data into the file name, whole or not at all. It returns the file open for reading and writing.
func (d dir) replace(name string, data []byte) (*os.File, error) {
	tmp := tempPrefix + randomName()
	f, err := d.open(tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		f.Close()
		_ = d.remove(tmp)
		return nil, err
	}
	// The descriptor's name is only used in messages.
	return f, d.f.Sync()
}

// sweep removes what a killed process left half done.
func (d dir) sweep() {
	names, err := d.names()
	if err != nil {
		return
	}
	for _, n := range names {
		if strings.HasPrefix(n, gonePrefix) {
			_ = d.remove(n)
		}
		if strings.HasPrefix(n, tempPrefix) {
			if st, err := d.stat(n); err == nil && time.Since(time.Unix(st.Mtim.Unix())) > time.Hour {
				_ = d.remove(n)
			}
		}
	}
}

// openDir opens the cache directory itself: makes it, or checks that it is ours and is a cache.
func openDir(path string) (dir, error) {
	if path == "" {
		return dir{}, errors.New("no cache directory given")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return dir{}, fmt.Errorf("cache directory %q: %w", path, err)
	}
	follow, err := mayFollow(abs)
	if err != nil {
		return dir{}, err
	}
	return openLooked(path, abs, follow)
}

// mayFollow says whether a link may lead to the directory: only if there is one, and a user made it that
// could replace the directory anyway.
func mayFollow(abs string) (bool, error) {
	if fi, err := os.Lstat(abs); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return false, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return false, fmt.Errorf("cache directory %q is a symbolic link made by another user", abs)
	}
	return true, nil
}

// openLooked opens the directory that mayFollow has looked at. Where there was no link, none is followed
// that has come since.
func openLooked(path, abs string, follow bool) (dir, error) {
	nofollow := unix.O_NOFOLLOW
	if follow {
		nofollow = 0
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return dir{}, fmt.Errorf("make cache directory %q: %w", path, cause(err))
	}
	fd, err := unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|nofollow, 0)
	if err != nil {
		return dir{}, fmt.Errorf("open cache directory %q: %w", path, err)
	}
	d := dir{os.NewFile(uintptr(fd), abs)}
	if err := d.claim(); err != nil {
		d.f.Close()
		return dir{}, fmt.Errorf("cache directory %q: %w", path, err)
	}
	return d, nil
}

// claim checks owner and mode, and that the directory is a cache or empty.
func (d dir) claim() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return err
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to user %d, and this is user %d", st.Uid, os.Geteuid())
	}
	names, err := d.names()
	if err != nil {
		return err
	}
	ours := []string{"lost+found", "lock", "version", "CACHEDIR.TAG", "files", "docs"}
	if !slices.Contains(names, "version") {
		for _, n := range names {
			if !slices.Contains(ours, n) && !strings.HasPrefix(n, tempPrefix) {
				return fmt.Errorf("it is not a cache and not empty (it holds %q)", n)
			}
		}
	}
	if st.Mode&0o077 != 0 {
		if err := unix.Fchmod(d.fd(), 0o700); err != nil {
			return fmt.Errorf("make it private: %w", err)
		}
	}
	return nil
}

// checkVersion reads the version file, or writes it in a new directory. The caller holds lockSetup.
func (d dir) checkVersion() error {
	f, err := d.open("version", unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		for _, x := range [][2]string{{"CACHEDIR.TAG", tagText}, {"version", versionLine}} {
			f, err := d.replace(x[0], []byte(x[1]))
			if err != nil {
				return err
			}
			f.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	if n == 0 && err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if string(b[:n]) != versionLine {
		return fmt.Errorf("its version file says %q: %w; use the program that wrote it, or another directory", strings.TrimSpace(string(b[:n])), ErrFormat)
	}
	return nil
}

// cause is a system call's error without the path that our own message has.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
