package catalog

import (
	"context"
	"errors"
	"io"
	"sync"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// wholeArchive is an archive on a server without ranges, or the plain content of
// one that was compressed as a whole. It is taken once, as one stream, into a
// file of the cache; the members are cut from that file, and a read of one waits
// until the stream has reached it. It is open while one of its members is.
//
// mu guards opens and file.
type wholeArchive struct {
	cat        *Catalog
	archive    *archive
	key        store.Key
	label      string
	*inflation // nil: the archive is not compressed

	mu    sync.Mutex
	opens int
	file  *cache.File
}

// acquire opens the file. On a nil wholeArchive, as of every archive with
// ranges, it does nothing.
func (w *wholeArchive) acquire() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opens == 0 {
		spec, err := w.setUp()
		if err != nil {
			return err
		}
		file, err := w.cat.cfg.Cache.Open(spec)
		if err != nil {
			w.tearDown()
			return err
		}
		w.file = file
	}
	w.opens++
	return nil
}

func (w *wholeArchive) release() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens--
	if w.opens == 0 {
		w.file.Close()
		w.file = nil
		w.tearDown()
	}
}

var errNotOpen = errors.New("the archive is not open")

func (w *wholeArchive) current() (*cache.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil, errNotOpen
	}
	return w.file, nil
}

// Fetch is the members' source.
func (w *wholeArchive) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	file, err := w.current()
	if err != nil {
		return nil, err
	}
	ctx = cache.WithUrgency(ctx, u)
	return io.NopCloser(io.NewSectionReader(readerAt{ctx, file}, off, n)), nil
}

// ReadAt is for the tar walk.
func (w *wholeArchive) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	file, err := w.current()
	if err != nil {
		return 0, err
	}
	return file.ReadAt(ctx, p, off)
}

// size waits for the length if the server did not tell it.
func (w *wholeArchive) size(ctx context.Context) (int64, error) {
	file, err := w.current()
	if err != nil {
		return 0, err
	}
	return file.WaitSize(ctx)
}

// readerAt gives a file of the cache the signature of io.ReaderAt.
type readerAt struct {
	ctx  context.Context
	file *cache.File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.file.ReadAt(r.ctx, p, off) }
