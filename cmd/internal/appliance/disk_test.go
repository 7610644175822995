package appliance

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

func TestBootSectorMatchesItsSource(t *testing.T) {
	out := filepath.Join(t.TempDir(), "boot.bin")
	if msg, err := exec.Command(testkit.Need(t, "nasm"), "-f", "bin", "-o", out, "boot.asm").CombinedOutput(); err != nil {
		t.Fatalf("nasm: %v\n%s", err, msg)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bootSector) {
		t.Error("boot.bin is not what boot.asm assembles to")
	}
}

func TestDiskLimits(t *testing.T) {
	for _, c := range []struct {
		size   int64
		chunks int
		ok     bool
	}{
		{1 << 20, 8, true}, {1 << 20, 63, true}, {1 << 20, 64, false}, {1 << 20, 0, false},
		{1<<20 + 1, 8, false}, {firstChunk + chunkSize, 1, true}, {firstChunk, 1, false},
	} {
		if _, err := Disk(c.size, c.chunks, 1); (err == nil) != c.ok {
			t.Errorf("Disk(%d, %d): %v", c.size, c.chunks, err)
		}
	}
}

func TestDiskBoots(t *testing.T) {
	good, err := Disk(4<<20, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	for name, c := range map[string]struct {
		disk []byte
		want string
	}{"good": {good, BootedLine}, "flipped": {bad, MismatchLine}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.img")
			if err := os.WriteFile(path, c.disk, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, testkit.Need(t, "qemu-system-x86_64"), "-accel", "tcg", "-m", "16",
				"-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
				"-drive", "file="+path+",format=raw,readonly=on,if=virtio").CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %q", err, out)
			}
		})
	}
}
