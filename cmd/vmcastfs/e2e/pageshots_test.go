package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/cmd/internal/chrometest"
)

// TestPageShots makes pictures of the page for people to look at, in VMCASTFS_TEST_SHOTS: of a mount
// that nobody has used, of 10,000 releases, and of releases with every fault and odd names.
func TestPageShots(t *testing.T) {
	dir := os.Getenv("VMCASTFS_TEST_SHOTS")
	if dir == "" {
		t.Skip("a long form: VMCASTFS_TEST_SHOTS names no directory")
	}
	p := chrometest.New(t)
	shoot := func(name, address string) {
		for _, dark := range []bool{false, true} {
			for _, width := range []int{1280, 400} {
				p.Size(width, 900, dark)
				p.Open("http://" + address + "/")
				time.Sleep(2500 * time.Millisecond) // the chart is drawn
				file := fmt.Sprintf("%s-%d-%s.png", name, width, map[bool]string{false: "light", true: "dark"}[dark])
				if err := os.WriteFile(filepath.Join(dir, file), p.Screenshot(true), 0o644); err != nil {
					t.Fatal(err)
				}
				if p.Eval(`document.documentElement.scrollWidth <= innerWidth`) != "true" {
					t.Errorf("%s is wider than the window", file)
				}
			}
		}
	}
	t.Run("empty", func(t *testing.T) {
		w := newWorld(t, appliance.Options{Packed: true})
		address := "127.0.0.1:" + freePort(t)
		w.mount("http=" + address)
		shoot("empty", address)
	})
	t.Run("many", func(t *testing.T) {
		_, address := manyReleases(t)
		shoot("many", address)
	})
	t.Run("odd", func(t *testing.T) {
		w := bareWorld(t)
		about, image := member{"xvm.xml", []byte("<xvm/>")}, noise(4<<20, 1)
		w.publish("corrupt", pack(t, about, member{"manifest.txt", sha1sums(about, member{"root.img", image})}, member{"root.img", noise(4<<20, 2)}))
		w.publish("gone", packListed(t, about, member{"root.img", noise(2<<20, 5)}))
		w.publish("no-archive", []byte("this is no archive"))
		w.publish("a-release-whose-name-goes-on-and-on-"+strings.Repeat("without-end-", 12), packListed(t, about, member{"root-" + strings.Repeat("x", 120) + ".img", image}))
		w.publish("דביאן-מהדורה-12", packListed(t, about, member{"תמונת-דיסק.img", noise(3<<20, 3)}))
		w.publish("دبيان ١٢", packListed(t, about, member{"قرص.img", noise(3<<20, 4)}))
		address := "127.0.0.1:" + freePort(t)
		w.mount("http="+address, "complete=off")
		releases, _ := os.ReadDir(w.dir)
		for _, r := range releases {
			files, _ := filepath.Glob(w.path(r.Name(), "*.img"))
			for _, f := range files {
				_, _ = os.ReadFile(f) // of the corrupt one it fails
			}
		}
		hold(t, w.path("gone", "root.img"))
		w.items = append(w.items[:1], w.items[2:]...)
		w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
		w.refresh()
		shoot("odd", address)
	})
}
