package e2e

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/cmd/internal/chrometest"
)

// TestPageIsAccessible: whoever hears the page instead of seeing it is told what each bar, timeline
// and table shows, in words; and a keyboard gets everywhere, in the order of the page.
func TestPageIsAccessible(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{Packed: true})
	address := "127.0.0.1:" + freePort(t)
	w.mount("http="+address, "complete=off")
	f, err := os.Open(w.path("latest", appliance.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.bootLike()
	readAll(t, w.path("demo-1.0", appliance.DiskName))
	p := chrometest.New(t)
	p.Size(1280, 1000, false)
	p.Open("http://" + address + "/")
	testkit.Eventually(t, "the boot and the rates are shown", time.Minute, func() bool {
		return p.Eval(`!!document.querySelector("#hero .line") && !!document.querySelector("#images .bar") && !!document.querySelector("#chart canvas")`) == "true"
	})
	roles := map[string][]string{}
	for _, n := range p.Accessible() {
		role := map[string]string{"img": "image"}[n.Role]
		if role == "" {
			role = n.Role
		}
		roles[role] = append(roles[role], n.Name)
		switch role {
		case "image", "table", "region", "link", "button", "textbox", "searchbox", "navigation", "heading", "columnheader", "rowheader":
			if strings.TrimSpace(n.Name) == "" && !(role == "columnheader" || role == "table") {
				t.Errorf("a nameless %s", role)
			}
		}
	}
	has := func(role string, words ...string) {
		t.Helper()
		if !slices.ContainsFunc(roles[role], func(name string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(name, word) })
		}) {
			t.Errorf("no %s says %q: %q", role, words, roles[role])
		}
	}
	has("image", "Pieces of the image: ", " % verified", " % not here")
	has("image", "Pieces of the image: 100 % verified")
	has("image", "The boot in time: ", " reads in ", " waited for the network")
	has("image", "The cache is ", " % full")
	has("image", "Rates now: ", " given to guests")
	for _, name := range []string{"Servers and mirrors", "Releases", "What fills the cache"} {
		has("table", name)
	}
	for _, role := range []string{"banner", "main", "contentinfo", "search", "status"} {
		if len(roles[role]) == 0 {
			t.Errorf("no %s", role)
		}
	}
	// The live page replaces what changes; to press keys it has to stay as it is.
	p.Script(false)
	p.Open("http://" + address + "/")
	where := func() string {
		return p.Eval(`(() => { const a = document.activeElement; return a.getAttribute("href") || a.id || a.tagName + a.textContent })()`)
	}
	var want, got []string
	if err := json.Unmarshal([]byte(p.Eval(`[...document.querySelectorAll("a, input, button")].map((a) => JSON.stringify(a.getAttribute("href") || a.id || a.tagName + a.textContent))`)), &want); err != nil {
		t.Fatal(err)
	}
	for range want {
		p.Key("Tab")
		got = append(got, where())
	}
	if !slices.Equal(got, want) || len(want) < 6 || want[0] != `"#main"` {
		t.Errorf("Tab goes to %q,\nthe page has %q", got, want)
	}
	p.Open("http://" + address + "/?again")
	p.Key("Tab")
	p.Key("Enter")
	p.Key("Tab")
	if p.Eval(`document.getElementById("main").contains(document.activeElement) && document.activeElement.tagName`) != `"A"` {
		t.Errorf("past the top one is at %s", where())
	}
}
