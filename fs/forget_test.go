package fs

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestForget: of the releases that were not looked at for longest, the kernel forgets the
// files that are not open, and we with it. From Linux 6.18 on it forgets the directories, too.
// What is open stays; what is forgotten is found again.
func TestForget(t *testing.T) {
	const room = 256
	var releases []*scriptedRelease
	for _, name := range []string{"a", "b", "c"} {
		files := []*scriptedFile{newFile("disk.img", 200_000), newFile("deep/er/x", 9)}
		for i := range room/2 + 20 {
			files = append(files, newFile(fmt.Sprint("f", i), 1))
		}
		releases = append(releases, newRelease(name, files...))
	}
	m := mountTree(t, newTree(t, releases...))
	v := m.vfs
	v.known.mu.Lock()
	v.known.room = room
	v.known.mu.Unlock()
	walk := func(release string) {
		for _, name := range names(t, m.path(release)) {
			stat(t, m.path(release, name))
		}
		stat(t, m.path(release, "deep/er/x"))
	}
	known := func(release string) (n int) {
		node := v.root.GetChild(release)
		if node == nil {
			return 0
		}
		for name := range node.Children() {
			if strings.HasPrefix(name, "f") {
				n++
			}
		}
		return n
	}
	path := func(f *os.File) string {
		at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	walk("a")
	before := stat(t, m.path("a/f7"))
	image, err := os.Open(m.path("a/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	dir, err := os.Open(m.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	walk("b")
	walk("c")
	testkit.Eventually(t, "the files of a and b are forgotten", time.Minute, func() bool { return known("a")+known("b") == 0 })
	if v.root.NotifyPrune(nil) == 0 { // the kernel can be told
		testkit.Eventually(t, "the directory b is forgotten", time.Minute, func() bool { return v.root.GetChild("b") == nil })
	}
	if v.root.GetChild("a") == nil {
		t.Error("a directory is forgotten that is open")
	}
	if n := known("c"); n < room/2 {
		t.Errorf("%d files of the release that was looked at last", n)
	}
	for _, f := range []*os.File{image, dir} {
		if at := path(f); at != f.Name() {
			t.Errorf("%s is open at %q", f.Name(), at)
		}
	}
	if got, err := io.ReadAll(image); err != nil || string(got) != string(pattern(200_000)) {
		t.Errorf("the open image: %d bytes, %v", len(got), err)
	}
	if after := stat(t, m.path("a/f7")); after.Ino != before.Ino || after.Size != before.Size {
		t.Errorf("found again: %+v, was %+v", after, before)
	}
	walk("a")
	walk("b")
}
