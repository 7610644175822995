// Package privdir holds a directory of this user's own open. Its entries are reached through the
// descriptor, one plain component at a time and never through a symbolic link: so nobody can lead us
// elsewhere after the directory was checked. Only files and directories of this user are opened. A file is
// replaced whole or not at all.
package privdir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the names of files that are being written.
const TempPrefix = ".tmp-"

// Dir is a directory held open. All methods may be called concurrently.
type Dir struct{ *os.File }

// Policy says what [Open] may do.
type Policy int

const (
	// Make: the directory is made if it is not there, and what leads to it.
	Make Policy = 1 << iota
	// Follow: a symbolic link may lead to the directory, if a user made it that
	// could replace the directory anyway.
	Follow
)

// Open opens a directory of this user for a purpose. It has an entry called mark,
// or nothing but what ours names: so that a directory of another purpose, such as
// /etc, is refused as it is. Then its mode becomes 0700.
func Open(path string, p Policy, mark string, ours ...string) (Dir, error) {
	if path == "" {
		return Dir{}, errors.New("no directory is given")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Dir{}, err
	}
	nofollow, err := look(abs, p)
	if err != nil {
		return Dir{}, err
	}
	d, err := openLooked(abs, nofollow, p)
	if err != nil {
		return d, err
	}
	if err = d.fits(mark, ours); err == nil {
		err = d.makePrivate()
	}
	if err != nil {
		d.Close()
		return Dir{}, err
	}
	return d, nil
}

// fits tells whether the directory is for this purpose, or for none yet.
func (d Dir) fits(mark string, ours []string) error {
	names, err := d.Names()
	if err != nil || slices.Contains(names, mark) {
		return err
	}
	for _, n := range names {
		if n != "lost+found" && !strings.HasPrefix(n, TempPrefix) && !slices.Contains(ours, n) {
			return fmt.Errorf("%q is for something else: it holds %q", d.Name(), n)
		}
	}
	return nil
}

// look says whether a link may lead to the directory: the flag is 0 then.
func look(abs string, p Policy) (nofollow int, err error) {
	if fi, err := os.Lstat(abs); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return unix.O_NOFOLLOW, nil
	}
	var st unix.Stat_t
	switch err := unix.Lstat(abs, &st); {
	case p&Follow == 0:
		return 0, fmt.Errorf("%q is a symbolic link", abs)
	case err != nil || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return 0, fmt.Errorf("%q is a symbolic link made by another user", abs)
	}
	return 0, nil
}

// openLooked opens the directory that look has looked at. Where there was no link, none is followed that
// has come since.
func openLooked(abs string, nofollow int, p Policy) (Dir, error) {
	if p&Make != 0 {
		if err := os.MkdirAll(abs, 0o700); err != nil {
			return Dir{}, fmt.Errorf("make %q: %w", abs, cause(err))
		}
	}
	fd, err := unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|nofollow, 0)
	if err != nil {
		return Dir{}, &fs.PathError{Op: "open", Path: abs, Err: err}
	}
	return own(os.NewFile(uintptr(fd), abs))
}

// own checks that an open directory is this user's.
func own(f *os.File) (Dir, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	if err == nil && int(st.Uid) != os.Geteuid() {
		err = fmt.Errorf("%q belongs to user %d, and this is user %d", f.Name(), st.Uid, os.Geteuid())
	}
	if err != nil {
		f.Close()
		return Dir{}, err
	}
	return Dir{f}, nil
}

// makePrivate takes the rights of other users away. One that they may only pass
// through stays so: all files in it are this user's alone, unless it says otherwise.
func (d Dir) makePrivate() error {
	var st unix.Stat_t
	err := unix.Fstat(d.fd(), &st)
	if err == nil && st.Mode&0o066 != 0 {
		err = unix.Fchmod(d.fd(), 0o700)
	}
	if err != nil {
		return fmt.Errorf("make %q private: %w", d.Name(), err)
	}
	return nil
}

func (d Dir) fd() int { return int(d.Fd()) }

// Path is that of an entry, for messages.
func (d Dir) Path(name string) string { return filepath.Join(d.Name(), name) }

