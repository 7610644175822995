package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog/archive"
)

// Open opens the image for reading, once its size is known. The error wraps
// archive.ErrRefused if nobody vouches for it, cache.ErrCorrupt if its content is
// known to be wrong, *[ExternalError] if it names other files,
// seekable.ErrUnsupported if it cannot be inflated here.
func (im *Image) Open(ctx context.Context) (Handle, error) {
	if why := im.undecodable.Load(); why != nil {
		return nil, *why
	}
	if _, err := im.FindSize(ctx); err != nil {
		return nil, err
	}
	file, err := im.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if err := im.admit(ctx, file); err != nil {
		return nil, errors.Join(err, im.Drop())
	}
	im.mu.Lock()
	followProfile(im, file)
	im.recorder.Load().Again()
	im.mu.Unlock()
	opened(im, file)
	return &handle{im: im, file: file}, nil
}

// admit tells whether an image that has been acquired may be read.
func (im *Image) admit(ctx context.Context, file *cache.File) error {
	if err := im.corrupt(file); err != nil {
		return err
	}
	if im.member.ListOnly != nil && im.member.ListOnly() && im.checks.mode() != blockMode && (im.base == nil || im.base.checks.mode() != blockMode) {
		return fmt.Errorf("%s: %w: the sidecar, which alone vouches for it, has no blocks of it", im.label(), archive.ErrRefused)
	}
	if im.Waits(file) {
		return nil // reading it checks the head then
	}
	return im.set.tell(im.member.Name, im.head.atOpen(ctx, file, im.Size()))
}

// handle is an open image.
type handle struct {
	im     *Image
	file   *cache.File
	closed sync.Once
}

func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.im.base != nil && h.im.checks.mode() != blockMode {
		if err := h.im.corrupt(h.file); err != nil {
			return 0, err
		}
	}
	n, err := h.im.head.read(ctx, h.file, h.im.Size(), p, off)
	return n, h.im.set.tell(h.im.member.Name, err)
}

// SeekData returns the size if no data follows, where the cache says ENXIO.
func (h *handle) SeekData(off int64) (int64, error) {
	at, err := h.file.SeekData(off)
	if errors.Is(err, syscall.ENXIO) {
		return h.im.Size(), nil
	}
	return at, err
}

func (h *handle) SeekHole(off int64) (int64, error) { return h.file.SeekHole(off) }

func (h *handle) PassthroughFile() (*os.File, bool) {
	file, ok := h.file.PassthroughFile()
	if !ok || !h.im.head.same(h.file, h.im.Size()) {
		return nil, false
	}
	return file, true
}

// Complete fetches and checks the whole image.
func (h *handle) Complete(ctx context.Context) error { return h.file.Complete(ctx) }

// Status describes the image as it is now.
func (h *handle) Status() cache.Status { return h.file.Status() }

func (h *handle) Close() (err error) {
	h.closed.Do(func() { err = h.im.Drop() })
	return err
}
