// Package boottrace holds the reads of a recorded boot, for tests and
// benchmarks to replay: those that QEMU made of a raw image of 1 GiB until a
// Debian machine was up, in order.
package boottrace

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed boot.trace
var text string

// Read is one read of the image.
type Read struct {
	Off int64 // in the image, bytes
	Len int64 // bytes, at least 1
}

// ImageSize is the length of the image in bytes: no read ends behind it.
const ImageSize = 1 << 30

// Reads returns the recorded reads in their order. boot.trace has one
// "offset length" on each line; an error names the line that is none.
func Reads() ([]Read, error) {
	var reads []Read
	for line := range strings.Lines(text) {
		var r Read
		if _, err := fmt.Sscan(line, &r.Off, &r.Len); err != nil {
			return nil, fmt.Errorf("boot.trace: %q: %w", strings.TrimSpace(line), err)
		}
		reads = append(reads, r)
	}
	return reads, nil
}