// OpenFile opens an entry with flags of open(2). It must be a regular file of this user.
func (d Dir) OpenFile(name string, flags int) (*os.File, error) {
	return d.openat(name, flags|unix.O_NONBLOCK, unix.S_IFREG) // a FIFO must not hold us up
}

func (d Dir) openat(name string, flags int, kind uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: d.Path(name), Err: err}
		}
		f := os.NewFile(uintptr(fd), d.Path(name))
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "stat", Path: d.Path(name), Err: err}
		}
		if st.Mode&unix.S_IFMT != kind || int(st.Uid) != os.Geteuid() {
			f.Close()
			return nil, fmt.Errorf("%q is not a file of this user: remove it", d.Path(name))
		}
		return f, nil
	}
}

// Sub opens a directory in d.
func (d Dir) Sub(name string) (Dir, error) {
	f, err := d.openat(name, unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
	if err != nil {
		return Dir{}, err
	}
	sub, err := own(f)
	if err != nil {
		return Dir{}, err
	}
	if err := sub.makePrivate(); err != nil {
		sub.Close()
		return Dir{}, err
	}
	return sub, nil
}

// MakeSub opens a directory in d, making it first if need be.
func (d Dir) MakeSub(name string) (Dir, error) {
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil && err != unix.EEXIST {
		return Dir{}, &fs.PathError{Op: "mkdir", Path: d.Path(name), Err: err}
	}
	return d.Sub(name)
}

// Names lists the entries, in no order.
func (d Dir) Names() (all []string, err error) {
	err = d.Each(func(name string) { all = append(all, name) })
	return all, err
}

// Each calls fn with each entry, in no order. There may be many.
func (d Dir) Each(fn func(name string)) error {
	f, err := d.openat(".", unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		some, err := f.Readdirnames(256)
		for _, name := range some {
			fn(name)
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// StatOf describes an entry, or the link that it is.
func (d Dir) StatOf(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &fs.PathError{Op: "stat", Path: d.Path(name), Err: err}
	}
	return st, nil
}

// Remove removes a file.
func (d Dir) Remove(name string) error {
	if err := unix.Unlinkat(d.fd(), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: d.Path(name), Err: err}
	}
	return nil
}

// Rename gives a file another name, which it takes over from any other file.
func (d Dir) Rename(from, to string) error {
	if err := unix.Renameat(d.fd(), from, d.fd(), to); err != nil {
		return &fs.PathError{Op: "rename", Path: d.Path(from), Err: err}
	}
	return nil
}

// Touch sets the times of an entry to now, if it can.
func (d Dir) Touch(name string) {
	_ = unix.UtimesNanoAt(d.fd(), name, nil, unix.AT_SYMLINK_NOFOLLOW)
}

// Replace puts data into the file name, whole or not at all, and durably. It returns the file open for
// reading and writing.
func (d Dir) Replace(name string, data []byte) (*os.File, error) {
	tmp := TempPrefix + rand.Text()
	f, err := d.OpenFile(tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.Rename(tmp, name)
	}
	if err != nil {
		f.Close()
		_ = d.Remove(tmp)
		return nil, err
	}
	// The descriptor's name is only used in messages.
	return f, d.Sync()
}

// Write is Replace without a file that stays open.
func (d Dir) Write(name string, data []byte) error {
	f, err := d.Replace(name, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadFile reads a file of at most limit bytes.
func (d Dir) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.OpenFile(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", d.Path(name), limit)
	}
	return data, err
}

// Lock keeps other processes from what they lock by this file, until unlock. It waits
// for them until ctx ends.
func (d Dir) Lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := d.OpenFile(name, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err == unix.EWOULDBLOCK || err == unix.EINTR {
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = fmt.Errorf("another process has it: %w", context.Cause(ctx))
			}
		}
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}

// Sweep removes what a killed process left half written, an hour ago or longer.
func (d Dir) Sweep() {
	names, _ := d.Names()
	for _, n := range names {
		if st, err := d.StatOf(n); strings.HasPrefix(n, TempPrefix) && err == nil && time.Since(time.Unix(st.Mtim.Unix())) > time.Hour {
			_ = d.Remove(n)
		}
	}
}

// cause is a system call's error without the path that our own message has.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
