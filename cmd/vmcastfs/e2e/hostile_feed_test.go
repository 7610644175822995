package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestF1F2F3F5F6F7F8F9Feeds serves hostile feeds after a good one. None takes
// its place, none stops the daemon or makes it large, and all is told in text
// that can be looked at.
func TestF1F2F3F5F6F7F8F9Feeds(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(50_000, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	good := rss(w.items...)
	log := w.logged()
	secret := "/etc/passwd"
	w.origin.PutBytes("/entity", []byte("stolen"))

	lol := `<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">`
	for i := 'b'; i < 'p'; i++ {
		lol += fmt.Sprintf(`<!ENTITY %c "&%c;&%c;&%c;&%c;&%c;&%c;&%c;&%c;">`, i+1, i, i, i, i, i, i, i, i)
	}
	bomb := gzipped(t, func(z *gzip.Writer) {
		block := bytes.Repeat([]byte(" "), 1<<20)
		for range 64 {
			_, _ = z.Write(block)
		}
	})
	entity := func(what string) []byte {
		return []byte(`<!DOCTYPE rss [<!ENTITY e SYSTEM "` + what + `">]><rss version="2.0"><channel><title>&e;</title><item><title>&e;</title><guid>9</guid>` + enclosure("one.xvm") + `</item></channel></rss>`)
	}
	for _, c := range []struct {
		id    string
		body  []byte
		fault *origin.Fault
		says  string
	}{
		{"F1", []byte(lol + `]><rss version="2.0"><channel><title>&p;</title></channel></rss>`), nil, "entities"},
		{"F2 file", entity("file://" + secret), nil, "entities"},
		{"F2 http", entity(w.origin.URL() + "/entity"), nil, "entities"},
		{"F3 never ending", append(bytes.Clone(good), ' '), &origin.Fault{Path: appliance.FeedPath, Kind: origin.Endless}, "large"},
		{"F3 large", bytes.Repeat([]byte("<!-- -->"), 3<<20), nil, "large"},
		{"F5 bomb", bomb, nil, "large"},
		{"F6 depth", []byte("<rss><channel>" + strings.Repeat("<a>", 200_000)), nil, "deep"},
		{"F8 portal", []byte("<!DOCTYPE html><html><body>Log in</body></html>"), nil, "HTML"},
		{"F9 NUL", []byte("\x00\x01\x02<rss>"), nil, ""},
		{"F9 charset", []byte(`<?xml version="1.0" encoding="x-unheard-of"?><rss version="2.0"><channel><title>` + "\xff\xfe" + `</title></channel></rss>`), nil, ""},
		{"F16 root", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>`), nil, "not an RSS"},
		{"error text", []byte("<rss><channel><\u009b2J\x1b]0;owned\x07\u202e>"), nil, ""},
	} {
		remove := func() {}
		w.serve(c.body)
		if c.id == "F5 bomb" {
			w.origin.SetHeader(appliance.FeedPath, "Content-Encoding", "gzip")
		}
		if c.fault != nil {
			remove = w.origin.Inject(*c.fault)
		}
		st := w.refresh().Feed
		remove()
		if !st.Stale || !strings.Contains(st.LastError, c.says) {
			t.Errorf("%s: the status says %q, want %q", c.id, st.LastError, c.says)
		}
		wantPlain(t, c.id+": status", st.LastError)
		if got := w.latest(); got != "one" {
			t.Errorf("%s: latest is %q", c.id, got)
		}
		if !bytes.Equal(readAll(t, w.path("feed.xml")), good) {
			t.Errorf("%s: feed.xml has changed", c.id)
		}
	}
	if n := w.origin.Stats("/entity").Requests; n != 0 {
		t.Errorf("F2: the entity was fetched %d times", n)
	}
	w.wantFile(disk, "one", "disk.img")
	wantPlain(t, "the log", log())

	// F7: the newest of very many are shown.
	var many []hostileItem
	for i := range 21_000 {
		many = append(many, hostileItem{title: fmt.Sprint("r", i), id: fmt.Sprint(i), enclosures: enclosure("one.xvm"),
			date: time.Date(2001, 1, 1, i, 0, 0, 0, time.UTC).Format(time.RFC1123Z)})
	}
	w.serve(hostileFeed(many...))
	w.refresh()
	testkit.Eventually(t, "F7: the newest release is there", time.Minute, func() bool { return w.latest() == "r20999" })
	if _, err := os.Stat(w.path("r0")); err == nil {
		t.Error("F7: the oldest of 21000 releases is shown")
	}
	for _, pid := range w.daemons() {
		kib := residentKiB(t, pid)
		t.Logf("the daemon took %d MiB at most", kib>>10)
		if !raceEnabled && kib > 400<<10 {
			t.Errorf("the daemon took %d MiB", kib>>10)
		}
	}
}

func gzipped(t testing.TB, write func(z *gzip.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestN1N2N3N4N5N6N7N8Names mounts a feed whose every text is an attack, and
// looks at all that the program says about it.
func TestN1N2N3N4N5N6N7N8Names(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.origin.PutBytes("/one.xvm", packListed(t, member{"disk.img", noise(2000, 1)}))
	titles := map[string][]string{
		"N1": {"../../etc/cron.d/x", "/abs", "..", ".", "a/../../b"},
		"N2": {"a/b\nc\td", "nul&#x200B;nul"},
		"N3": {"csi\u009b2Jx", "]0;title", "osc\u009d0;owned\u009cx"},
		"N4": {"exe\u202egnp", "zero\u200bwidth\ufeff", "раураl", "paypal", "iso\u2066late\u2069"},
		"N5": {strings.Repeat("long ", 900), "", "...", "   "},
		"N6": {"Same", "same", "SAME ", "sa\u00adme", "ﬁle", "file"},
		"N7": {"latest", "Latest", ".vmcastfs", "feed.xml", "lost+found"},
		"N8": {"-rf *", "a,format=qcow2,file=/etc/shadow", "json:{}", "nbd:host", "%n%h", "$(reboot)", "`id`", "a;b|c&d", "'\"\\", "~root", "--help", "#x", "a=b"},
	}
	var items []hostileItem
	for _, id := range []string{"N1", "N2", "N3", "N4", "N5", "N6", "N7", "N8"} {
		for _, title := range titles[id] {
			items = append(items, hostileItem{
				title: strings.NewReplacer("&", "&amp;", "<", "&lt;", "&amp;#", "&#").Replace(title), id: fmt.Sprintf("%s-%d", id, len(items)),
				notes:      "&lt;script&gt;alert(1)&lt;/script&gt;&lt;p onclick=x&gt;notes&lt;/p&gt;&lt;a href='javascript:x'&gt;l&lt;/a&gt;&lt;img src=http://tracker/&gt;\u009b2J\u202e",
				enclosures: enclosure("one.xvm?" + fmt.Sprint(len(items))),
			})
		}
	}
	// An id and a channel title are text too.
	items = append(items, hostileItem{title: "id", id: "\u202eid\u009b2J", enclosures: enclosure("one.xvm?id")},
		// What cannot be shown is refused with its name.
		hostileItem{title: "refused\u009b\u202e", id: "refused", enclosures: enclosure("missing\u009b\u202e.xvm")})
	w.serve(hostileFeed(items...))
	log := w.logged()

	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	releases := 0
	for _, e := range entries {
		name := e.Name()
		wantName(t, name)
		if other, twice := seen[strings.ToLower(name)]; twice {
			t.Errorf("N6: %q and %q", other, name)
		}
		seen[strings.ToLower(name)] = name
		if e.IsDir() {
			releases++
		}
	}
	if releases != len(items) {
		t.Errorf("%d directories for %d releases", releases, len(items))
	}
	if info, err := os.Lstat(w.path("latest")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("N7: latest is %v, %v", info, err)
	}
	for name := range seen {
		if notes, err := os.ReadFile(w.path(seen[name], "notes.html")); err == nil {
			wantPlain(t, "notes.html", string(notes))
			for _, evil := range []string{"script", "onclick", "javascript", "tracker", "alert"} {
				if strings.Contains(string(notes), evil) {
					t.Fatalf("notes.html has %q: %s", evil, notes)
				}
			}
		}
	}
	wantPlain(t, "status.json", string(readAll(t, w.path(".vmcastfs/status.json"))))
	wantPlain(t, "the log", log())
	for _, args := range hostileCommands(t, w) {
		out, _ := w.run(args...)
		wantPlain(t, "vmcastfs "+strings.Join(args, " "), out)
		if len(out) == 0 {
			t.Errorf("%v says nothing", args)
		}
	}
	// JSON that scripts read names what they find in the mount.
	out, _ := exec.CommandContext(t.Context(), binary, "list", "--json", "-n", "5", "-o", w.options(), w.feed).Output()
	var rows []struct{ Name string }
	if err := json.Unmarshal(out, &rows); err != nil || len(rows) != 5 {
		t.Errorf("list --json: %v, %d rows", err, len(rows))
	}
	for _, row := range rows {
		if _, err := os.Stat(w.path(row.Name)); err != nil {
			t.Errorf("list --json names %q: %v", row.Name, err)
		}
	}

	// Names stay with their releases when the order and the titles change (N6).
	before := map[string]string{}
	for _, r := range w.status().Releases {
		before[r.ID] = r.Name
	}
	for i := range items {
		items[i].date = time.Date(2026, 6, 1+len(items)-i, 0, 0, 0, 0, time.UTC).Format(time.RFC1123Z)
	}
	w.serve(hostileFeed(items...))
	for _, r := range w.refresh().Releases {
		if before[r.ID] != r.Name {
			t.Errorf("N6: %q was called %q and is %q", r.ID, before[r.ID], r.Name)
		}
	}
}

// hostileCommands are all commands that speak of a mount or a feed.
func hostileCommands(t testing.TB, w *world) [][]string {
	t.Helper()
	help, err := w.run("--help")
	if err != nil {
		t.Fatal(err)
	}
	commands := [][]string{
		{"list", "-o", w.options(), w.feed},
		{"list", "--json", "-o", w.options(), w.feed},
	}
	for name, args := range map[string][]string{
		"status":   {"status", w.dir},
		"prefetch": {"prefetch", w.path("latest")},
		"verify":   {"verify", "-o", w.options(), w.feed},
		"cache":    {"cache", "list", "-o", w.options()},
		"config":   {"config", "qemu", w.path("latest")},
	} {
		if strings.Contains(help, "\n  "+name+" ") {
			commands = append(commands, args)
		}
	}
	return commands
}

// TestF10F11F12F13F14F17Items is about single items of a feed that is good.
func TestF10F11F12F13F14F17Items(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	first, second := noise(3000, 1), noise(3000, 2)
	w.origin.PutBytes("/one.xvm", packListed(t, member{"disk.img", first}))
	w.origin.PutBytes("/two.xvm", packListed(t, member{"disk.img", second}))
	feed := func(changed string) []byte {
		return hostileFeed(
			hostileItem{title: "none", id: "none"},
			hostileItem{title: "two", id: "two", enclosures: enclosure("picture.png") + enclosure("two.xvm") + enclosure("one.xvm")},
			hostileItem{title: "length", id: "length", enclosures: `<enclosure url="one.xvm" length="-9223372036854775809" type="x"/>`},
			hostileItem{title: "twin a", id: "twin", enclosures: enclosure("one.xvm")},
			hostileItem{title: "twin b", id: "twin", enclosures: enclosure("two.xvm")},
			hostileItem{title: "changed", id: "changed", enclosures: enclosure(changed)},
			hostileItem{title: "undated", id: "undated", date: "not a date", enclosures: enclosure("one.xvm")},
			hostileItem{title: "archipel", id: "archipel", date: "2016-11-07 09:51:30.12", enclosures: enclosure("one.xvm")},
			hostileItem{title: "future", id: "future", date: "Fri, 01 Jan 2100 00:00:00 GMT", enclosures: enclosure("one.xvm")},
			hostileItem{title: "<![CDATA[a ]]]]><![CDATA[> b <b>c</b>]]>", id: "cdata", enclosures: enclosure("one.xvm")},
		)
	}
	w.serve(feed("one.xvm"))
	w.mount()
	for _, name := range []string{"none", "twin-a"} {
		if _, err := os.Stat(w.path(name)); err == nil {
			t.Errorf("%s is shown", name)
		}
	}
	w.wantFile(second, "two", "disk.img")
	for _, name := range []string{"length", "changed", "undated", "archipel", "future"} {
		w.wantFile(first, name, "disk.img")
	}
	w.wantFile(second, "twin-b", "disk.img")
	if got := w.latest(); got == "future" || got == "undated" {
		t.Errorf("F14: latest is %q", got)
	}
	if info, err := os.Stat(w.path("archipel")); err != nil || info.ModTime().UTC().Format(time.DateTime) != "2016-11-07 09:51:30" {
		t.Errorf("F13: %v, %v", info, err)
	}
	warnings := strings.Join(w.status().Feed.Warnings, "\n")
	for _, part := range []string{"none", "twin", "future"} {
		if !strings.Contains(warnings, part) {
			t.Errorf("no warning about %q in\n%s", part, warnings)
		}
	}
	entries, _ := os.ReadDir(w.dir)
	for _, e := range entries {
		wantName(t, e.Name())
	}

	// F12: the same id with another package is a new generation; who has the
	// old one open keeps it.
	held, err := os.Open(w.path("changed", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	w.serve(feed("two.xvm"))
	w.refresh()
	testkit.Eventually(t, "F12: the new generation", time.Minute, func() bool {
		got, err := os.ReadFile(w.path("changed", "disk.img"))
		return err == nil && bytes.Equal(got, second)
	})
	p := make([]byte, len(first))
	if _, err := held.ReadAt(p, 0); err != nil || !bytes.Equal(p, first) {
		t.Errorf("F12: the open file has changed: %v", err)
	}
}
