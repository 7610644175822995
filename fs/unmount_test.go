package fs

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/internal/fusetest"
)

// A child process that inherits the connection would keep it alive after us.
func TestConnectionIsNotInherited(t *testing.T) {
	mountTree(t, newTree(t))
	out := fusetest.Run(t, exec.Command("ls", "-l", "/proc/self/fd"))
	if strings.Contains(out, "/dev/fuse") {
		t.Errorf("a child has\n%s", out)
	}
}

func TestUnmount(t *testing.T) {
	disk := newFile("disk.img", 1<<20)
	mount := func(t *testing.T) (*mounted, *os.File) {
		m := mountTree(t, newTree(t, newRelease("one", disk)))
		f, err := os.Open(m.path("one/disk.img"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return m, f
	}
	soon := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("busy", func(t *testing.T) {
		m, f := mount(t)
		if err := m.Unmount(soon(t), false); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("busy: %v", err)
		}
		f.Close()
		for range 2 {
			if err := m.Unmount(t.Context(), false); err != nil {
				t.Errorf("idle: %v", err)
			}
		}
		<-m.Done()
	})
	t.Run("lazy", func(t *testing.T) {
		m, f := mount(t)
		if err := m.Unmount(soon(t), true); err != nil {
			t.Fatal(err)
		}
		if len(names(t, m.dir)) != 0 {
			t.Error("still visible")
		}
		buf := make([]byte, 4096)
		if _, err := f.ReadAt(buf, 512<<10); err != nil {
			t.Errorf("open file dies at lazy unmount: %v", err)
		}
		f.Close()
		<-m.Done()
	})
	t.Run("by others", func(t *testing.T) {
		m, f := mount(t)
		f.Close()
		if err := unmountDir(m.dir, 0); err != nil {
			t.Fatal(err)
		}
		<-m.Done()
	})
	t.Run("aborted", func(t *testing.T) {
		fusetest.Root(t)
		m, f := mount(t)
		conn := strings.Split(mountLine(t, m.dir)[2], ":")[1]
		ctl := t.TempDir()
		if err := unix.Mount("none", ctl, "fusectl", 0, ""); err != nil {
			fusetest.Missing(t, "mount fusectl: %v", err)
		}
		defer unix.Unmount(ctl, 0)
		if err := os.WriteFile(filepath.Join(ctl, conn, "abort"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		<-m.Done()
		if o, c := disk.opened.Load(), disk.closed.Load(); o != c {
			t.Errorf("%d handles opened, %d closed", o, c)
		}
		if !IsStale(m.dir) {
			t.Error("an aborted mount is not seen as stale")
		}
		f.Close()
		if err := CleanStale(m.dir); err != nil {
			t.Error(err)
		}
	})
	if o, c := disk.opened.Load(), disk.closed.Load(); o != c {
		t.Errorf("%d handles opened, %d closed", o, c)
	}
}

// serveChild starts a process that mounts something on dir, and waits until it has.
func serveChild(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := fusetest.Child(t.Context(), "serve", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func TestStale(t *testing.T) {
	fusetest.Require(t)
	dir := t.TempDir()
	if err := CleanStale(dir); IsStale(dir) || err != nil {
		t.Errorf("an ordinary directory is stale: %v", err)
	}
	cmd := serveChild(t, dir)
	if err := CleanStale(dir); IsStale(dir) || err != nil {
		t.Errorf("a live mount is stale: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !IsStale(dir) {
		t.Fatal("the mount of a dead process is not stale")
	}
	s, err := Mount(t.Context(), newTree(t, newRelease("two")).Catalog, Options{Dir: dir, Source: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Contains(got, "two") {
		t.Errorf("holds %q", got)
	}
	if err := s.Unmount(t.Context(), false); err != nil {
		t.Error(err)
	}
	if len(names(t, dir)) != 0 {
		t.Error("the stale mount is still beneath")
	}
}

// One mount upon another: each ends its own, and only that.
func TestStacked(t *testing.T) {
	fusetest.Require(t)
	dir := t.TempDir()
	var servers []*Server
	for _, name := range []string{"lower", "upper"} {
		s, err := Mount(t.Context(), newTree(t, newRelease(name)).Catalog, Options{Dir: dir, Source: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Unmount(context.Background(), true) })
		servers = append(servers, s)
	}
	shows := func(want string) {
		t.Helper()
		if got := names(t, dir); !slices.Contains(got, want) {
			t.Errorf("it shows %q, not %s", got, want)
		}
		if source, mounted, err := MountedOn(dir); source != want || !mounted || err != nil {
			t.Errorf("mounted is %q, %t, %v, not %s", source, mounted, err, want)
		}
	}
	shows("upper")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := servers[0].Unmount(ctx, true); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("unmount of the lower: %v", err)
	}
	shows("upper")
	for i, want := range []string{"upper", "lower"} {
		shows(want)
		if err := servers[1-i].Unmount(t.Context(), false); err != nil {
			t.Error(err)
		}
		<-servers[1-i].Done()
	}
	if m, err := mountAt(dir); m != nil || err != nil {
		t.Errorf("left is %v, %v", m, err)
	}
}

// A dead mount upon another filesystem, which stays.
func TestStaleOnAnother(t *testing.T) {
	fusetest.Require(t)
	fusetest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	cmd := serveChild(t, dir)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := CleanStale(dir); err != nil || IsStale(dir) {
		t.Errorf("it is not cleaned away: %v", err)
	}
	if err := UnmountDir(dir, false); err == nil {
		t.Error("what is not ours is unmounted")
	}
	if err := UnmountDir(t.TempDir(), false); err != syscall.EINVAL {
		t.Errorf("unmount of nothing: %v", err)
	}
	if m, err := mountAt(dir); err != nil || m == nil || m.FSType != "tmpfs" {
		t.Errorf("what is left: %v, %v", m, err)
	}
}
