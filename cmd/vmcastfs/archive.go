package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/fs/catalog/archive"
	xvmpack "vmcastfs/xvm/pack"
)

// openedArchive is a package opened for reading it once from its beginning to
// its end, without the cache.
type openedArchive struct {
	xvmpack.Archive
	size  int64
	close func() error
}

// openArchive opens a package that the operator names, by its URL or path. base
// is the URL itself: where that may lead depends on it.
func openArchive(ctx context.Context, client *remote.Client, address, base string, e *env) (*openedArchive, error) {
	u, err := url.Parse(address)
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		return openRemoteArchive(ctx, client, address, base, e)
	case err == nil && u.Scheme == "file":
		address = u.Path
	}
	f, err := os.Open(address)
	if err != nil {
		return nil, err
	}
	return openFileArchive(f)
}

// openFileArchive takes f over.
func openFileArchive(f *os.File) (*openedArchive, error) {
	size, err := imageSize(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &openedArchive{fileArchive{f}, size, f.Close}, nil
}

func openRemoteArchive(ctx context.Context, client *remote.Client, address, base string, e *env) (*openedArchive, error) {
	a, err := archive.Open(ctx, archive.Env{Remote: client}, archive.Place{URL: func() string { return address }, Base: base})
	if err != nil {
		return nil, err
	}
	id := a.Identity()
	if id.Ranged && id.Size >= 0 {
		return &openedArchive{remoteArchive{a}, id.Size, func() error { return nil }}, nil
	}
	// A server without ranges: all of it first.
	f, err := tempFile()
	if err != nil {
		return nil, err
	}
	add, done := e.progress("fetching", id.Size)
	defer done()
	size, err := func() (int64, error) {
		body, err := a.Fetch(ctx, 0, -1, source.Background)
		if err != nil {
			return 0, err
		}
		defer body.Close()
		return io.Copy(&roomyFile{File: f}, &countingReader{body, add})
	}()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &openedArchive{fileArchive{f}, size, f.Close}, nil
}

// errTemp says that there is no place for a temporary file.
var errTemp = errors.New("no room for a temporary file")

func tempError(err error) error {
	return withCode(exitSystem, fmt.Errorf("%w in %s: %w; set TMPDIR to a directory with more room", errTemp, os.TempDir(), err))
}

// tempFile is an xvmpack.TempFile of the system.
func tempFile() (*os.File, error) {
	f, err := xvmpack.TempFile("")
	if err != nil {
		return nil, tempError(err)
	}
	return f, nil
}

// roomyFile leaves room on the disk: the body of a server that does not tell
// its length may never end.
type roomyFile struct {
	*os.File
	unchecked int
}

const (
	tempRoom  = 512 << 20 // bytes left free
	roomEvery = 16 << 20  // bytes written between two looks
)

func (f *roomyFile) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{f}, r) // or File's own would pass by Write
}

func (f *roomyFile) Write(p []byte) (int, error) {
	if f.unchecked -= len(p); f.unchecked < 0 {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err == nil && int64(st.Bavail)*st.Bsize < tempRoom {
			return 0, tempError(fmt.Errorf("less than %s would be left free", humanize.IBytes(tempRoom)))
		}
		f.unchecked = roomEvery
	}
	n, err := f.File.Write(p)
	if err != nil {
		err = tempError(err)
	}
	return n, err
}

type countingReader struct {
	io.Reader
	add func(int64)
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.add(int64(n))
	return n, err
}

// fileArchive is a package on this machine.
type fileArchive struct{ f *os.File }

func (a fileArchive) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return a.f.ReadAt(p, off)
}

func (a fileArchive) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(a.f, off, n)), nil
}

// remoteArchive is a package on a server with ranges.
type remoteArchive struct{ *archive.Archive }

func (a remoteArchive) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return a.Fetch(ctx, off, n, source.Background)
}

// softOptions are the options of commands that would rather fail than wait.
func softOptions(list string) (options, error) {
	o := defaultOptions()
	o.Net.Hard = false
	o.Net.Timeo = 15 * time.Second
	o.CacheSize = 0 // what mounts have put there stays: theirs may be larger than the default
	return o, o.read(list, false)
}

// withArchive opens one package with the options' network, for as long as fn runs.
func (e *env) withArchive(ctx context.Context, o options, log *slog.Logger, address string, fn func(*remote.Client, *openedArchive) error) error {
	client, err := newRemote(o, log)
	if err != nil {
		return err
	}
	defer client.Close()
	a, err := openArchive(ctx, client, address, address, e)
	if err != nil {
		if errors.Is(err, remote.ErrNotFound) {
			err = fmt.Errorf("%w; check the address", err)
		}
		return withCode(exitFailed, err)
	}
	defer a.close() //nolint:errcheck // only read
	return fn(client, a)
}
