package archive

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/xvm"
)

// local is an archive on this machine. Its validator is time and size.
type local struct {
	path   string
	id     remote.Identity
	writer func() string // the user whose feed names it; nil: the operator does
}

// openLocal finds out what is at path now.
func openLocal(path string, writer func() string) (*local, error) {
	l := &local{path: path, writer: writer}
	f, info, err := l.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l.id = localIdentity(info)
	return l, nil
}

func localIdentity(info os.FileInfo) remote.Identity {
	return remote.Identity{
		LastModified: info.ModTime().UTC().Format(time.RFC3339Nano),
		Size:         info.Size(),
		Ranged:       true,
	}
}

// OpenFile opens the enclosure if it is a file of this machine, which its feed
// may name.
func OpenFile(place Place) (f *os.File, isFile bool, err error) {
	path, isFile := LocalPath(place.URL())
	if isFile {
		f, _, err = (&local{path: path, writer: place.Writer}).open()
	}
	return f, isFile, err
}

// Unchanged tells whether the file that a URL names is still what it was.
// A URL of a server is not asked for: it counts as unchanged.
func Unchanged(place Place, id remote.Identity) bool {
	path, ok := LocalPath(place.URL())
	if !ok {
		return true
	}
	l, err := openLocal(path, place.Writer)
	return err == nil && l.id == id
}

// open opens the file if the feed may name it. Another user's feed may name
// that user's files only: it must not show what we can read and its writer
// cannot.
func (l *local) open() (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(l.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: %w: it is no regular file", l.path, xvm.ErrNotPackage)
	case l.writer != nil:
		err = l.allowed(info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func (l *local) allowed(info os.FileInfo) error {
	writer, err := strconv.Atoi(l.writer())
	if err != nil {
		return fmt.Errorf("whose feed names %s is not known: %w", l.path, ErrRefused)
	}
	owner := ownerOf(info)
	if writer == 0 || writer == os.Geteuid() || writer == owner {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, the feed that names it to user %d: %w", l.path, owner, writer, ErrRefused)
}

func ownerOf(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func (l *local) check(context.Context) error {
	info, err := os.Stat(l.path)
	if err == nil && localIdentity(info) != l.id {
		err = fmt.Errorf("%s: %w", l.path, remote.ErrChanged)
	}
	return err
}

func (l *local) Fetch(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	f, info, err := l.open()
	if err != nil {
		return nil, err
	}
	if localIdentity(info) != l.id {
		f.Close()
		return nil, fmt.Errorf("%s: %w", l.path, remote.ErrChanged)
	}
	return &localReader{r: io.NewSectionReader(f, off, n), f: f}, nil
}

type localReader struct {
	r *io.SectionReader
	f *os.File
}

func (r *localReader) Read(p []byte) (int, error) { return r.r.Read(p) }
func (r *localReader) Close() error               { return r.f.Close() }
