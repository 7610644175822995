package feed

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"vmcastfs/feed/show"
)

func TestN1N2N3N4N5N8SafeName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ row, in, want string }{
		{"plain", "debian-12.5", "debian-12.5"},
		{"plain", "Debian 12.5 (bookworm), minimal", "Debian-12.5-bookworm-minimal"},
		{"plain", "1.0~rc1+b2", "1.0~rc1+b2"},
		{"plain", "Größe 日本語 हिन्दी", "Größe-日本語-हिन्दी"},
		{"plain", "_x", "_x"},
		{"N1", "../../etc/cron.d/x", "etc-cron.d-x"},
		{"N1", "/abs", "abs"},
		{"N1", "..", ""},
		{"N1", ".", ""},
		{"N1", ".ssh", "ssh"},
		{"N1", `C:\x\..\y`, "C-x-y"},
		{"N2", "a/b\x00c\nd\te", "a-bc-d-e"},
		{"N3", "\x1b[31mred\x1b[0m", "red"},
		{"N3", "a\x1b]52;c;ZXZpbA==\x07b", "ab"},
		{"N3", "a\x1b]8;;http://e/\x1b\\b\x1b]8;;\x1b\\c", "abc"},
		{"N3", "a\u009b2Jb\u009d0;t\u009cc", "abc"},
		{"N4", "abc\u202egnp.exe", "abcgnp.exe"},
		{"N4", "a\u200bb\u200dc\ufeffd\u2066e\u2069\u00adf", "abcdef"},
		{"N4", "a\u3164b\U000e0041c\ufe0fd", "abcd"},
		{"N5", "", ""},
		{"N5", "...", ""},
		{"N5", " - ~ + . ", ""},
		{"N5", "!!!", ""},
		{"N5", strings.Repeat("é", 2000), strings.Repeat("é", 80)},
		{"N5", strings.Repeat("a.", 2000), strings.TrimRight(strings.Repeat("a.", 80), ".")},
		{"N6", "e\u0301", "é"},
		{"N8", "-rf *", "rf"},
		{"N8", "--help", "help"},
		{"N8", "~root", "root"},
		{"N8", "a,format=qcow2,file=/etc/shadow", "a-format-qcow2-file-etc-shadow"},
		{"N8", "nbd:unix:/x", "nbd-unix-x"},
		{"N8", "json:{\"driver\":\"x\"}", "json-driver-x"},
		{"N8", "%n%H %%i", "n-H-i"},
		{"N8", "$(reboot) `id` ; a|b && c > d", "reboot-id-a-b-c-d"},
		{"N8", `it's "q" \040 {x} [y] ?!#^=@`, "it-s-q-040-x-y"},
		{"N8", "a - b", "a-b"},
		{"zalgo", "a" + strings.Repeat("\u0335", 100) + "b", "a" + strings.Repeat("\u0335", maxMarks) + "b"},
		{"emoji", "vm 🚀 1", "vm-1"},
	} {
		got := safeName(tc.in)
		if got != tc.want {
			t.Errorf("%s: safeName(%.60q) = %q, want %q", tc.row, tc.in, got, tc.want)
		}
		checkName(t, got)
	}
}

// checkName asserts what must hold of every name.
func checkName(t testing.TB, name string) {
	t.Helper()
	switch {
	case name == "":
		return
	case len(name) > maxName+65 || !utf8.ValidString(name):
		t.Errorf("%q: %d bytes, valid: %v", name, len(name), utf8.ValidString(name))
	case strings.ContainsAny(name, "/\\\x00,:;%$`'\"!?*&|<>(){}[]#=@^ \t\r\n\x1b"):
		t.Errorf("%q holds a character that hurts", name)
	case strings.ContainsAny(name[:1], ".-~+"):
		t.Errorf("%q begins badly", name)
	case show.Text(name) != name:
		t.Errorf("%q is not fit for a terminal", name)
	case len(name) <= maxName && safeName(name) != name:
		t.Errorf("%q is not stable: %q", name, safeName(name))
	}
}

// releasesOf makes releases of "id=title" strings, each a day older than the one before.
func releasesOf(specs ...string) []Release {
	list := make([]Release, len(specs))
	for i, s := range specs {
		id, title, _ := strings.Cut(s, "=")
		list[i] = Release{ID: id, Title: title, Published: time.Unix(1e9, 0).AddDate(0, 0, -i)}
	}
	return list
}

func nameMap(list []Release) map[string]string {
	m := map[string]string{}
	for _, r := range list {
		m[r.ID] = r.Name
	}
	return m
}

