package e2e

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestUnsupportedCompression: an image that is compressed in a way that is not
// supported is named as such by list and verify, and refused at open, be its size
// known or not; those beside it are served.
func TestUnsupportedCompression(t *testing.T) {
	t.Parallel()
	disk := noise(5<<20, 3) // more than is sized at once
	power := filter(t, disk, "xz", "-T1", "--powerpc", "--lzma2=preset=0")
	members := []member{
		{"good.img.xz", filter(t, disk, "xz", "-T1", "--delta=dist=4", "--x86", "--arm64", "--lzma2=preset=0")},
		{"power.img.xz", power},
		{"told.img.xz", power},
		{"window.img.zst", filter(t, disk, "zstd", "-q", "-1", "--zstd=wlog=28")},
	}
	manifest := fmt.Appendf(nil, "told.img %d %s\n", len(disk), hexMD5(disk))
	w := bareWorld(t)
	w.publish("one", pack(t, append([]member{{"manifest.txt", manifest}}, members...)...))
	list, _ := runBinary(t, "list", "-o", w.options(), w.feed)
	verify, verifyErr := runBinary(t, "verify", "-o", w.options(), w.feed)
	for image, why := range map[string]string{"power.img": "xz filter PowerPC", "told.img": "xz filter PowerPC", "window.img": "zstd window of 268435456"} {
		if !regexp.MustCompile(regexp.QuoteMeta(image) + `: .*, refused; not supported: .*` + why).MatchString(list) {
			t.Errorf("%s in list:\n%s", image, list)
		}
		if verifyErr == nil || !strings.Contains(verify, image+": not supported: ") || !strings.Contains(verify, why) {
			t.Errorf("%s in verify: %v\n%s", image, verifyErr, verify)
		}
		if !regexp.MustCompile(regexp.QuoteMeta(image) + ` +- +unverified`).MatchString(verify) {
			t.Errorf("verify knows what it cannot inflate:\n%s", verify)
		}
	}
	if strings.Contains(verify, "corrupt") {
		t.Errorf("verify calls it corrupt:\n%s", verify)
	}
	w.mount()
	w.wantFile(disk, "one", "good.img")
	for _, image := range []string{"power.img", "told.img", "window.img"} {
		if f, err := os.Open(w.path("one", image)); !errors.Is(err, syscall.EOPNOTSUPP) {
			if err == nil {
				f.Close()
			}
			t.Errorf("open of %s: %v", image, err)
		}
	}
}
