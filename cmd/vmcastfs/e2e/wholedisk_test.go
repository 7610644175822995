package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestWholeDiskBoots boots whole disks with GRUB, from the BIOS and from UEFI, by
// what config qemu prints. It is a long test: set VMCASTFS_TEST_LONG.
func TestWholeDiskBoots(t *testing.T) {
	if os.Getenv("VMCASTFS_TEST_LONG") == "" {
		t.Skip("a long form: VMCASTFS_TEST_LONG is not set")
	}
	t.Parallel()
	packages := os.Getenv("VMCASTFS_TEST_GRUB")
	if packages == "" {
		packages, _ = filepath.Abs("../../../.ci/.cache/grub")
	}
	debs, _ := filepath.Glob(filepath.Join(packages, "*.deb"))
	if len(debs) == 0 {
		testkit.Missing(t, "GRUB (bash .ci/test downloads its packages; VMCASTFS_TEST_GRUB names their directory)")
	}
	grub := t.TempDir()
	for _, deb := range debs {
		if out, err := command(t, "", "dpkg-deb", "-x", deb, grub); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	d := findDebian(t)
	for firmware, description := range map[string]string{
		"bios": `<xvm><memory>256</memory><disk file="disk.img"/></xvm>`,
		"uefi": `<xvm><memory>256</memory><firmware>uefi</firmware><disk file="disk.img"/></xvm>`,
	} {
		t.Run(firmware, func(t *testing.T) {
			if _, err := os.Stat("/usr/share/ovmf/OVMF.fd"); err != nil && firmware == "uefi" {
				testkit.Missing(t, "OVMF (package ovmf)")
			}
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "xvm.xml"), []byte(description), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "bash", "testdata/grubdisk.sh", d.dir, grub, filepath.Join(dir, "disk.img"), firmware).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := command(t, dir, "bash", "-c", "sha1sum xvm.xml disk.img >manifest.txt && tar cf whole.xvm xvm.xml manifest.txt disk.img"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w := bareWorld(t)
			w.publishFile("whole", filepath.Join(dir, "whole.xvm"))
			w.mount("complete=off")
			took := bootToLogin(t, stdout(t, "config", "qemu", "--accel", "tcg", w.path("whole")))
			t.Logf("a login prompt after %.1f s; %.1f MB fetched", took.Seconds(), float64(w.packageStats().BytesSent)/1e6)
		})
	}
}
