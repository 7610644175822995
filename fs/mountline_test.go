package fs

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/internal/fusetest"
)

// Without the kernel's read-only flag, changes are refused by us.
func TestRemountedReadWrite(t *testing.T) {
	fusetest.Root(t)
	m := mountTree(t, newTree(t, newRelease("one", newFile("a", 10))))
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT, ""); err != nil {
		fusetest.Missing(t, "remount: %v", err)
	}
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		fusetest.Missing(t, "remount: %v", err)
	}
	for name, do := range map[string]func() error{
		"open":        func() error { _, err := os.OpenFile(m.path("one/a"), os.O_RDWR, 0); return err },
		"open feed":   func() error { _, err := os.OpenFile(m.path("feed.xml"), os.O_WRONLY, 0); return err },
		"open status": func() error { _, err := os.OpenFile(m.path(".vmcastfs/status.json"), os.O_WRONLY, 0); return err },
		"create":      func() error { return os.WriteFile(m.path("one/b"), nil, 0o600) },
		"mkdir":       func() error { return os.Mkdir(m.path("one/b"), 0o700) },
		"mknod":       func() error { return unix.Mknod(m.path("one/b"), unix.S_IFIFO, 0) },
		"symlink":     func() error { return os.Symlink("x", m.path("b")) },
		"link":        func() error { return os.Link(m.path("one/a"), m.path("one/b")) },
		"remove":      func() error { return os.Remove(m.path("one/a")) },
		"rmdir":       func() error { return syscall.Rmdir(m.path("one")) },
		"rename":      func() error { return os.Rename(m.path("one/a"), m.path("one/b")) },
		"chmod":       func() error { return os.Chmod(m.path("one/a"), 0o600) },
		"truncate":    func() error { return os.Truncate(m.path("one/a"), 0) },
		"setxattr":    func() error { return unix.Setxattr(m.path("one/a"), "user.x", nil, 0) },
		"rmxattr":     func() error { return unix.Removexattr(m.path("one/a"), "user.x") },
	} {
		if err := do(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(readFile(t, m.path("one/a"))) != 10 {
		t.Error("the file suffered")
	}
}

func mountLine(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); fields[4] == dir {
			return fields
		}
	}
	t.Fatalf("%s is not mounted", dir)
	return nil
}

// unescape undoes what the kernel does to spaces and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace(s)
}

func TestMountLine(t *testing.T) {
	for _, source := range []string{
		"https://h/feed.xml", "https://h/a,b.xml", `https://h/a\b.xml`, "https://h/a b.xml", "https://h/a%20b?x=1&y=#f", `/x/\,y`, "#x",
	} {
		t.Run(source, func(t *testing.T) {
			m := mountTree(t, newTree(t), func(o *Options) { o.Source = source })
			f := mountLine(t, m.dir)
			sep := slices.Index(f, "-")
			if got := unescape(f[sep+2]); got != source {
				t.Errorf("source shown as %q", got)
			}
			if f[sep+1] != "fuse.vmcastfs" {
				t.Errorf("type %q", f[sep+1])
			}
			if os.Geteuid() != 0 {
				return
			}
			for _, want := range []string{"ro", "nosuid", "nodev", "noexec"} {
				if !slices.Contains(strings.Split(f[5], ","), want) {
					t.Errorf("mount options %s lack %s", f[5], want)
				}
			}
			for _, want := range []string{"ro", "default_permissions", "allow_other", "max_read=524288"} {
				if !slices.Contains(strings.Split(f[sep+3], ","), want) {
					t.Errorf("filesystem options %s lack %s", f[sep+3], want)
				}
			}
		})
	}
}

func TestMountErrors(t *testing.T) {
	fusetest.Require(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		o    Options
	}{
		{"missing", t.Context(), Options{Dir: filepath.Join(dir, "none"), Source: "x"}},
		{"file", t.Context(), Options{Dir: file, Source: "x"}},
		{"no source", t.Context(), Options{Dir: dir}},
		{"bad option", t.Context(), Options{Dir: dir, Source: "x", Extra: []string{"nonsense=1"}}},
		{"cancelled", cancelled, Options{Dir: dir, Source: "x"}},
	} {
		if s, err := Mount(c.ctx, newTree(t).Catalog, c.o); err == nil {
			t.Errorf("%s: mounted", c.name)
			s.Unmount(t.Context(), true)
		} else {
			t.Log(err)
		}
	}
	if m, err := mountAt(dir); m != nil || err != nil {
		t.Errorf("left mounted: %v, %v", m, err)
	}
}
