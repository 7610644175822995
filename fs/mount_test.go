package fs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/internal/fusetest"
)

var (
	errCorrupt = errors.New("image is corrupt")
	errRefused = errors.New("not signed")
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return &st
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTree(t *testing.T) {
	disk := newFile("disk.img", 300_001)
	disk.hole(1<<16, 1<<17)
	two := newRelease("two", newFile("a", 1), newFile("empty", 0))
	two.published = time.Time{}
	tree := newTree(t, newRelease("one", disk, newFile("disks/a", 7), newFile("disks/more/b", 8), newFile("xvm.xml", 10)), two)
	m := mountTree(t, tree)

	if got := names(t, m.dir); !slices.Equal(got, []string{"feed.xml", "latest", "one", "two"}) {
		t.Errorf("root holds %q", got)
	}
	if got := names(t, m.path("one")); !slices.Equal(got, []string{"disk.img", "disks", "xvm.xml"}) {
		t.Errorf("release holds %q", got)
	}
	if got := names(t, m.path("one/disks")); !slices.Equal(got, []string{"a", "more"}) {
		t.Errorf("its directory holds %q", got)
	}
	if got := readFile(t, m.path("one/disks/more/b")); len(got) != 8 {
		t.Errorf("a file in a directory in a directory has %d bytes", len(got))
	}
	if got := names(t, m.path(".vmcastfs")); !slices.Equal(got, []string{"status.json"}) {
		t.Errorf(".vmcastfs holds %q", got)
	}
	if got := readFile(t, m.path("feed.xml")); !bytes.Equal(got, tree.Snapshot().FeedXML()) || len(got) == 0 {
		t.Errorf("feed.xml is %q", got)
	}
	if got, err := os.Readlink(m.path("latest")); got != "one" {
		t.Errorf("latest -> %q, %v", got, err)
	}
	if got := readFile(t, m.path("latest", "disk.img")); !bytes.Equal(got, disk.data) {
		t.Error("disk.img has wrong bytes")
	}
	for i := 1; i <= 2; i++ {
		var st catalog.Status
		if got := readFile(t, m.path(".vmcastfs/status.json")); json.Unmarshal(got, &st) != nil || len(st.Releases) != 2 {
			t.Errorf("read %d of status.json: %q", i, got)
		}
	}
	for _, name := range []string{"three", "one/nothing", ".vmcastfs/nothing", "one/disk", "one/disks/b", "one/disks/more/a", strings.Repeat("x", 256)} {
		if _, err := os.Lstat(m.path(name)); err == nil {
			t.Errorf("%s exists", name)
		}
	}

	t.Run("attributes", func(t *testing.T) {
		root, rel, file := stat(t, m.dir), stat(t, m.path("one")), stat(t, m.path("one/disk.img"))
		if root.Ino != 1 || root.Nlink != 5 || root.Mode != syscall.S_IFDIR|0o555 {
			t.Errorf("root: ino %d, nlink %d, mode %o", root.Ino, root.Nlink, root.Mode)
		}
		if rel.Mtim.Sec != 1650000000 || rel.Nlink != 2 || rel.Mode != syscall.S_IFDIR|0o555 {
			t.Errorf("release: %+v", rel)
		}
		if file.Size != 300_001 || file.Blocks != (300_001-1<<17+511)/512 || file.Blksize != 64<<10 || file.Nlink != 1 ||
			file.Mode != syscall.S_IFREG|0o444 || file.Mtim.Sec != 1600000000 || file.Mtim.Nsec != 0 {
			t.Errorf("file: %+v", file)
		}
		if got := stat(t, m.path("two")).Mtim.Sec; got != tree.Snapshot().FeedTime().Unix() {
			t.Errorf("release without a date is from %d, not from the feed's", got)
		}
		seen := map[uint64]string{}
		filepath.WalkDir(m.dir, func(path string, d iofs.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return nil
			}
			ino := stat(t, path).Ino
			if other, dup := seen[ino]; dup || ino == 0 || ino == ^uint64(0) {
				t.Errorf("%s and %q have inode %d", path, other, ino)
			}
			seen[ino] = path
			return nil
		})
	})

	t.Run("xattr", func(t *testing.T) {
		path, buf := m.path("one/disk.img"), make([]byte, 64)
		if n, err := unix.Getxattr(path, "user.vmcast.format", buf); err != nil || string(buf[:n]) != "raw" {
			t.Errorf("format is %q, %v", buf[:max(n, 0)], err)
		}
		if n, err := unix.Getxattr(path, "user.vmcast.format", nil); err != nil || n != 3 {
			t.Errorf("size probe: %d, %v", n, err)
		}
		if _, err := unix.Getxattr(path, "user.vmcast.format", buf[:2]); err != unix.ERANGE {
			t.Errorf("small buffer: %v", err)
		}
		for _, name := range []string{"user.vmcast.other", "user.other", "security.selinux", "security.capability", "trusted.libvirt.security.dac"} {
			if _, err := unix.Getxattr(path, name, buf); err != unix.ENODATA {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := unix.Getxattr(m.path("one"), "user.vmcast.state", buf); err != unix.ENODATA {
			t.Errorf("on a directory: %v", err)
		}
		if n, err := unix.Listxattr(path, buf); err != nil || n != 0 {
			t.Errorf("list: %d, %v", n, err)
		}
	})

	t.Run("holes", func(t *testing.T) {
		f, err := os.Open(m.path("one/disk.img"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const size, hole, end = 300_001, 1 << 16, 1<<16 + 1<<17
		for _, c := range []struct {
			off    int64
			whence int
			want   int64 // -1: ENXIO
		}{
			{0, unix.SEEK_DATA, 0}, {0, unix.SEEK_HOLE, hole}, {hole - 1, unix.SEEK_DATA, hole - 1},
			{hole, unix.SEEK_DATA, end}, {hole, unix.SEEK_HOLE, hole}, {end, unix.SEEK_HOLE, size},
			{size - 1, unix.SEEK_DATA, size - 1}, {size - 1, unix.SEEK_HOLE, size},
			{size, unix.SEEK_DATA, -1}, {size, unix.SEEK_HOLE, -1}, {size + 1, unix.SEEK_DATA, -1},
		} {
			got, err := f.Seek(c.off, c.whence)
			if c.want < 0 && !errors.Is(err, unix.ENXIO) || c.want >= 0 && (got != c.want || err != nil) {
				t.Errorf("seek %d whence %d: %d, %v; want %d", c.off, c.whence, got, err, c.want)
			}
		}
	})

	t.Run("statfs", func(t *testing.T) {
		var st unix.Statfs_t
		if err := unix.Statfs(m.dir, &st); err != nil {
			t.Fatal(err)
		}
		if want := uint64(300_001+1+10+1+4095) / 4096; st.Blocks != want || st.Bfree != 0 || st.Bavail != 0 ||
			st.Bsize != 4096 || st.Frsize != 4096 || st.Namelen != 255 {
			t.Errorf("%+v, want %d blocks", st, want)
		}
		if os.Geteuid() == 0 && st.Flags&unix.ST_RDONLY == 0 {
			t.Error("not shown as read-only")
		}
	})

	t.Run("fsync", func(t *testing.T) {
		for _, name := range []string{"one", "one/disk.img"} {
			f, err := os.Open(m.path(name))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
			f.Close()
		}
	})

	if s := m.log.String(); strings.Contains(s, "level=ERROR") || strings.Contains(s, "level=WARN") {
		t.Errorf("unexpected log:\n%s", s)
	}
}

func TestListingNeverIndexes(t *testing.T) {
	slow := newRelease("slow", newFile("disk.img", 100))
	slow.block = make(chan struct{})
	m := mountTree(t, newTree(t, newRelease("fast"), slow), func(o *Options) { o.InterruptGrace = -1 })

	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := e.Info(); err != nil {
			t.Error(err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.dir, &st); err != nil {
		t.Error(err)
	}
	if n := slow.asked(); n != 0 {
		t.Errorf("listing the root asked for the index %d times", n)
	}

	// Looking into it waits, and can be killed.
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "ls", m.path("slow"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for slow.asked() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("ls of a release that cannot be indexed succeeded")
	}
	close(slow.block)
	if got := names(t, m.path("slow")); !slices.Equal(got, []string{"disk.img"}) {
		t.Errorf("holds %q", got)
	}
	calls := slow.asked()
	for range 3 {
		names(t, m.path("slow"))
		stat(t, m.path("slow/disk.img"))
	}
	if n := slow.asked(); n != calls {
		t.Error("indexed again")
	}
}

func TestErrors(t *testing.T) {
	refused, plain := newFile("refused", 10), newFile("plain", 3*4096)
	refused.openErr = fmt.Errorf("open: %w", errRefused)
	broken := newRelease("broken")
	broken.raw = []byte("this is no archive")
	rel := newRelease("one", refused, plain)
	m := mountTree(t, newTree(t, rel, broken))

	for _, c := range []struct {
		name string
		do   func() error
		want syscall.Errno
	}{
		{"refused", func() error { _, err := os.Open(m.path("one/refused")); return err }, syscall.EACCES},
		{"broken release", func() error { _, err := os.ReadDir(m.path("broken")); return err }, syscall.EIO},
		{"file of a broken release", func() error { _, err := os.Stat(m.path("broken/x")); return err }, syscall.EIO},
		{"write", func() error { return os.WriteFile(m.path("one/plain"), nil, 0) }, syscall.EROFS},
		{"create", func() error { return os.WriteFile(m.path("one/new"), nil, 0o600) }, syscall.EROFS},
		{"mkdir", func() error { return os.Mkdir(m.path("new"), 0o700) }, syscall.EROFS},
		{"remove", func() error { return os.Remove(m.path("one/plain")) }, syscall.EROFS},
		{"rename", func() error { return os.Rename(m.path("one"), m.path("two")) }, syscall.EROFS},
		{"chmod", func() error { return os.Chmod(m.path("one/plain"), 0) }, syscall.EROFS},
		{"setxattr", func() error { return unix.Setxattr(m.path("one/plain"), "user.x", nil, 0) }, syscall.EROFS},
		{"truncate", func() error { return os.Truncate(m.path("one/plain"), 0) }, syscall.EROFS},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := os.Stat(m.path("one/plain")); err != nil {
		t.Errorf("one bad file took another down: %v", err)
	}
	if s := m.log.String(); !strings.Contains(s, "release broken") || !strings.Contains(s, "not signed") {
		t.Errorf("reasons not logged:\n%s", s)
	}

	plain.fail(errors.New("network down"))
	f, err := os.Open(m.path("one/plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 100)
	for range 50 {
		if _, err := f.ReadAt(buf, 0); !errors.Is(err, syscall.EIO) {
			t.Fatalf("read: %v", err)
		}
	}
	if n := strings.Count(m.log.String(), "network down"); n != 1 {
		t.Errorf("one failure, repeated, makes %d lines", n)
	}
	plain.readErr.Store(nil)
	if n, err := f.ReadAt(buf, 0); n != 100 || err != nil {
		t.Errorf("a failed read sticks: %v", err)
	}
}

func TestOwnerAndModes(t *testing.T) {
	fusetest.Root(t)
	m := mountTree(t, newTree(t, newRelease("one", newFile("a", 10))), func(o *Options) {
		o.UID, o.GID, o.Umask = 1234, 4321, 0o227
	})
	st, dir := stat(t, m.path("one/a")), stat(t, m.path("one"))
	if st.Uid != 1234 || st.Gid != 4321 || st.Mode&0o777 != 0o440 || dir.Mode&0o777 != 0o550 {
		t.Errorf("%d:%d %o %o", st.Uid, st.Gid, st.Mode, dir.Mode)
	}
	cat := func(uid, gid uint32) error {
		cmd := exec.Command("cat", m.path("one/a"))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		return cmd.Run()
	}
	for p := m.dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) { // the way to the mount point
		if st := stat(t, p); st.Uid == 0 && p != m.dir {
			os.Chmod(p, 0o755)
		}
	}
	if err := cat(1234, 1); err != nil {
		t.Errorf("owner cannot read: %v", err)
	}
	if err := cat(1, 4321); err != nil {
		t.Errorf("group cannot read: %v", err)
	}
	if err := cat(1, 1); err == nil {
		t.Error("others can read")
	}
}

func TestPanic(t *testing.T) {
	f := newFile("a", 3*4096)
	f.readHook = func(int64) { panic("boom") }
	m := mountTree(t, newTree(t, newRelease("one", f, newFile("b", 10))))
	for range 3 {
		if _, err := os.ReadFile(m.path("one/a")); !errors.Is(err, syscall.EIO) {
			t.Errorf("read: %v", err)
		}
	}
	if len(readFile(t, m.path("one/b"))) != 10 {
		t.Error("the mount did not survive")
	}
	if s := m.log.String(); strings.Count(s, "fs.(*handle).Read") != 1 || !strings.Contains(s, "boom") {
		t.Errorf("want one stack in the log:\n%s", s)
	}
	if m.Stats().Panics < 3 {
		t.Errorf("counted %d panics", m.Stats().Panics)
	}
}

func TestShortRead(t *testing.T) {
	f := newFile("a", 3*4096)
	tree := newTree(t, newRelease("one", f))
	m := mountTree(t, tree)
	if st := stat(t, m.path("one/a")); st.Size != 3*4096 {
		t.Fatal(st.Size)
	}
	f.cut.Store(true)
	h, err := os.Open(m.path("one/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := io.ReadAll(h); !errors.Is(err, syscall.EIO) {
		t.Errorf("a file cut short reads as zeros or its end: %v", err)
	}
}
