package fs

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
)

// Options say where and how to mount. Dir and Source are required.
type Options struct {
	// Dir is the mount point, an existing directory.
	Dir string
	// Source is shown as the mounted device, byte for byte; mount -a compares it
	// with fstab. It must hold no credentials.
	Source string

	// AllowOther lets other users in, as the modes permit. It is always so for
	// mounts by root, since hypervisors seldom run as root; an ordinary user
	// needs user_allow_other in /etc/fuse.conf.
	AllowOther bool
	// UID and GID own everything; 0 is the mounting user.
	UID, GID uint32
	// Umask is taken away from 0444 (files) and 0555 (directories).
	Umask uint32
	// Extra are further mount options handed to the kernel, such as
	// "context=...".
	Extra []string

	// MaxRead is the largest single read request in bytes, 128 KiB to 1 MiB.
	// 0 is 512 KiB. Each request being served holds a buffer of its size.
	MaxRead int
	// NoPassthrough keeps the kernel from reading complete files by itself.
	NoPassthrough bool
	// InterruptGrace is how long a wait goes on after a signal that does not
	// kill the caller. 0 is one second; negative is none.
	InterruptGrace time.Duration

	// Errors translates the tree's errors, first match wins; see errno.go for
	// those known anyway.
	Errors []ErrorRule

	Logger *slog.Logger // nil: silent
	// Debug logs every FUSE message at debug level.
	Debug bool

	reach reach
	// shortly is how long the kernel believes what may change; 0: shortly. A test that must
	// see the notifier at work makes it long.
	shortly time.Duration
}

// reach is how files of the catalog are reached. Tests put others in its place.
type reach struct {
	open  func(context.Context, *bundle.File) (image.Handle, error)
	inode func(*bundle.File) uint64
	all   func(*catalog.Snapshot) []*catalog.Release
}

// An ErrorRule says what errors.Is(err, Err) means to a caller.
type ErrorRule struct {
	Err   error
	Errno syscall.Errno
	// AtOpen is the errno of open(2), if that is another one; 0: Errno. After ESTALE
	// the kernel looks the path up anew and tries once more.
	AtOpen syscall.Errno
	// Corrupt makes the kernel drop the pages it has of the file, so that
	// readers of pages served earlier see the error too.
	Corrupt bool
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	root := os.Geteuid() == 0
	o.AllowOther = o.AllowOther || root
	if o.UID == 0 {
		o.UID = uint32(os.Geteuid())
	}
	if o.GID == 0 {
		o.GID = uint32(os.Getegid())
	}
	o.Umask &= 0o777
	o.shortly = cmp.Or(o.shortly, shortly)
	if o.MaxRead == 0 {
		o.MaxRead = 512 << 10
	}
	o.MaxRead = min(max(o.MaxRead, 128<<10), 1<<20)
	switch {
	case o.InterruptGrace == 0:
		o.InterruptGrace = time.Second
	case o.InterruptGrace < 0:
		o.InterruptGrace = 0
	}
	if o.reach.open == nil {
		o.reach.open = func(ctx context.Context, f *bundle.File) (image.Handle, error) { return f.Open(ctx) }
	}
	if o.reach.inode == nil {
		o.reach.inode = (*bundle.File).Inode
	}
	if o.reach.all == nil {
		o.reach.all = (*catalog.Snapshot).All
	}
	return o
}
