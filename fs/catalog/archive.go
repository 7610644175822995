package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
)

// archive is an enclosure whose identity is pinned: its bytes come from one
// version of the object or not at all.
type archive struct {
	source.Source
	id   remote.Identity
	head *headBytes
	// check asks whether it is still there as it was: nil, remote.ErrChanged, or
	// why that cannot be told now.
	check func(ctx context.Context) error
	move  func(url string) error // nil: a file does not move
}

// moveTo has the archive asked for where the release is now.
func (a *archive) moveTo(r *Release) {
	if a.move == nil {
		return
	}
	if err := a.move(r.URL()); err != nil {
		r.cat.cfg.Logger.Warn("the feed's new URL is of no use; the old one is asked on", "release", r.Name(), "err", err)
	}
}

// Fetch is that of the archive's Source, but for what is in the head.
func (a *archive) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	if n >= 0 && n <= a.head.reach(off)-off {
		p := make([]byte, n)
		if a.head.copy(ctx, p, off) == len(p) {
			return io.NopCloser(bytes.NewReader(p)), nil
		}
	}
	return a.Source.Fetch(ctx, off, n, u)
}

// openArchive finds out what the release's archive is now. Base is the feed's
// own URL.
func (r *Release) openArchive(ctx context.Context) (*archive, error) {
	if path, ok := localPath(r.URL()); ok {
		l, err := openLocal(path, r)
		if err != nil {
			return nil, err
		}
		return &archive{Source: l, id: l.id, check: l.check}, nil
	}
	obj, err := r.cat.cfg.Remote.Open(ctx, r.URL(), r.cat.cfg.FeedURL)
	if err != nil {
		return nil, err
	}
	return remoteArchive(obj), nil
}

// resumeArchive takes up an archive whose identity is known, without asking.
func (r *Release) resumeArchive(id remote.Identity) *archive {
	if path, ok := localPath(r.URL()); ok {
		l := &local{path: path, id: id, release: r}
		return &archive{Source: l, id: id, check: l.check}
	}
	return remoteArchive(r.cat.cfg.Remote.Resume(r.URL(), r.cat.cfg.FeedURL, id))
}

func remoteArchive(obj *remote.Object) *archive {
	a := &archive{Source: obj, id: obj.Identity(), check: obj.Check, move: obj.Move}
	if head := obj.Head(); len(head) > 0 {
		a.head = newHead(head)
	}
	if !a.id.Ranged {
		a.Source = obj.OneStream()
	}
	return a
}

// localPath tells whether a URL names a file of this machine.
func localPath(rawURL string) (string, bool) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return u.Path, true
}

// local is an archive on this machine. Its validator is time and size.
type local struct {
	path    string
	id      remote.Identity
	release *Release // whose feed names it; nil: the operator does
}

// openLocal finds out what is at path now.
func openLocal(path string, release *Release) (*local, error) {
	l := &local{path: path, release: release}
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

// OpenFile opens the release's archive where that is a file of this machine
// which its feed may name.
func (r *Release) OpenFile() (f *os.File, isFile bool, err error) {
	path, isFile := localPath(r.URL())
	if isFile {
		f, _, err = (&local{path: path, release: r}).open()
	}
	return f, isFile, err
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
		err = fmt.Errorf("%s: %w: it is no regular file", l.path, ErrNotPackage)
	case l.release != nil:
		err = l.allowed(info)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func (l *local) allowed(info os.FileInfo) error {
	writer, err := strconv.Atoi(l.release.feedFrom())
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

// ReadAt reads for the tar walk, which wants plain reads: from the head where
// that reaches, else by a range.
func (a *archive) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	want := p
	var atEnd error
	if off >= a.id.Size {
		return 0, io.EOF
	}
	if rest := a.id.Size - off; int64(len(want)) > rest {
		want, atEnd = want[:rest], io.EOF
	}
	n := a.head.copy(ctx, want, off)
	if n < len(want) {
		body, err := a.Source.Fetch(ctx, off+int64(n), int64(len(want)-n), source.Demand)
		if err != nil {
			return n, err
		}
		defer body.Close()
		m, err := io.ReadFull(body, want[n:])
		n += m
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	return n, atEnd
}