func TestN4HomoglyphTwins(t *testing.T) {
	t.Parallel()
	var n nameTable
	list := releasesOf("1=раураl", "2=paypal") // Cyrillic, Latin
	n.assign(list)
	if list[1].Name != "paypal" || list[0].Name != "раураl-"+digest("1")[:8] {
		t.Errorf("%q", nameMap(list))
	}
}

func TestN5FallBackToID(t *testing.T) {
	t.Parallel()
	var n nameTable
	list := releasesOf("urn:uuid:12=", "???=...", "!!=,")
	n.assign(list)
	if got := nameMap(list); got["urn:uuid:12"] != "urn-uuid-12" || got["!!"] != "release" || got["???"] != "release-"+digest("???")[:8] {
		t.Errorf("%q", got)
	}
}

func TestN6Collisions(t *testing.T) {
	t.Parallel()
	specs := []string{"a=Debian 12", "b=debian-12", "c=DEBIAN 12", "d=debian\u200b 12", "e=ｄｅｂｉａｎ 12", "f=straße", "g=STRASSE", "h=é", "i=e\u0301"}
	list := releasesOf(specs...)
	new(nameTable).assign(list)
	want := nameMap(list)
	seen := map[string]bool{}
	for id, name := range want {
		checkName(t, name)
		if seen[fold(name)] {
			t.Errorf("two releases could both be %q", name)
		}
		seen[fold(name)] = true
		_ = id
	}
	if want["e"] == want["a"] || want["i"] != "é" || want["g"] != "STRASSE" {
		t.Errorf("%q", want) // the older one has the bare name
	}
	for range 20 { // whatever the order of the feed
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i := range list {
			list[i].Name = ""
		}
		new(nameTable).assign(list)
		if got := fmt.Sprint(nameMap(list)); got != fmt.Sprint(want) {
			t.Fatalf("%s\n%s", got, fmt.Sprint(want))
		}
	}
}

func TestN7Reserved(t *testing.T) {
	t.Parallel()
	var n nameTable
	list := releasesOf("1=latest", "2=LATEST", "3=.vmcastfs", "4=feed.xml", "5=Feed.XML", "6=Latest.", "7=lаtest") // the last with a Cyrillic а
	n.assign(list)
	for _, r := range list {
		if reserved[fold(r.Name)] {
			t.Errorf("%s: %q", r.ID, r.Name)
		}
	}
	if list[0].Name != "latest-"+digest("1")[:8] || list[2].Name != "vmcastfs" {
		t.Errorf("%q", nameMap(list))
	}
}

func TestNamesStayForGood(t *testing.T) {
	t.Parallel()
	n := new(nameTable)
	first := releasesOf("new=vm", "old=vm")
	n.assign(first)
	want := nameMap(first)
	if want["old"] != "vm" {
		t.Fatalf("%q", want)
	}
	restart := func() {
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		n = new(nameTable)
		if err := json.Unmarshal(b, n); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(n); string(again) != string(b) {
			t.Errorf("%s\n%s", again, b)
		}
	}
	// Another order, another title, an older release that wants the name, one
	// gone for a while: nothing moves.
	for _, list := range [][]Release{
		releasesOf("old=vm", "new=vm"),
		releasesOf("new=renamed", "old=vm", "older=vm"),
		releasesOf("new=vm"),
		releasesOf("stranger=vm", "new=vm"),
		releasesOf("old=vm", "new=vm"),
	} {
		n.assign(list)
		for _, r := range list {
			if w, known := want[r.ID]; known && r.Name != w {
				t.Errorf("%s was %q and is %q", r.ID, w, r.Name)
			} else if !known && r.Name == "vm" {
				t.Errorf("%s got the name of another", r.ID)
			}
		}
		restart()
	}
}

