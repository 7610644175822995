package linuxguest

import (
	"os"
	"path/filepath"
	"testing"
)

// KernelPackage is the path of Debian's cloud kernel package, which .ci/test
// downloads and names in VMCASTFS_TEST_KERNEL. Without it the test is skipped,
// in CI it fails.
func KernelPackage(t testing.TB) string {
	t.Helper()
	path := os.Getenv("VMCASTFS_TEST_KERNEL")
	if path == "" {
		for _, up := range []string{"../..", "../../.."} { // from the package under test
			if found, _ := filepath.Glob(up + "/.ci/.cache/linux-image-*.deb"); len(found) > 0 {
				path, _ = filepath.Abs(found[0])
			}
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no kernel package: VMCASTFS_TEST_KERNEL is not set")
		}
		t.Skip("no kernel package: run bash .ci/test once, it downloads one")
	}
	return path
}
