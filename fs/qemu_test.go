package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/fs/internal/fusetest"
)

// QEMU's tools read images as its block layer does for a guest.
func TestQEMU(t *testing.T) {
	img, io := fusetest.Tool(t, "qemu-img"), fusetest.Tool(t, "qemu-io")
	for _, mode := range []string{"cached", "passthrough"} {
		t.Run(mode, func(t *testing.T) {
			disk := newFile("disk.img", 8<<20)
			disk.hole(1<<20, 4<<20)
			m := mountTree(t, newTree(t, newRelease("one", disk)))
			if mode == "passthrough" {
				requirePassthrough(t, m)
				disk.complete(t)
			}
			path := m.path("one/disk.img")
			local := filepath.Join(t.TempDir(), "disk.img")
			if err := os.WriteFile(local, disk.data, 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(name string, args ...string) string {
				t.Helper()
				return fusetest.Run(t, exec.CommandContext(t.Context(), name, args...))
			}

			if out := run(img, "info", "-f", "raw", "--output=json", path); !strings.Contains(out, `"virtual-size": 8388608`) ||
				!strings.Contains(out, `"actual-size": 4194304`) {
				t.Errorf("info: %s", out)
			}
			if out := run(img, "map", "-f", "raw", "--output=json", path); !strings.Contains(out,
				`"start": 1048576, "length": 4194304, "depth": 0, "present": true, "zero": true, "data": false`) {
				t.Errorf("map does not show the hole: %s", out)
			}
			run(img, "compare", "-f", "raw", "-F", "raw", path, local)
			for _, cache := range []string{"none", "writeback", "directsync", "unsafe"} {
				out := filepath.Join(t.TempDir(), "out")
				run(img, "convert", "-U", "-T", cache, "-f", "raw", "-O", "raw", path, out)
				run(img, "compare", "-f", "raw", "-F", "raw", out, local)
			}
			overlay := filepath.Join(t.TempDir(), "vm.qcow2")
			run(img, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", path, overlay)
			run(io, "-c", "write -P 7 64k 4k", overlay)
			run(io, "-r", "-c", "read -P 7 64k 4k", "-c", "read -P 0 2M 64k", overlay)

			// Locks taken, O_DIRECT, every way to wait; a queue of reads at once.
			for _, aio := range [][]string{{"-n", "-i", "native"}, {"-n", "-i", "threads"}, {"-i", "threads"}, {"-n", "-i", "io_uring"}} {
				args := append([]string{"-r", "-f", "raw"}, aio...)
				args = append(args, "-c", "read -P 0 1M 4M")
				for _, at := range []string{"0", "512", "64k", "5M", "7M"} {
					args = append(args, "-c", "aio_read "+at+" 64k")
				}
				args = append(args, "-c", "aio_flush", path)
				out, err := exec.CommandContext(t.Context(), io, args...).CombinedOutput()
				switch {
				case strings.Contains(aio[len(aio)-1], "io_uring") && strings.Contains(string(out), "io_uring"):
					t.Logf("no io_uring here: %s", out) // switched off on many hosts
				case err != nil || strings.Contains(string(out), "failed") || strings.Count(string(out), "read ") != 6:
					t.Errorf("qemu-io %q: %v\n%s", aio, err, out)
				}
			}
			if out, err := exec.CommandContext(t.Context(), io, "-f", "raw", path).CombinedOutput(); err == nil && !strings.Contains(string(out), "Read-only") {
				t.Errorf("opened for writing: %s", out)
			}
			if got := m.Stats().Passthrough; (got > 0) != (mode == "passthrough") {
				t.Errorf("%d opens by passthrough", got)
			}
		})
	}
}
