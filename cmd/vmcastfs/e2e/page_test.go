package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/cmd/internal/chrometest"
)

// columns is the class of each piece of the large bar of a page, "" for those that
// are not here. It is what the browser has in its document.
func columns(t testing.TB, p *chrometest.Page) []string {
	t.Helper()
	var bar struct {
		N     int
		Paths [][2]string
	}
	raw := p.Eval(`(() => { const b = document.querySelector("#hero .bar"); return { N: b.viewBox.baseVal.width,
		Paths: [...b.querySelectorAll("path")].map((x) => [x.getAttribute("class"), x.getAttribute("d")]) } })()`)
	if err := json.Unmarshal([]byte(raw), &bar); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return columnsOf(bar.N, bar.Paths)
}

// TestPage: a browser shows the pieces as they are in the cache, goes along with a
// boot, has nothing to complain of, and needs no JavaScript.
func TestPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{DiskSize: 16 << 20, Packed: true})
	address := "127.0.0.1:" + freePort(t)
	w.mount("http="+address, "complete=off")
	p := chrometest.New(t)
	p.Size(1280, 1000, false)
	p.Open("http://" + address + "/")
	if text := p.Eval(`document.querySelector("#hero").innerText`); !strings.Contains(text, "No image yet") {
		t.Errorf("before the boot: %s", text)
	}
	if text := p.Eval(`document.querySelector("#releases").innerText`); !strings.Contains(text, "demo-1.1") {
		t.Errorf("the releases: %s", text)
	}
	// The same document goes along with what happens; what is on its way pulses.
	p.Eval("window.sameDocument = true")
	w.origin.SetLatency(100 * time.Millisecond)
	f, err := os.Open(w.path("latest", appliance.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.bootLike()
	testkit.Eventually(t, "the page shows the boot", time.Minute, func() bool {
		return strings.Contains(p.Eval(`document.querySelector("#hero .sentence")?.innerText || ""`), "This boot") && w.pageIsTrue(p)
	})
	if text := p.Eval(`document.querySelector("#hero .sentence").innerText`); !strings.Contains(text, "Every block was checked before it was served.") || !strings.Contains(text, "asked for") {
		t.Errorf("the sentence: %s", text)
	}
	const waitsAt = 100 // in no region of what was read
	remove := w.origin.Inject(origin.Fault{Kind: origin.Status, Status: 503})
	go func() { _, _ = f.ReadAt(make([]byte, 4096), waitsAt*64<<10) }() // which waits
	testkit.Eventually(t, "what is on its way pulses", time.Minute, func() bool {
		return p.Eval(`getComputedStyle(document.querySelector("#hero .coming") || document.body).animationName`) == `"pulse"`
	})
	remove()
	testkit.Eventually(t, "it is here", 60*time.Second, func() bool { return w.pageIsTrue(p) && columns(t, p)[waitsAt] == "verified3" })
	if p.Eval("window.sameDocument") != "true" {
		t.Error("the page was loaded anew")
	}
	testkit.Eventually(t, "the rates are drawn", time.Minute, func() bool { return p.Eval(`!!document.querySelector("#chart canvas")`) == "true" })
	// Who does not see it, or has no mouse, has names for everything.
	for what, ok := range map[string]string{
		"a picture without words":           `[...document.querySelectorAll("svg")].every((x) => x.getAttribute("role") === "img" && x.getAttribute("aria-label"))`,
		"a section without a name":          `[...document.querySelectorAll("section")].every((x) => x.getAttribute("aria-label"))`,
		"a heading of a table that is none": `[...document.querySelectorAll("th:not(.u-legend *)")].every((x) => x.scope)`,
		"a field without a label":           `[...document.querySelectorAll("input")].every((x) => x.labels.length > 0)`,
		"no way past the top":               `document.querySelector("a").getAttribute("href") === "#main" && !!document.getElementById("main")`,
		"no language":                       `document.documentElement.lang === "en"`,
		"an address of another place":       `performance.getEntriesByType("resource").every((x) => x.name.startsWith(location.origin))`,
	} {
		if p.Eval(ok) != "true" {
			t.Error(what)
		}
	}
	waits := p.Eval(`document.querySelector("#hero .waits").getAttribute("d").split("M").length - 1`)
	dots := p.Eval(`document.querySelector("#hero .dots").getAttribute("d").split("M").length - 1`)
	if waits == "0" {
		t.Errorf("%s waits and %s other reads are drawn", waits, dots)
	}
	shots := os.Getenv("VMCASTFS_TEST_SHOTS")
	if shots != "" {
		for _, dark := range []bool{false, true} {
			for _, width := range []int{1280, 400} {
				p.Size(width, 900, dark)
				time.Sleep(1500 * time.Millisecond)
				os.WriteFile(filepath.Join(shots, fmt.Sprintf("page-%d-%v.png", width, dark)), p.Screenshot(true), 0o644)
			}
		}
	}
	if wide := p.Eval(`document.documentElement.scrollWidth <= innerWidth`); wide != "true" {
		t.Error("the page is wider than the window")
	}
	p.Size(400, 900, false)
	testkit.Eventually(t, "it fits into 400 pixels", time.Minute, func() bool { return p.Eval(`document.documentElement.scrollWidth <= 400`) == "true" })
	if len(p.Troubles()) > 0 {
		t.Errorf("the console says %s", p.Troubles())
	}
	// Without JavaScript it says the same.
	p.Script(false)
	p.Open("http://" + address + "/")
	if !w.pageIsTrue(p) || !strings.Contains(p.Eval(`document.querySelector("#hero .sentence").innerText`), "Every block") {
		t.Errorf("without JavaScript: %v", columns(t, p))
	}
	if text := p.Eval(`document.querySelector("#live").innerText`); !strings.Contains(text, "reload") {
		t.Errorf("without JavaScript: %s", text)
	}
	if len(p.Troubles()) > 0 {
		t.Errorf("without JavaScript the console says %s", p.Troubles())
	}
}

// pageIsTrue compares the large bar of a page with the bytes in the cache.
func (w *world) pageIsTrue(p *chrometest.Page) bool {
	w.t.Helper()
	const bs = 64 << 10
	data := readAll(w.t, filepath.Join(w.cache, "files", attr(w.path("latest", appliance.DiskName), "key")+".data"))
	list := columns(w.t, p)
	if len(list) != len(data)/bs {
		w.t.Fatalf("%d pieces of %d blocks", len(list), len(data)/bs)
	}
	zeros := make([]byte, bs)
	here := 0
	for b, class := range list {
		want, got := w.app.Disk[b*bs:(b+1)*bs], data[b*bs:(b+1)*bs]
		verified := bytes.Equal(want, got) && !bytes.Equal(want, zeros)
		if verified != (class == "verified3") || !verified && class != "" {
			return false
		}
		if verified {
			here++
		}
	}
	return here > 0 && here < len(list)
}
