package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"vmcastfs/cache"
	"vmcastfs/xvm"
)

// ExternalError says that an image names other files, and is not opened for
// that. It is fs.ErrPermission.
type ExternalError struct {
	Image  string // "debian-12.5/root.img"
	Format string
	Names  []string // fit for a terminal
}

func (e *ExternalError) Error() string {
	return fmt.Sprintf("%s is a %s that names another file, %q, which a hypervisor would open on this host; mount with allow_external to use it all the same",
		e.Image, e.Format, e.Names[0])
}

func (e *ExternalError) Unwrap() error { return fs.ErrPermission }

// errUnsteady ends reading an image whose first bytes are not those that were
// examined.
var errUnsteady = errors.New("the first bytes of the image are not what they were when it was opened")

// probeSize is how much of an image tells whether it has a format that can name
// other files at all.
const probeSize = 4 << 10

// headCheck refuses an image that names other files, by its first bytes.
type headCheck struct {
	label  string // of the image
	log    *slog.Logger
	allow  bool // names are all right
	footer bool // the image may be one that only its end tells

	seen atomic.Pointer[headSums] // of the first bytes, once they have been examined; nil when the image is not open
	disk atomic.Pointer[xvm.Disk] // what its ends show; nil: not all has been seen yet
}

// check looks at the first bytes of a file of the cache, and refuses one that names
// other files (*[ExternalError]). It does so once for as long as the image stays
// open, and keeps what it saw, for same. Most images are raw, which their first
// 4 KiB tell; of others it reads all that may hold names.
func (h *headCheck) check(ctx context.Context, file *cache.File, size int64) error {
	if h.allow || h.seen.Load() != nil {
		return nil
	}
	head, err := readEnd(ctx, file, min(size, probeSize), 0)
	if err != nil {
		return err
	}
	if disk := xvm.Sniff(head, nil); disk.Format != "raw" || isRemark(head) {
		if head, err = readEnd(ctx, file, min(size, xvm.SniffHead), 0); err != nil {
			return err
		}
	}
	disk := xvm.Sniff(head, nil)
	if len(disk.External) > 0 {
		h.disk.Store(&disk)
		err := &ExternalError{h.label, disk.Format, disk.External}
		h.log.Warn("an image is refused", "err", err)
		return err
	}
	h.seen.Store(sumHead(head))
	return nil
}

// atOpen refuses at once what can be refused. An image whose first bytes cannot be
// had now opens; reading it checks them then.
func (h *headCheck) atOpen(ctx context.Context, file *cache.File, size int64) error {
	err := h.check(ctx, file, size)
	if err == nil {
		h.readFooter(ctx, file, size)
	}
	if external := (*ExternalError)(nil); err == nil || errors.As(err, &external) {
		return err
	}
	return ctx.Err()
}

// readFooter has the cache fetch the end of what may be a fixed VHD or a DMG, which
// nothing else tells: a VHD's 512 bytes come behind a disk of whole KiB. Where the
// end cannot be had the image passes for raw until then.
func (h *headCheck) readFooter(ctx context.Context, file *cache.File, size int64) {
	dmg := strings.EqualFold(path.Ext(h.label), ".dmg")
	if h.footer && (size%1024 == xvm.SniffTail || dmg && size >= xvm.SniffTail) {
		_, _ = readEnd(cache.Narrowly(ctx), file, xvm.SniffTail, size-xvm.SniffTail)
	}
}

// isRemark tells a text of which only remarks and blank lines have been seen,
// which may yet become a VMDK descriptor.
func isRemark(head []byte) bool {
	for line := range bytes.Lines(head) {
		if line = bytes.Trim(line, " \r\n"); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return len(head) > 0
}

func readEnd(ctx context.Context, file *cache.File, n, off int64) ([]byte, error) {
	p := make([]byte, n)
	got, err := file.ReadAt(ctx, p, off)
	if int64(got) == n || errors.Is(err, io.EOF) {
		err = nil
	}
	return p[:got], err
}

// read reads p at off. The first bytes tell what an image names. None of them is
// given out before they have been examined, nor anything else than what was. A
// block may be evicted and fetched again from a server that says something else
// by then.
func (h *headCheck) read(ctx context.Context, file *cache.File, size int64, p []byte, off int64) (int, error) {
	if off < probeSize {
		if err := h.check(ctx, file, size); err != nil {
			return 0, err
		}
	}
	n, err := file.ReadAt(ctx, p, off)
	if head := h.seen.Load(); head != nil && off < head.size {
		if err := head.settle(ctx, file, p[:n], off); err != nil {
			return 0, fmt.Errorf("%s: %w", h.label, err)
		}
	}
	return n, err
}

// same tells whether a complete file begins with what was examined, so that it
// may be read without us.
func (h *headCheck) same(file *cache.File, size int64) bool {
	if h.allow {
		return true
	}
	ctx := context.Background() // the file is complete: nothing is waited for
	if err := h.check(ctx, file, size); err != nil {
		return false
	}
	_, err := h.read(ctx, file, size, make([]byte, h.seen.Load().size), 0)
	return err == nil || errors.Is(err, io.EOF)
}

// headSums are sums of the first bytes of an image, which are not kept themselves:
// thousands of images may be open.
type headSums struct {
	size int64
	sums [][sha256.Size]byte // of each probeSize bytes
}

func sumHead(head []byte) *headSums {
	h := &headSums{size: int64(len(head))}
	for piece := range slices.Chunk(head, probeSize) {
		h.sums = append(h.sums, sha256.Sum256(piece))
	}
	return h
}

// settle makes sure that p, which was read at off, has the first bytes that were
// examined, or fails with errUnsteady. Of a piece that p has only in part the whole is
// read again, and p gets its part of that.
func (h *headSums) settle(ctx context.Context, file *cache.File, p []byte, off int64) error {
	for at, end := off/probeSize*probeSize, min(off+int64(len(p)), h.size); at < end; at += probeSize {
		length := min(probeSize, h.size-at)
		var piece []byte
		if at >= off && at+length <= off+int64(len(p)) {
			piece = p[at-off:][:length]
		} else {
			var err error
			if piece, err = readEnd(ctx, file, length, at); err != nil {
				return err
			}
		}
		if sha256.Sum256(piece) != h.sums[at/probeSize] {
			return errUnsteady
		}
		if at < off {
			copy(p, piece[off-at:])
		} else {
			copy(p[at-off:], piece)
		}
	}
	return nil
}
