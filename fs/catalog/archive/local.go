package archive

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
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

	mu      sync.Mutex // guards what follows it; a leaf
	other   remote.Identity
	known   remote.Identity // other times of the same bytes
	changed bool            // and of others
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

// see compares the file with what was pinned. Another time of it may count.
func (l *local) see(info os.FileInfo, counts func(is remote.Identity) bool) error {
	is := localIdentity(info)
	l.mu.Lock()
	defer l.mu.Unlock()
	if is == l.id && !l.changed {
		return nil
	}
	l.other = is
	if is.Size == l.id.Size && !l.changed && counts(is) {
		return nil
	}
	return fmt.Errorf("%s: %w", l.path, remote.ErrChanged)
}

// Check is that of remote.Object, as are Unpinned, Strange, Adopt and Contradicted.
func (l *local) Check(context.Context) error {
	info, err := os.Stat(l.path)
	if err == nil {
		err = l.see(info, func(is remote.Identity) bool { return is == l.known })
	}
	return err
}

func (l *local) Unpinned() source.Source {
	return source.Func(func(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
		return l.read(off, n, func(remote.Identity) bool { return true })
	})
}

func (l *local) Strange() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.other != remote.Identity{}
}

func (l *local) Adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = l.other
}

func (l *local) Contradicted() bool {
	strange := l.Strange()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = strange
	return strange
}

func (l *local) Fetch(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	return l.read(off, n, func(remote.Identity) bool { return false })
}

func (l *local) read(off, n int64, counts func(remote.Identity) bool) (io.ReadCloser, error) {
	f, info, err := l.open()
	if err != nil {
		return nil, err
	}
	if err := l.see(info, counts); err != nil {
		f.Close()
		return nil, err
	}
	return &localReader{r: io.NewSectionReader(f, off, n), f: f}, nil
}

type localReader struct {
	r *io.SectionReader
	f *os.File
}

func (r *localReader) Read(p []byte) (int, error) { return r.r.Read(p) }
func (r *localReader) Close() error               { return r.f.Close() }
