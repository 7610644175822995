package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const fuseMagic = 0x65735546

// mounted is a running `vmcastfs mount -f`.
type mounted struct {
	cmd *exec.Cmd
	dir string
	log string
	end chan error
}

// mount starts the binary and waits until the mount point answers.
func (b *bench) mount(ctx context.Context, feed, cache string, options ...string) (*mounted, error) {
	return b.mountOn(ctx, -1, feed, cache, options...)
}

// mountOn is mount on a host of the rack; -1: on this one.
func (b *bench) mountOn(ctx context.Context, host int, feed, cache string, options ...string) (*mounted, error) {
	b.mounts++
	m := &mounted{dir: filepath.Join(b.dir, "mnt", strconv.Itoa(b.mounts)), log: filepath.Join(b.dir, "mount.log"), end: make(chan error, 1)}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(m.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	options = append([]string{"cache=" + cache, "cache_free=0", "state=" + cache + "-state", "sig=ignore"}, options...)
	command := b.rack.in(host, b.binary, "mount", "-f", "-o", strings.Join(options, ","), b.site.URL()+feed, m.dir)
	m.cmd = exec.Command(command[0], command[1:]...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { m.end <- m.cmd.Wait() }()
	return m, waitMounted(ctx, m.dir, m.end, m.log)
}

// waitMounted waits until a FUSE file system is on dir.
func waitMounted(ctx context.Context, dir string, end <-chan error, log string) error {
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == fuseMagic {
			return nil
		}
		select {
		case err := <-end:
			text, _ := os.ReadFile(log)
			return fmt.Errorf("mount on %s ended: %v\n%s", dir, err, bytes.TrimSpace(text))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// image is the path of the newest release's disk.
func (m *mounted) image() string { return filepath.Join(m.dir, "latest", diskName) }

// unmountLimit is generous: a busy disk has to take what the cache wrote last.
const unmountLimit = time.Minute

// unmount ends the mount and waits for its process. One that does not end is
// made to say where it stands, and its log is kept.
func (m *mounted) unmount() error {
	err := m.cmd.Process.Signal(unix.SIGTERM)
	select {
	case werr := <-m.end:
		return errors.Join(err, werr)
	case <-time.After(unmountLimit):
	}
	_ = m.cmd.Process.Signal(unix.SIGQUIT) // Go prints all stacks and exits
	select {
	case <-m.end:
	case <-time.After(5 * time.Second):
		_ = m.cmd.Process.Kill()
	}
	_ = unix.Unmount(m.dir, unix.MNT_DETACH)
	err = fmt.Errorf("the mount on %s does not end", m.dir)
	text, rerr := os.ReadFile(m.log)
	kept, kerr := os.CreateTemp("", "vmcastfs-hang-*.log")
	if rerr != nil || kerr != nil {
		return errors.Join(err, rerr, kerr)
	}
	_, werr := kept.Write(text)
	return errors.Join(fmt.Errorf("%w; its log and stacks are in %s", err, kept.Name()), werr, kept.Close())
}

// peakMemory is the most that was resident so far, in bytes.
func (m *mounted) peakMemory() int64 { return memory(m.cmd.Process.Pid, "VmHWM:") }

// memory reads a line of /proc/PID/status.
func memory(pid int, key string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// attr is user.vmcast.NAME of a file.
func attr(path, name string) string {
	value := make([]byte, 256)
	n, err := unix.Getxattr(path, "user.vmcast."+name, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}
