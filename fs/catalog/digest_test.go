package catalog

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"vmcastfs/feed"
)

// TestDigest: what tells the content of an image from any other is the same after a
// remount, and comes from a sum wherever there is one.
func TestDigest(t *testing.T) {
	s := newSite(t)
	root, data := diskImage(300_000, 1), diskImage(200_000, 2)
	zip := gz(t, data)
	files := []file{{"root.img", root}, {"data.img.gz", zip}}
	s.release("one", "/one.xvm", tarOf(t, append([]file{manifestOf(files...), {"more.img", root}}, files...)...))
	s.origin.PutBytes("/bare.img", root)
	s.item(feed.Entry{ID: "bare", Title: "bare", URL: s.origin.URL() + "/bare.img", Length: int64(len(root)), Published: testTime, SHA256: fmt.Sprintf("%x", sha256.Sum256(root))})
	for range 2 {
		h := s.open()
		for _, c := range []struct{ release, file, want string }{
			{"one", "root.img", fmt.Sprintf("sha1:%x", sha1.Sum(root))},
			{"one", "data.img", fmt.Sprintf("stored-sha1:%x", sha1.Sum(zip))},
			{"one", "data.img.gz", fmt.Sprintf("sha1:%x", sha1.Sum(zip))},
			{"one", "more.img", "version:" + h.key("one", "more.img")},
			{"bare", "bare.img", fmt.Sprintf("sha256:%x", sha256.Sum256(root))},
		} {
			if got, _ := h.file(c.release, c.file).Attr("user.vmcast.digest"); string(got) != c.want {
				t.Errorf("%s/%s: digest %q, want %q", c.release, c.file, got, c.want)
			}
		}
		h.close()
	}
	// A package with SHA-256 sums and a block list.
	s.release("two", "/two.xvm", packed(t, true, nil, file{"root.img", root}))
	if got, _ := s.open().file("two", "root.img").Attr("user.vmcast.digest"); !strings.HasPrefix(string(got), "stored-sha256:") {
		t.Errorf("digest %q", got)
	}
}
