package pack

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"vmcastfs/xvm"
)

// head keeps the first bytes of what is written to it: those of an image that
// tell what other files it names.
type head struct{ kept []byte }

// headRoom is what compressing the first bytes in blocks may add to them.
const headRoom = 16 << 10

func (h *head) Write(p []byte) (int, error) {
	if room := xvm.SniffHead + headRoom - len(h.kept); room > 0 {
		h.kept = append(h.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// inflated is the head of what was compressed into gzip members, as far as it
// can be inflated: what is wrong with it is told elsewhere.
func (h *head) inflated() *head {
	plain := &head{}
	if z, err := gzip.NewReader(bytes.NewReader(h.kept)); err == nil {
		_, _ = io.CopyN(plain, z, xvm.SniffHead)
	}
	return plain
}

// warning says that a mount refuses the image, and why; "": it does not.
func (h *head) warning(name string) string {
	disk := xvm.Sniff(h.kept[:min(len(h.kept), xvm.SniffHead)], nil)
	if len(disk.External) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is a %s that names another file, %q: mounts refuse to open it, but with allow_external; qemu-img convert makes one that stands for itself",
		name, disk.Format, disk.External[0])
}
