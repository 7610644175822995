package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

var (
	firstBar  = regexp.MustCompile(`(?s)<svg class="bar" viewBox="0 0 (\d+) 30".*?</svg>`)
	pathOfBar = regexp.MustCompile(`<path class="(\w+)" d="([^"]*)"/>`)
	rectangle = regexp.MustCompile(`M(\d+) \d+h(\d+)v\d+h-\d+z`)
)

// columnsOf is the class of each of n pieces, by the paths of a bar: class and form.
func columnsOf(n int, paths [][2]string) []string {
	list := make([]string, n)
	for _, path := range paths {
		if path[0] == "ticks" || path[0] == "coming" {
			continue
		}
		for _, m := range rectangle.FindAllStringSubmatch(path[1], -1) {
			var from, n int
			fmt.Sscan(m[1], &from)
			fmt.Sscan(m[2], &n)
			for i := from; i < from+n; i++ {
				list[i] = path[0]
			}
		}
	}
	return list
}

// bar is how the page shows an image, without a browser.
func bar(t testing.TB, address, image string) []string {
	t.Helper()
	resp, err := http.Get("http://" + address + "/?" + url.Values{"image": {image}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := firstBar.FindSubmatch(page)
	if m == nil || !strings.Contains(string(page), "<h2><span class=\"muted\">"+strings.ReplaceAll(image, "/", " /</span> ")) {
		return nil
	}
	n := 0
	fmt.Sscan(string(m[1]), &n)
	var paths [][2]string
	for _, p := range pathOfBar.FindAllSubmatch(m[0], -1) {
		paths = append(paths, [2]string{string(p[1]), string(p[2])})
	}
	return columnsOf(n, paths)
}

// TestBarIsTheCache: the bar of an image says of each block what is in the cache, and where it came
// from last: when it is taken from another release, damaged, evicted, fetched again, and checked.
func TestBarIsTheCache(t *testing.T) {
	t.Parallel()
	const blk, blocks = 64 << 10, 40
	first := noise(blocks*blk, 1)
	second := bytes.Clone(first)
	changed := map[int]bool{7: true, 20: true, 33: true}
	for b := range changed {
		copy(second[b*blk:], "changed")
	}
	w := bareWorld(t)
	w.publish("one", packBinary(t, first))
	w.publish("two", packBinary(t, second))
	plain := noise(320*blk, 3) // of which little is fetched for one block
	about := member{"xvm.xml", []byte("<xvm/>")}
	w.publish("plain", packListed(t, about, member{"root.img", plain}))
	bad := member{"root.img", noise(blocks*blk, 4)}
	w.publish("bad", pack(t, about, member{"manifest.txt", sha1sums(about, member{"root.img", plain})}, bad))
	address := "127.0.0.1:" + freePort(t)
	mount := func() { t.Helper(); w.mount("complete=off", "profile=on", "http="+address) }
	// is waits until the bar of an image is as want says of each block.
	is := func(when, release string, want func(b int) string) {
		t.Helper()
		list := make([]string, blocks)
		for b := range list {
			list[b] = want(b)
		}
		var got []string
		defer func() {
			if t.Failed() {
				t.Logf("%s:\ngot  %q\nwant %q", when, got, list)
			}
		}()
		testkit.Eventually(t, when, time.Minute, func() bool { got = bar(t, address, release+"/root.img"); return slices.Equal(got, list) })
	}
	all := func(class string) func(int) string { return func(int) string { return class } }
	fromOne := func(b int) string {
		if changed[b] {
			return "verified3"
		}
		return "elsewhere3"
	}
	mount()
	w.wantFile(first, "one", "root.img")
	is("all of it is from the server", "one", all("verified3"))
	w.umount()
	mount()
	w.wantFile(second, "two", "root.img")
	if n := w.status().Reads.CopiedBytes; n < (blocks-4)*blk {
		t.Fatalf("%d bytes came from the release before", n)
	}
	// What the first read wants may be asked for before the release before is found.
	testkit.Eventually(t, "there is a bar", time.Minute, func() bool { return len(bar(t, address, "two/root.img")) == blocks })
	changed[0] = bar(t, address, "two/root.img")[0] == "verified3"
	is("most of it is from the release before", "two", fromOne)
	key := attr(w.path("two", "root.img"), "key")
	w.umount()

	// A flipped bit on the disk: the block is gone, and then the server's.
	data, err := os.OpenFile(filepath.Join(w.cache, "files", key+".data"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteAt([]byte{^second[12*blk+99]}, 12*blk+99); err != nil {
		t.Fatal(err)
	}
	data.Close()
	if out, err := w.run("cache", "verify", "--cache", w.cache); exitCode(err) != 1 || !strings.Contains(out, "1 damaged") {
		t.Fatalf("cache verify: %v\n%s", err, out)
	}
	if out, err := w.run("cache", "remove", "--cache", w.cache, "one/root.img"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mount()
	if _, err := os.Stat(w.path("two", "root.img")); err != nil {
		t.Fatal(err)
	}
	is("a damaged block is gone", "two", func(b int) string {
		if b == 12 {
			return ""
		}
		return fromOne(b)
	})
	w.wantFile(second, "two", "root.img")
	is("it came from the server", "two", func(b int) string {
		if b == 12 {
			return "verified3"
		}
		return fromOne(b)
	})
	// Evicted, all of it is gone; fetched again, all of it is the server's.
	if out, err := w.run("cache", "remove", "--cache", w.cache, "two/root.img"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testkit.Eventually(t, "it is evicted", time.Minute, func() bool { return slices.Equal(bar(t, address, "two/root.img"), []string{""}) })
	w.umount() // the kernel has pages of it still
	mount()
	w.wantFile(second, "two", "root.img")
	is("all of it came from the server", "two", all("verified3"))
	w.umount()
	mount()
	if _, err := os.Stat(w.path("two", "root.img")); err != nil {
		t.Fatal(err)
	}
	is("after a remount", "two", all("verified3"))

	// What has a sum as a whole is checked at its end, and may be found corrupt.
	f, err := os.Open(w.path("plain", "root.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, blk), 0); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is not checked yet", time.Minute, func() bool {
		list := bar(t, address, "plain/root.img")
		return list != nil && list[0] == "fetched3" && !slices.Contains(list, "verified3")
	})
	w.wantFile(plain, "plain", "root.img")
	testkit.Eventually(t, "it matches", time.Minute, func() bool {
		list := bar(t, address, "plain/root.img")
		return len(list) == 320 && !slices.ContainsFunc(list, func(class string) bool { return class != "verified3" })
	})
	_, _ = os.ReadFile(w.path("bad", "root.img")) // which fails
	is("it is corrupt", "bad", all("corrupt3"))
}
