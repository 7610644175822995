package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"vmcastfs/cache/remote"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
	"vmcastfs/xvm/seekable"
)

// enclosed is what is checked of an enclosure: an archive, the plain content of
// one that is compressed as a whole, or a disk image.
type enclosed struct {
	*openedArchive
	bare string   // name of the disk image; "": it is an archive
	note string   // what was done to it
	temp *os.File // with the plain content, or nil
}

func (c *enclosed) Close() {
	if c.temp != nil {
		c.temp.Close()
	}
}

// enclosedIn recognizes an enclosure, and inflates it if need be.
func (e *env) enclosedIn(ctx context.Context, a *openedArchive, address string) (*enclosed, error) {
	enc, err := archive.Recognize(ctx, a, a.size, address, nil)
	if err != nil {
		return nil, err
	}
	c := &enclosed{openedArchive: a, bare: enc.Bare}
	if enc.Inflate == "" {
		return c, nil
	}
	if c.temp, err = tempFile(); err != nil {
		return nil, err
	}
	size, err := e.inflate(ctx, a, enc.Inflate, c.temp)
	if err != nil {
		c.Close()
		if errors.Is(err, errTemp) || ctx.Err() != nil { // which says nothing of the package
			return nil, err
		}
		return nil, fmt.Errorf("%w: it is %s-compressed and cannot be inflated: %w", xvm.ErrNotPackage, enc.Inflate, err)
	}
	c.openedArchive = &openedArchive{Archive: fileArchive{c.temp}, size: size}
	c.note = fmt.Sprintf("it is %s-compressed as a whole, %d bytes; this is of its content", enc.Inflate, a.size)
	return c, nil
}

// inflate writes the plain content of an archive to a file, having read it once.
func (e *env) inflate(ctx context.Context, a *openedArchive, format seekable.Format, to *os.File) (int64, error) {
	add, done := e.progress("inflating", a.size)
	defer done()
	body, err := a.Stream(ctx, 0, a.size)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	r, err := seekable.Open(format, &xvmpack.Forward{Stream: &countingReader{body, add}, Rest: a, Size: a.size}, a.size, seekable.Options{})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	s, err := r.Stream(ctx, 0)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(&roomyFile{File: to}, s)
	return n, errors.Join(err, s.Close())
}

// sidecarOf reads the sidecar of a package from where sidecar= says; nil: there
// is none. Sum is the SHA-256 that a feed gives of the package, or "".
func (e *env) sidecarOf(ctx context.Context, client *remote.Client, o options, address, sum string) (*xvm.Sidecar, error) {
	if !strings.Contains(address, "://") {
		abs, err := filepath.Abs(address)
		if err != nil {
			return nil, err
		}
		address = (&url.URL{Scheme: "file", Path: abs}).String()
	}
	for _, from := range bundle.SidecarURLs(o.Feed.Sidecar, address, sum) {
		sc, err := e.sidecarAt(ctx, client, from)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, remote.ErrNotFound) {
			return sc, err
		}
	}
	return nil, nil
}

func (e *env) sidecarAt(ctx context.Context, client *remote.Client, from string) (*xvm.Sidecar, error) {
	a, err := openArchive(ctx, client, from, from, e) // where the operator says
	if err != nil {
		return nil, fmt.Errorf("sidecar %s: %w", show.Address(from), err)
	}
	defer a.close() //nolint:errcheck // only read
	body, err := a.Stream(ctx, 0, a.size)
	if err != nil {
		return nil, fmt.Errorf("sidecar %s: %w", show.Address(from), err)
	}
	defer body.Close()
	sc, err := xvm.ReadSidecar(bufio.NewReaderSize(body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("sidecar %s: %w", show.Address(from), err)
	}
	return sc, nil
}
