package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestPackRecordsABoot: pack --profile=auto boots the disk and puts into the package what
// that has read, and leaves the disk as it was. A disk that does not boot is an error.
func TestPackRecordsABoot(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	dir := t.TempDir()
	disk, err := appliance.Disk(16<<20, 4, 3)
	must(t, err)
	image, description, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "xvm.xml"), filepath.Join(dir, "vm.xvm")
	must(t, os.WriteFile(image, disk, 0o600))
	must(t, os.WriteFile(description, []byte(`<xvm><name>test</name><memory unit="MiB">16</memory><disk file="disk.img" target="vda"/></xvm>`), 0o600))
	if said, err := runBinary(t, "pack", "--profile=auto", "-o", out, description, image); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	text, err := command(t, dir, "tar", "-xOf", out, "profile.txt")
	if n := strings.Count(text, "\ndisk.img "); err != nil || n < 4 || n > 100 || !strings.Contains(text, "disk.img 0 ") {
		t.Errorf("%v: %q", err, text)
	}
	if string(readAll(t, image)) != string(disk) {
		t.Error("the disk was written to")
	}
	if said, err := runBinary(t, "pack", "--profile=auto", "-o", out, description, description); exitCode(err) != 1 || !strings.Contains(said, "give --profile FILE") {
		t.Errorf("%v\n%s", err, said)
	}
}
