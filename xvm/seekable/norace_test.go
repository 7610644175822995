//go:build !race

package seekable

import "os"

// scale divides the work of tests that say the same of less data. The long form, with
// VMCASTFS_TEST_LONG set, takes all of it.
var scale = map[bool]int{true: 1, false: 2}[os.Getenv("VMCASTFS_TEST_LONG") != ""]
