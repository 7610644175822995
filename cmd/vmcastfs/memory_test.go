package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCgroupMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no cgroups", nil, 0},
		{"v2 without a limit", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 0},
		{"v2 max", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "268435456\n"}, 256 << 20},
		{"v2 high is less", map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "268435456\n", "sys/fs/cgroup/a/memory.high": "134217728\n"}, 128 << 20},
		{"v2 above", map[string]string{"proc/self/cgroup": "0::/a/b/c\n", "sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/b/c/memory.max": "2097152\n"}, 1 << 20},
		{"v2 in a namespace", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20},
		{"v1", map[string]string{"proc/self/cgroup": "4:cpu,memory:/x\n0::/\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1048576\n"}, 1 << 20},
		{"v1 without a limit", map[string]string{"proc/self/cgroup": "4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"path that goes up", map[string]string{"proc/self/cgroup": "0::/../../x\nnonsense\n", "sys/fs/cgroup/x/memory.max": "4096\n"}, 4096},
		{"no number", map[string]string{"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "-5\n"}, 0},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := cgroupMemory(root); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestLogFileIsOurs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	if err := os.WriteFile(name("secret"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(name("secret"), name("link")),
		os.Link(name("secret"), name("twice")),
		unix.Mkfifo(name("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"link", "twice", "fifo", "missing/log", "."} {
		if f, err := openLogFile(name(bad)); err == nil {
			f.Close()
			t.Errorf("%s is taken as a log", bad)
		}
	}
	for range 2 {
		f, err := openLogFile(name("log"))
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("x")
		f.Close()
	}
	if got, _ := os.ReadFile(name("log")); string(got) != "xx" {
		t.Errorf("the log holds %q", got)
	}
	if f, err := openLogFile(os.DevNull); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

// TestGCPercent: where little lives garbage may be as much; where much lives it may be a
// constant, or a share.
func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 1 << 20: 100, garbageRoom: 100, 2 * garbageRoom: 50, 3 * garbageRoom: 33, 10 * garbageRoom: 15, 1 << 60: 15} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d of %d bytes", got, live)
		}
	}
}
