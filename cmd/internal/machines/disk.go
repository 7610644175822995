package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Overlay makes a qcow2 on a base, whose format is said.
func Overlay(base, format string) func(context.Context, string) error {
	return func(ctx context.Context, path string) error {
		_, err := Run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", base, path)
		return err
	}
}

// ErrNoReflink is wrapped where a file system cannot share blocks.
var ErrNoReflink = errors.New("the file system of the cache and that of the machine must be one, and able to share blocks (XFS with reflink, btrfs)")

// Reflink makes a file that shares all blocks of another.
func Reflink(source *os.File, size int64) func(context.Context, string) error {
	return func(_ context.Context, path string) error {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		err = unix.IoctlFileClone(int(f.Fd()), int(source.Fd()))
		for _, cannot := range []error{unix.EXDEV, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY} {
			if errors.Is(err, cannot) {
				return fmt.Errorf("%w: %w", ErrNoReflink, err)
			}
		}
		if err != nil {
			return fmt.Errorf("clone into %s: %w", path, err)
		}
		return f.Truncate(size)
	}
}

// QEMU locks bytes of an image that it has open: these of an image that it writes to,
// and those of one that nobody else may write to.
const (
	lockWriting   = 101 // and the two behind it: write, write unchanged, resize
	lockUnwritten = 201 // likewise
	lockBytes     = 3
)

// Quiet makes sure that no hypervisor writes to the disks, as QEMU's locks tell, and
// keeps QEMU from opening them to write until release.
func Quiet(paths []string) (release func(), err error) {
	var files []*os.File
	release = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, path := range paths {
		f, err := openDisk(path)
		if err == nil {
			files = append(files, f)
			lock := unix.Flock_t{Type: unix.F_RDLCK, Start: lockUnwritten, Len: lockBytes}
			err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		}
		if err == nil && writing(f) {
			err = errors.New("it runs: stop it first")
		}
		if err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

func openDisk(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

func writing(f *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: lockWriting, Len: lockBytes}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

// Running tells whether a hypervisor writes to one of the disks, as QEMU's locks tell.
func Running(paths []string) bool {
	for _, path := range paths {
		f, err := openDisk(path)
		if err != nil {
			continue
		}
		runs := writing(f)
		f.Close()
		if runs {
			return true
		}
	}
	return false
}

// Run runs a program and returns what it wrote. It does not wait for one that a
// kill does not end, as one that waits for a mount may be.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, time.Second
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return "", &MissingError{name}
		}
		return "", err
	}
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", name, context.Cause(ctx))
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimPrefix(strings.TrimSpace(said.String()), name+": "))
		}
		return out.String(), nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
	}
	return "", fmt.Errorf("%s: %w", name, context.Cause(ctx))
}

// MissingError tells of a program that is not installed.
type MissingError struct{ Program string }

func (e *MissingError) Error() string {
	packages := map[string]string{
		"qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86", "virsh": "libvirt-clients", "xl": "xen-utils-common",
		"dmsetup": "dmsetup",
	}
	return fmt.Sprintf("%s is not installed: on Debian it is in the package %s", e.Program, packages[e.Program])
}
