package machines

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnapshot: what is written to the block device is there again after the device
// was made anew, and the base is not touched.
func TestSnapshot(t *testing.T) {
	if err := MapperThere(); err != nil {
		t.Skip("a long form: it needs a kernel with device-mapper:", err)
	}
	dir := t.TempDir()
	base, file := filepath.Join(dir, "base"), filepath.Join(dir, "web1-root.raw")
	const size = 8 << 20
	content := bytes.Repeat([]byte("base"), size/4)
	if err := errors.Join(os.WriteFile(base, content, 0o600), CopyOnWrite(size)(t.Context(), file)); err != nil {
		t.Fatal(err)
	}
	disk, other := filepath.Base(file), bytes.Repeat([]byte("disk"), 1024)
	for i := range 2 {
		if err := Activate(t.Context(), disk, base, file, size); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(DevicePath(disk), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := f.WriteAt(other, 1<<20); err != nil {
				t.Fatal(err)
			}
		}
		if err := Deactivate(t.Context(), disk); err == nil || !strings.Contains(err.Error(), "it runs") {
			t.Errorf("a device that is open: %v", err)
		}
		got := make([]byte, 2<<20)
		_, err = f.ReadAt(got, 0)
		want := bytes.Clone(content[:2<<20])
		copy(want[1<<20:], other)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: the device holds something else", err)
		}
		if err := Deactivate(t.Context(), disk); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(base); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%v: the base has changed", err)
	}
	out, err := Run(t.Context(), "losetup", "--noheadings", "--output", "BACK-FILE")
	if err != nil || strings.Contains(out, dir) {
		t.Errorf("%v: loop devices are left: %s", err, out)
	}
}
