package e2e

import (
	"bytes"
	le "encoding/binary"
	"os"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestSuffixAndContent: a suffix is stripped only from content that was decoded,
// in a mount, by list and by verify alike. A zstd file may begin with a
// skippable frame, as pzstd writes it, and is one all the same.
func TestSuffixAndContent(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "pzstd")
	disk := diskOf(3, 1)
	disk[510], disk[511] = 0x55, 0xaa
	skip := func(n int, p []byte) []byte {
		head := le.LittleEndian.AppendUint32([]byte("\x51\x2a\x4d\x18"), uint32(n))
		return append(append(head, make([]byte, n)...), p...)
	}
	damaged := func(p []byte) []byte { p = bytes.Clone(p); p[1] ^= 0x40; return p }
	zst := filter(t, disk, "zstd", "-q", "-c")
	for name, c := range map[string]struct {
		path  string
		body  []byte
		plain string // "": it is refused
	}{
		"pzstd":     {"/disk.img.zst", filter(t, disk, "pzstd", "-q", "-c"), "disk.img"},
		"skippable": {"/disk.img", skip(300_000, zst), "disk.img"},
		"package":   {"/one.xvm.zst", skip(16, filter(t, pack(t, member{"disk.img", disk}), "zstd", "-q", "-c")), "disk.img"},
		"member":    {"/two.xvm", pack(t, member{"disk.img.zst", skip(70_000, zst)}), "disk.img"},
		"not-zstd":  {"/not.img.zst", damaged(zst), ""},
		"lz4":       {"/lz4.img.zst", skip(8, []byte("\x04\x22\x4d\x18 and more of it")), ""},
		"gzip":      {"/disk.img.gz", damaged(filter(t, disk, "gzip", "-1")), ""},
		"xz":        {"/disk.img.xz", damaged(filter(t, disk, "xz", "-0")), ""},
		"bzip2":     {"/disk.img.bz2", damaged(filter(t, disk, "bzip2", "-1")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			w.serveAt("one", c.path, c.body)
			w.mount()
			_, verified := runBinary(t, "verify", "-o", w.options(), w.feed)
			list, _ := runBinary(t, "list", "-o", w.options(), w.feed)
			if c.plain == "" {
				if entries, err := os.ReadDir(w.path("one")); err == nil {
					t.Errorf("it is shown: %v", entries)
				}
				if verified == nil || !strings.Contains(list, "\none      cannot be used ") {
					t.Errorf("verify: %v; list:\n%s", verified, list)
				}
				if out, err := runBinary(t, "config", "qemu", w.path("one")); err == nil {
					t.Errorf("config:\n%s", out)
				}
				return
			}
			w.wantFile(disk, "one", c.plain)
			if verified != nil || !strings.Contains(list, "\none      ready ") {
				t.Errorf("verify: %v; list:\n%s", verified, list)
			}
		})
	}
}