func TestNamesRejectDamage(t *testing.T) {
	t.Parallel()
	var n nameTable
	long := strings.Repeat("x", maxName)
	doc := `{"version":1,"round":3,"names":{"ok":{"name":"fine","seen":1},"long":{"name":"` + long + "-" + digest("long")[:8] + `","seen":2},
		"a":{"name":"../x"},"b":{"name":""},"c":null,"d":{"name":"latest"},"e":{"name":"-rf"},"f":{"name":"FINE"},"g":{"name":"a,b"},
		"h":{"name":"` + long + `-../../x"},"i":{"name":"` + long + long + `"}}}`
	if err := json.Unmarshal([]byte(doc), &n); err != nil {
		t.Fatal(err)
	}
	list := releasesOf("ok=x", "a=y", "d=z", "f=v", "long=w", "h=h")
	n.assign(list)
	if got := fmt.Sprint(nameMap(list)); got != fmt.Sprint(map[string]string{"ok": "x", "a": "y", "d": "z", "f": "FINE", "h": "h", "long": long + "-" + digest("long")[:8]}) {
		t.Errorf("%s", got) // of two twins the one with the lesser id stays
	}
	for _, bad := range []string{"", "[]", `{"version":2}`, `{"version":1,"names":[]}`} {
		if err := json.Unmarshal([]byte(bad), new(nameTable)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	var n nameTable
	n.init()
	for i := range maxNames {
		name := fmt.Sprint("old-", i)
		n.byID[name], n.taken[name] = &nameEntry{Name: name}, name
	}
	list := make([]Release, MaxItems)
	for i := range list {
		list[i].ID = fmt.Sprint("new-", i)
	}
	n.assign(list)
	if len(n.byID) != maxNames || len(n.taken) != maxNames || n.byID["old-0"] != nil || n.taken["old-0"] != "" ||
		n.byID["new-0"] == nil || n.byID["old-99999"] == nil {
		t.Errorf("%d names, %d taken", len(n.byID), len(n.taken))
	}
}

func TestSanitizeHTML(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                "",
		"plain <3 & more": "plain &lt;3 &amp; more",
		"a &amp; b":       "a &amp; b",
		"<p onclick=x()>hi<script>alert(1)</script></p>":     "<p>hi</p>",
		`<a href="javascript:alert(1)">x</a>`:                "<a>x</a>",
		`<a href=" java&#10;script:x">x</a>`:                 "<a>x</a>",
		`<a href="HTTPS://h/?a=1&amp;b='" target=_top>x</a>`: `<a href="https://h/?a=1&amp;b=&#39;">x</a>`,
		"<ul><li>open":        "<ul><li>open</li></ul>",
		"</b><b><i>x</b></i>": "<b><i>x</i></b>",
		"<style>p{}</style><svg><a>x</a></svg>y<img src=x onerror=y>z":   "yz",
		"<iframe src=x></iframe><object><object></object>in</object>out": "out",
		"a\x1b[31mb\u202ec<br/>d":                     "a[31mbc<br>d",
		"<!--[if IE]><script>x</script><![endif]-->t": "t",
		"<scr<script>ipt>alert(1)</script>":           "ipt&gt;alert(1)",
		strings.Repeat("<div>", 100) + "x":            strings.Repeat("<div>", MaxDepth) + "x" + strings.Repeat("</div>", MaxDepth),
	} {
		got := sanitizeHTML(in)
		if got != want {
			t.Errorf("sanitizeHTML(%.60q) =\n%q, want\n%q", in, got, want)
		}
		if again := sanitizeHTML(got); again != got {
			t.Errorf("not stable: %q, then %q", got, again)
		}
	}
	for _, long := range []string{strings.Repeat("x", 1<<20), strings.Repeat("<b>&", 1<<17), strings.Repeat("<p>é</p>", 1<<16), strings.Repeat("<blockquote>", 1<<16)} {
		got := sanitizeHTML(long)
		if len(got) > maxNotes || !utf8.ValidString(got) || sanitizeHTML(got) != got {
			t.Errorf("%.20q: %d bytes, not bounded, not UTF-8 or not stable", long, len(got))
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"debian-12.5", "../../x", "\x1b[31mred", "раураl", "a,b:c%d", "..", "e\u0301", "ﬁ", strings.Repeat("é", 300), "K\u0327", "ΐ", "ᾳ", "가"} {
		f.Add(s, "id")
	}
	f.Fuzz(func(t *testing.T, title, id string) {
		if s := show.Text(title); show.Text(s) != s {
			t.Errorf("Sanitize is not stable: %q, %q", s, show.Text(s))
		}
		checkName(t, safeName(title))
		var n nameTable
		list := []Release{{ID: "a" + id, Title: title}, {ID: "b" + id, Title: title}, {ID: "c", Title: id}}
		n.assign(list)
		for i, r := range list {
			if r.Name == "" || !IsName(r.Name) {
				t.Errorf("%q is no name", r.Name)
			}
			checkName(t, r.Name)
			for _, s := range list[:i] {
				if fold(s.Name) == fold(r.Name) {
					t.Errorf("%q and %q", s.Name, r.Name)
				}
			}
		}
		if h := sanitizeHTML(title); sanitizeHTML(h) != h {
			t.Errorf("sanitizeHTML is not stable: %q, %q", h, sanitizeHTML(h))
		}
	})
}
