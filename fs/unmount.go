package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// maxStale bounds the dead mounts CleanStale removes from one directory.
const maxStale = 64

// IsStale tells whether the filesystem on dir is a FUSE mount whose process is
// gone: "transport endpoint is not connected". One that hangs is not.
func IsStale(dir string) bool {
	answer := make(chan bool, 1)
	go func() { answer <- isStale(dir) }()
	select {
	case stale := <-answer:
		return stale
	case <-time.After(staleLimit):
		return false
	}
}

// staleLimit is how long it may take to tell that a process is gone: the kernel
// does so at once.
const staleLimit = time.Second

func isStale(dir string) bool {
	// Unlike stat, statfs is never answered from the kernel's caches; and O_PATH does
	// not have an autofs mount what we are about to.
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, syscall.ENOTCONN)
	}
	defer unix.Close(fd)
	return errors.Is(unix.Fstatfs(fd, new(unix.Statfs_t)), syscall.ENOTCONN)
}

// CleanStale detaches stale mounts of vmcastfs from dir. It leaves alone what
// works, and refuses to touch other filesystems.
func CleanStale(dir string) error {
	for range maxStale {
		if !IsStale(dir) {
			return nil
		}
		path, err := resolve(dir)
		if err != nil {
			return err
		}
		m, err := mountAt(path)
		if err != nil {
			return err
		}
		if m == nil || m.FSType != FSType {
			return fmt.Errorf("%q: %w, and it is no mount of vmcastfs: unmount it first", dir, syscall.ENOTCONN)
		}
		if err := detach(path); err != nil {
			return err
		}
	}
	return fmt.Errorf("%q: too many stale mounts", dir)
}

// resolve makes dir absolute and free of symlinks, even if it is the mount point
// of something that is dead or hangs, which cannot be looked at.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, filepath.Base(abs))
	if m, err := mountAt(path); err != nil || m != nil {
		return path, err
	}
	return filepath.EvalSymlinks(path)
}

// mountAt returns the topmost mount on dir, the one that has no other upon it; nil
// if there is none.
func mountAt(dir string) (*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, end bool) { return m.Mountpoint != dir, false })
	covered := make(map[int]bool)
	for _, m := range mounts {
		covered[m.Parent] = true
	}
	for _, m := range mounts {
		if !covered[m.ID] {
			return m, err
		}
	}
	return nil, err
}

// MountedOn tells whether the topmost mount on dir is one of vmcastfs, and what
// its source is. It asks the kernel's table only, so it also works on a stale
// mount and never waits for a daemon.
func MountedOn(dir string) (source string, mounted bool, err error) {
	path, err := resolve(dir)
	if err != nil {
		return "", false, err
	}
	m, err := mountAt(path)
	if err != nil || m == nil || m.FSType != FSType {
		return "", false, err
	}
	return m.Source, true, nil
}

func detach(dir string) error {
	if err := unmountDir(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach %q: %w", dir, err)
	}
	return nil
}

// unmountDir unmounts dir, by fusermount3 if we may not do so ourselves.
func unmountDir(dir string, flags int) error {
	err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	if err == nil || !errors.Is(err, syscall.EPERM) {
		return err
	}
	bin, lookErr := exec.LookPath("fusermount3")
	if lookErr != nil {
		bin = "/usr/bin/fusermount3" // PATH may be empty
	}
	args := []string{"-u"}
	if flags&unix.MNT_DETACH != 0 {
		args = append(args, "-z")
	}
	out, err := exec.Command(bin, append(args, "--", dir)...).CombinedOutput()
	if err == nil {
		return nil
	}
	if bytes.Contains(out, []byte(syscall.EBUSY.Error())) || bytes.Contains(out, []byte("busy")) {
		return syscall.EBUSY
	}
	return fmt.Errorf("fusermount3: %w: %s", err, bytes.TrimSpace(out))
}

// device is the number of a mount's file system as the table of mounts has it.
func device(m *mountinfo.Info) string { return fmt.Sprintf("%d:%d", m.Major, m.Minor) }

// UnmountDir unmounts what vmcastfs has on dir, from any process. While files are open it
// fails with EBUSY, and with EINVAL if nothing is mounted there; lazy detaches at once.
func UnmountDir(dir string, lazy bool) error {
	path, err := resolve(dir)
	if err != nil {
		return err
	}
	switch m, err := mountAt(path); {
	case err != nil:
	case m == nil:
		return syscall.EINVAL // as the kernel says it; fusermount3 has other words
	case m.FSType != FSType:
		return fmt.Errorf("%q is no mount of vmcastfs, but of type %s", path, m.FSType)
	}
	flags := 0
	if lazy {
		flags = unix.MNT_DETACH
	}
	return unmountDir(path, flags)
}
