package main

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vmcastfs/feed"
	"vmcastfs/feed/catalogue"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

func (im *importer) sidecar(it *catalogue.Item, sum string) string {
	return filepath.Join(filepath.Dir(im.call.out), bundle.SidecarName(it.File(), sum))
}

// indexed tells whether there is a sidecar, with a signature in it if there is to be one, and
// what boot profile it has.
func (im *importer) indexed(it *catalogue.Item, sum string) (done bool, profile []byte) {
	f, err := os.Open(im.sidecar(it, sum))
	if err != nil {
		return false, nil
	}
	defer f.Close()
	done = im.how.Sign == nil
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		switch {
		case err != nil || h.Name == xvm.BlockListName:
			return done, profile
		case h.Name == xvm.SidecarSignature:
			done = true
		case h.Name == xvm.ProfileName && h.Size <= xvm.MaxProfileSize:
			if profile, err = io.ReadAll(r); err != nil {
				return done, nil
			}
		}
	}
}

// look asks the server for what the catalogue does not say. whole: for all of the image.
func (im *importer) look(ctx context.Context, it *catalogue.Item, e *feed.Entry, whole bool, what string) error {
	a, err := openRemoteArchive(ctx, im.client, e.URL, im.call.address, im.env)
	if err != nil {
		return err
	}
	defer a.close() //nolint:errcheck // only read
	if e.Length >= 0 && a.size != e.Length {
		return fmt.Errorf("the server has %d bytes, the catalogue says %d", a.size, e.Length)
	}
	e.Length = a.size
	if e.Published.IsZero() {
		e.Published = time.Now()
		if r, ok := a.Archive.(remoteArchive); ok {
			if t, err := time.Parse(time.RFC1123, r.Identity().LastModified); err == nil {
				e.Published = t
			}
		}
	}
	if !whole {
		return nil
	}
	// The sums are compared as the bytes come, whatever else is made of them.
	s := &summedArchive{Archive: a.Archive, size: a.size, sums: map[string]hash.Hash{"sha256": sha256.New(), "sha384": sha512.New384(), "sha512": sha512.New()}}
	add, done := im.progress(what, a.size)
	defer done()
	a.Archive = s
	if !im.call.index {
		body, err := s.Stream(ctx, 0, a.size)
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := io.Copy(io.Discard, &countingReader{body, add}); err != nil {
			return err
		}
		return s.compare(it, e)
	}
	return im.makeSidecar(ctx, it, e, a, s, add)
}

func (im *importer) makeSidecar(ctx context.Context, it *catalogue.Item, e *feed.Entry, a *openedArchive, s *summedArchive, add func(int64)) error {
	enc, err := im.enclosedIn(ctx, a, e.URL)
	if err != nil {
		return err
	}
	defer enc.Close()
	how := im.how
	how.Bare, how.Progress = enc.bare, add
	if how.Time.IsZero() {
		how.Time = e.Published
	}
	temp := filepath.Join(filepath.Dir(im.call.out), bundle.SidecarName(it.File(), cmp.Or(e.SHA256, it.Sums[0].Hex)))
	out, err := newOutput(temp)
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // of what was not finished
	if e.SHA256 != "" {
		_, how.Profile = im.indexed(it, e.SHA256)
	}
	report, err := xvmpack.Index(ctx, enc, enc.size, out.File, how)
	if sumErr := s.compare(it, e); sumErr != nil && (err == nil || errors.Is(err, xvmpack.ErrFaults)) {
		err = sumErr
	}
	switch {
	case errors.Is(err, xvmpack.ErrListed): // it is a package that checks itself
		return nil
	case errors.Is(err, xvmpack.ErrFaults):
		return fmt.Errorf("%w: %s", err, show.Text(strings.Join(report.Faults, "; ")))
	case err != nil:
		return err
	}
	if done, _ := im.indexed(it, e.SHA256); done {
		return nil // the feed was lost, and with it the sum: the sidecar may have a profile
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return withCode(exitSystem, err)
	}
	path := im.sidecar(it, e.SHA256)
	if path != temp {
		if err := os.Rename(temp, path); err != nil {
			return withCode(exitSystem, err)
		}
	}
	im.done.Indexed = append(im.done.Indexed, path)
	return nil
}

// summedArchive sums what is read of an archive from its beginning to its end.
type summedArchive struct {
	xvmpack.Archive
	size int64
	sums map[string]hash.Hash
	read int64 // of the first stream of all of it
	used bool
}

func (s *summedArchive) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	body, err := s.Archive.Stream(ctx, off, n)
	if err != nil || s.used || off != 0 || n != s.size {
		return body, err
	}
	s.used = true
	var to []io.Writer
	for _, h := range s.sums {
		to = append(to, h)
	}
	counted := &countingReader{io.TeeReader(body, io.MultiWriter(to...)), func(n int64) { s.read += n }}
	return struct {
		io.Reader
		io.Closer
	}{counted, body}, nil
}

// compare says what of the sums of a catalogue an image does not have, and fills in the
// SHA-256 if the catalogue has none.
func (s *summedArchive) compare(it *catalogue.Item, e *feed.Entry) error {
	if s.read != s.size {
		return fmt.Errorf("only %d of its %d bytes were read", s.read, s.size)
	}
	for _, sum := range it.Sums {
		if got := hex.EncodeToString(s.sums[sum.Algo].Sum(nil)); got != sum.Hex {
			return fmt.Errorf("its %s is %s, the catalogue says %s", sum.Algo, got, sum.Hex)
		}
	}
	e.SHA256 = hex.EncodeToString(s.sums["sha256"].Sum(nil))
	return nil
}
