package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
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

// examined are the first bytes of an open image: those that made out that it
// names no other file.
type examined struct{ head []byte }

// examine looks at the first bytes of the image, which must be open, and refuses
// one that names other files (*[ExternalError]). It does so once for as long as
// the image stays open, and keeps what it saw, for steady. Most images are raw,
// which their first 4 KiB tell; of others it reads all that may hold names.
func (im *image) examine(ctx context.Context, file *cache.File) error {
	if im.f.pkg.cat.cfg.AllowExternal || im.exam.Load() != nil {
		return nil
	}
	size := im.f.Size()
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
		im.mu.Lock()
		im.disk = &disk
		im.mu.Unlock()
		err := &ExternalError{im.f.pkg.release.Name() + "/" + im.f.name, disk.Format, disk.External}
		im.f.pkg.cat.cfg.Logger.Warn("an image is refused", "err", err)
		return err
	}
	im.exam.Store(&examined{head})
	return nil
}

// examineAtOpen refuses at once what can be refused. An image whose first bytes
// cannot be had now, or only after all of it as under Strict, opens; reading
// them examines them then.
func (im *image) examineAtOpen(ctx context.Context, file *cache.File) error {
	if im.strict() && file.State() != store.Verified {
		return nil
	}
	err := im.examine(ctx, file)
	if err == nil {
		im.readFooter(ctx, file)
	}
	if external := (*ExternalError)(nil); err == nil || errors.As(err, &external) {
		return err
	}
	return ctx.Err()
}

// readFooter has the cache fetch the end of what may be a fixed VHD, which
// nothing else distinguishes from a raw image: its 512 bytes come behind a
// disk of whole KiB. Where it cannot be had the image passes for raw until then.
func (im *image) readFooter(ctx context.Context, file *cache.File) {
	if size := im.f.Size(); size%1024 == xvm.SniffTail && im.source != nil {
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

// guarded reads p at off. Nothing of the first bytes, without which nobody can
// tell what an image names, is given out before they have been examined, nor
// anything else than what was: blocks that were evicted and fetched again, from
// a server that says something else by then, must not bring in by the back door
// what was refused at the front.
func (im *image) guarded(ctx context.Context, file *cache.File, p []byte, off int64) (int, error) {
	if off < probeSize {
		if err := im.examine(ctx, file); err != nil {
			return 0, err
		}
	}
	n, err := file.ReadAt(ctx, p, off)
	x := im.exam.Load()
	if x == nil || off >= int64(len(x.head)) {
		return n, err
	}
	want := x.head[off:]
	if k := min(n, len(want)); !bytes.Equal(p[:k], want[:k]) {
		return 0, fmt.Errorf("%s/%s: %w", im.f.pkg.release.Name(), im.f.name, errUnsteady)
	}
	return n, err
}

// steady tells whether a complete file begins with what was examined, so that it
// may be read without us.
func (im *image) steady(file *cache.File) bool {
	if im.f.pkg.cat.cfg.AllowExternal {
		return true
	}
	ctx := context.Background() // the file is complete: nothing is waited for
	if err := im.examine(ctx, file); err != nil {
		return false
	}
	_, err := im.guarded(ctx, file, make([]byte, len(im.exam.Load().head)), 0)
	return err == nil || errors.Is(err, io.EOF)
}
