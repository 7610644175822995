package feed

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

func sampleChannel() Channel {
	day := func(n int) time.Time { return time.Date(2024, 1, n, 12, 0, 0, 123, time.FixedZone("", 3600)) }
	return Channel{
		Title: `R&D "images" <new>`, Link: "https://h.example/", Self: "https://h.example/vmcast.xml", TTL: 90 * time.Minute, Built: day(9),
		Items: []Entry{
			{URL: "https://h.example/p/a b.xvm", Length: 10, Published: day(1), NotesHTML: "<p>first & <script>x</script>best</p>\n<p>ü</p>"},
			{ID: "urn:x:2", Title: "Second & better", URL: "https://h.example/p/b.xvm2?x=1&y=2", Length: 1 << 40, Published: day(2)},
			{URL: "https://h.example/p/c.img.gz", Title: "Disk", Length: 0, Published: day(2), Type: "application/x-disk", SHA256: digest("disk")},
		},
	}
}

func TestWriteGolden(t *testing.T) {
	t.Parallel()
	got, err := sampleChannel().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := fixture(t, "written.xml"); string(got) != string(want) {
		t.Errorf("got:\n%s", got)
	}
	if err := xml.Unmarshal(got, new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}
	// What is written is read.
	f, err := parseAt(got, "https://h.example/vmcast.xml")
	if err != nil || len(f.Warnings) > 0 || f.ttl != 90*time.Minute || f.Title != `R&D "images" <new>` || len(f.Releases) != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	for i, want := range []string{"urn:x:2", "https://h.example/p/c.img.gz", "https://h.example/p/a%20b.xvm"} { // newest first, then by id
		if f.Releases[i].ID != want {
			t.Errorf("%d: %s", i, f.Releases[i].ID)
		}
	}
	if r := f.Releases[1]; r.SHA256 != digest("disk") || r.Type != "application/x-disk" || f.Releases[0].SHA256 != "" {
		t.Errorf("%+v", r)
	}
	c := sampleChannel()
	c.Items[0], c.Items[2] = c.Items[2], c.Items[0]
	if again, _ := c.Marshal(); string(again) != string(got) {
		t.Error("the order of the entries shows")
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Channel){
		"no title":      func(c *Channel) { c.Title = "" },
		"no link":       func(c *Channel) { c.Link, c.Self, c.Items = "", "", nil },
		"relative":      func(c *Channel) { c.Items[0].URL = "a.xvm" },
		"file":          func(c *Channel) { c.Items[0].URL = "file:///a.xvm" },
		"credentials":   func(c *Channel) { c.Items[0].URL = "https://u:p@h/a.xvm" },
		"length":        func(c *Channel) { c.Items[0].Length = -1 },
		"digest":        func(c *Channel) { c.Items[0].SHA256 = "abc" },
		"no date":       func(c *Channel) { c.Items[0].Published = time.Time{} },
		"same id":       func(c *Channel) { c.Items[0].ID = "urn:x:2" },
		"control in id": func(c *Channel) { c.Items[0].ID = "a\x1b[0m" },
	} {
		c := sampleChannel()
		spoil(&c)
		if b, err := c.Marshal(); err == nil {
			t.Errorf("%s:\n%s", name, b)
		}
	}
	c := sampleChannel()
	c.Items[1].Title, c.Items[1].NotesHTML = "a\x1b[31m\x00\ufffeb", "x\x00\x0by\uffff"
	if b, err := c.Marshal(); err != nil || xml.Unmarshal(b, new(struct{})) != nil {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestUpdateChangesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	old, err := sampleChannel().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	later := time.Date(2025, 5, 5, 5, 5, 5, 0, time.UTC)
	update := func(f func(c *Channel)) string {
		t.Helper()
		c := sampleChannel()
		c.Built = later
		for i := range c.Items { // touched files: another date, nothing else
			c.Items[i].Published = later
		}
		f(&c)
		b, err := c.Update(old)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	diff := func(got string) (added, removed []string) {
		was := map[string]int{}
		for l := range strings.SplitSeq(string(old), "\n") {
			was[l]++
		}
		for l := range strings.SplitSeq(got, "\n") {
			if was[l]--; was[l] < 0 {
				added = append(added, strings.TrimSpace(l))
			}
		}
		for l, n := range was {
			if n > 0 {
				removed = append(removed, strings.TrimSpace(l))
			}
		}
		return added, removed
	}
	built := "<lastBuildDate>Mon, 05 May 2025 05:05:05 GMT</lastBuildDate>"

	if got := update(func(*Channel) {}); got != string(old) {
		t.Errorf("nothing changed, but:\n%s", got)
	}
	if got := update(func(c *Channel) { c.Items[1].ID, c.Items[1].Title, c.Items[0].NotesHTML = "", "", "" }); got != string(old) {
		t.Errorf("ids, titles and notes are not kept:\n%s", got)
	}
	added, removed := diff(update(func(c *Channel) { c.Items[1].Length = 7 }))
	if strings.Join(added, "\n") != built+"\n<pubDate>Mon, 05 May 2025 05:05:05 GMT</pubDate>\n"+`<enclosure url="https://h.example/p/b.xvm2?x=1&amp;y=2" length="7" type="application/enomalism2-xvm2"/>` || len(removed) != 3 {
		t.Errorf("a new package under an old id:\n%q\n%q", added, removed)
	}
	added, removed = diff(update(func(c *Channel) {
		c.Items = append(c.Items, Entry{URL: "https://h.example/p/d.xvm", Length: 5, Published: later})
	}))
	if len(added) != 7 || len(removed) != 1 { // <item>, title, guid, pubDate, enclosure, </item>; lastBuildDate
		t.Errorf("a new item:\n%q\n%q", added, removed)
	}
	added, removed = diff(update(func(c *Channel) { c.Items[1].ID = "urn:x:new" }))
	if len(added) != 3 || len(removed) != 3 || added[1] != `<guid isPermaLink="false">urn:x:new</guid>` {
		t.Errorf("another release under the same URL:\n%q\n%q", added, removed)
	}
	added, removed = diff(update(func(c *Channel) { c.Items = c.Items[1:] }))
	if len(added) != 1 || len(removed) < 6 {
		t.Errorf("an item gone:\n%q\n%q", added, removed)
	}
	added, removed = diff(update(func(c *Channel) { c.Items[1].NotesHTML = "<p>news</p>" }))
	if len(added) != 2 || len(removed) != 1 || added[1] != "<description>&lt;p&gt;news&lt;/p&gt;</description>" {
		t.Errorf("new notes:\n%q\n%q", added, removed)
	}
	if _, err := sampleChannel().Update(fixture(t, "portal.html")); err == nil {
		t.Error("an HTML page was overwritten")
	}
	empty, err := Channel{Title: "t", Link: "https://h/"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := sampleChannel().Update(empty); err != nil || string(b) != string(old) {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestTypeOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.xvm": "application/x-xvm", "a.XVM2": "application/enomalism2-xvm2", "a.ova": "application/x-tar",
		"a.img": "application/octet-stream", "a.img.gz": "application/gzip", "a.tar.zst": "application/zstd", "": "application/octet-stream",
	} {
		if got := typeOf(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
