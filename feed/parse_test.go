package feed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"vmcastfs/feed/show"
)

const testBase = "https://feeds.example.org/dir/vmcast.xml"

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parseAt is Parse of a document that came from base.
func parseAt(body []byte, base string) (*Feed, error) {
	return Parse(Document{Body: body, FinalURL: base})
}

func mustParse(t testing.TB, body string) *Feed {
	t.Helper()
	f, err := parseAt([]byte(body), testBase)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return f
}

// rssOf wraps items into a channel.
func rssOf(items ...string) string {
	return `<rss version="2.0"><channel><title>t</title><link>http://x/</link><description>d</description>` +
		strings.Join(items, "\n") + `</channel></rss>`
}

// item is a usable item with this title (escaped already) and guid.
func item(title, guid, date string) string {
	return fmt.Sprintf(`<item><title>%s</title><guid>%s</guid><pubDate>%s</pubDate><enclosure url="http://h.example/%s.xvm" length="5" type="application/x-xvm"/></item>`, title, guid, date, guid)
}

func warned(f *Feed, part string) bool {
	return slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.Contains(w, part) })
}

func TestDialects(t *testing.T) {
	t.Parallel()
	day := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tc := range []struct {
		file string
		want Feed
	}{
		{"vmcast.xml", Feed{Title: "Example appliances", Format: "rss", ttl: 2 * time.Hour, skip: skipTimes{hours: 1<<1 | 1<<2, days: 1}, Releases: []Release{
			{ID: "example-debian-31-2", Name: "Debian-3.1-minimal-second-build", Title: "Debian 3.1 minimal, second build", Published: day("2007-03-14T10:00:00Z"),
				URL: "https://feeds.example.org/dir/packages/debian-3.1-2.xvm", Length: 104857601, Type: "application/x-xvm"},
			{ID: "example-debian-31-1", Name: "Debian-3.1-minimal", Title: "Debian 3.1 minimal", Published: day("2007-03-13T10:00:00Z"),
				URL: "https://appliances.example.org/debian-3.1.xvm", Length: 104857600, Type: "application/x-xvm",
				NotesHTML: "<p>Debian 3.1 minimal install <b>optimized for XEN</b></p>"},
		}}},
		{"enomalism.xml", Feed{Title: "Enomalism 2 repository", Format: "rss", Releases: []Release{
			{ID: "a0b7a6a4-1a98-11dd-8c33-0019b9e3c0aa", Name: "CentOS-5.1", Title: "CentOS 5.1", Published: day("2008-05-06T13:12:02Z"),
				URL: "https://feeds.example.org/download?appliance=centos51", Type: "application/enomalism2-xvm2"},
			{ID: "7c1d7f0e-1a97-11dd-9f3e-0019b9e3c0aa", Name: "Fedora-8-x86_64", Title: "Fedora 8 x86_64", Published: day("2008-05-05T20:58:40Z"),
				URL: "http://vmcast.example.net/files/7c1d7f0e-1a97-11dd-9f3e-0019b9e3c0aa.xvm2", Length: 733184000, Type: "application/enomalism2-xvm2",
				NotesHTML: "Base install.<br>Root password is <i>changeme</i>."},
		}}},
		{"archipel.xml", Feed{Title: "VMCasts of R&D hypervisor <node-07>", Format: "rss", Built: day("2016-11-07T09:52:00.000113Z"), ttl: time.Hour, Releases: []Release{
			{ID: "e0f1a2b3-a4d2-11e6-9d5c-525400aabbcc", Name: "web-mail-production-" + digest("e0f1a2b3-a4d2-11e6-9d5c-525400aabbcc")[:8], Title: "web & mail <production>",
				Published: day("2016-11-07T09:51:30.123456Z"), URL: "http://node-07.lab.example.com:8088/e0f1a2b3-a4d2-11e6-9d5c-525400aabbcc.xvm2",
				Length: 1510920192, Type: "application/enomalism2-xvm2", NotesHTML: "Sum of a &lt; b, made by &amp; for the R&amp;D team"},
			{ID: "11111111-a4d2-11e6-9d5c-525400aabbcc", Name: "web-mail-production", Title: "web & mail <production>",
				Published: day("2016-10-01T00:00:00Z"), URL: "http://node-07.lab.example.com:8088/11111111-a4d2-11e6-9d5c-525400aabbcc.xvm2",
				Length: 1510920000, Type: "application/enomalism2-xvm2", NotesHTML: "the same title again"},
		}}},
		{"atom.xml", Feed{Title: "Cloud images", Format: "atom", Built: day("2024-06-01T12:00:00Z"), Releases: []Release{
			{ID: "urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a", Name: "Debian-12.5", Title: "Debian 12.5", Published: day("2024-05-31T06:00:00Z"), Updated: day("2024-06-01T12:00:00Z"),
				URL: "https://cdn.example.org/images/v12/debian.xvm", Length: 1 << 31, Type: "application/x-xvm", NotesHTML: "Point release."},
			{ID: "urn:uuid:1225c695-cfb8-4ebb-bbbb-80da344efa6a", Name: "Debian-11", Title: "Debian 11", Published: day("2023-06-01T12:00:00Z"), Updated: day("2023-06-01T12:00:00Z"),
				URL: "https://cdn.example.org/images/v11/debian.qcow2", NotesHTML: "<p>Old <strong>stable</strong></p>"},
		}}},
		{"feed.json", Feed{Title: "JSON appliances", Format: "json", Releases: []Release{
			{ID: "7", Name: "Alpine-3.20", Title: "Alpine 3.20", Published: day("2024-05-22T10:00:00Z"), URL: "https://feeds.example.org/dir/alpine.xvm",
				Length: 52428800, Type: "application/octet-stream", Alternates: []string{"https://feeds.example.org/dir/alpine.qcow2"}, NotesHTML: "small &amp; fast"},
			{ID: "https://json.example.org/alpine-3.19", Name: "Alpine-3.19", Title: "Alpine 3.19", Published: day("2023-12-07T10:00:00Z"),
				URL: "https://json.example.org/alpine-319.img.gz", Length: 41943040, Type: "application/gzip", NotesHTML: "<p>old</p>"},
		}}},
		{"rss091.xml", Feed{Title: "Café appliances", Format: "rss", Releases: []Release{
			{ID: "sha256:" + digest("http://old.example.org/creme.img.bz2"), Name: "Café-crème", Title: "Café crème",
				URL: "http://old.example.org/creme.img.bz2", Length: 1000, Type: "application/octet-stream"},
		}}},
		{"rdf.xml", Feed{Title: "RDF appliances", Format: "rss", Releases: []Release{
			{ID: "http://rdf.example.org/1", FormerID: "sha256:" + digest("https://feeds.example.org/dir/one.xvm"), Name: "One", Title: "One", Published: day("2005-04-03T00:00:00Z"), Updated: day("2005-04-03T00:00:00Z"),
				URL: "https://feeds.example.org/dir/one.xvm", Length: 1, Type: "application/x-xvm"},
		}}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			f, err := parseAt(fixture(t, tc.file), testBase)
			if err != nil {
				t.Fatal(err)
			}
			got := *f
			got.Warnings = nil
			for i := range max(len(got.Releases), len(tc.want.Releases)) {
				if i >= len(got.Releases) || i >= len(tc.want.Releases) {
					t.Fatalf("%d releases, want %d", len(got.Releases), len(tc.want.Releases))
				}
				if g, w := fmt.Sprintf("%+v", got.Releases[i]), fmt.Sprintf("%+v", tc.want.Releases[i]); g != w {
					t.Errorf("release %d:\n got %s\nwant %s", i, g, w)
				}
			}
			got.Releases, tc.want.Releases = nil, nil
			if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", tc.want); g != w {
				t.Errorf("feed:\n got %s\nwant %s", g, w)
			}
			if repaired := warned(f, "repaired"); repaired != (tc.file == "archipel.xml") {
				t.Errorf("repaired: %v", repaired)
			}
		})
	}
}

func TestRepairLeavesWellFormedAlone(t *testing.T) {
	t.Parallel()
	f := mustParse(t, rssOf(item("a &amp;amp; <![CDATA[b < c & d]]>", "1", "")))
	if got := f.Releases[0].Title; got != "a & b < c & d" {
		t.Errorf("title %q", got)
	}
	if warned(f, "repaired") {
		t.Error("a well-formed feed was repaired")
	}
	if _, err := parseAt([]byte(rssOf(`<item><title>x</title><description><b></description></item></oops>`)), testBase); err == nil {
		t.Error("what repair cannot mend was accepted")
	}
}

func TestF9Charsets(t *testing.T) {
	t.Parallel()
	const title = "Grüße €"
	decl := func(enc string) string { return `<?xml version="1.0" encoding="` + enc + `"?>` }
	doc := rssOf(item(title, "1", ""))
	u16 := func(s string, bom, big bool) string {
		var b []byte
		if bom {
			s = "\ufeff" + s
		}
		for _, u := range utf16.Encode([]rune(s)) {
			if big {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
		return string(b)
	}
	cp1252 := strings.NewReplacer("ü", "\xfc", "ß", "\xdf", "€", "\x80").Replace(doc)
	for name, tc := range map[string]struct{ body, want string }{
		"utf-8":                     {decl("UTF-8") + doc, title},
		"none":                      {doc, title},
		"bom":                       {"\xef\xbb\xbf" + decl("utf-8") + doc, title},
		"utf-16le bom":              {u16(decl("UTF-16")+doc, true, false), title},
		"utf-16be bom":              {u16(decl("UTF-16")+doc, true, true), title},
		"utf-16le":                  {u16(decl("UTF-16LE")+doc, false, false), title},
		"utf-16be":                  {u16(decl("UTF-16BE")+doc, false, true), title},
		"utf-8 says utf-16":         {decl("UTF-16") + doc, title},
		"utf-16 says utf-8":         {u16(decl("UTF-8")+doc, true, false), title},
		"utf-8 says latin1":         {decl("ISO-8859-1") + doc, title},
		"utf-8 says unknown":        {decl("x-klingon") + doc, title},
		"cp1252":                    {decl("windows-1252") + cp1252, title},
		"cp1252 says utf-8":         {decl("utf-8") + cp1252, title},
		"cp1252 says none":          {cp1252, title},
		"cp1252 like a mark":        {decl("windows-1252") + rssOf(strings.Repeat(" ", 1024), item("\xff\xfe a \xff\xfe", "1", "")), "ÿþ a ÿþ"},
		"koi8-r":                    {decl("koi8-r") + rssOf(item("\xd4\xc5\xd3\xd4", "1", "")), "тест"},
		"shift_jis":                 {decl("Shift_JIS") + rssOf(item("\x83\x65\x83\x58\x83\x67", "1", "")), "テスト"},
		"one bad byte":              {rssOf(item("Grüße\xff", "1", "")), "Grüße"},
		"nul and controls":          {rssOf(item("a\x00b\x07c\x1b", "1", "")), "abc"},
		"references to controls":    {rssOf(item("a&#0;b&#27;[31mc&#x85;d", "1", "")), "abc…d"},
		"declaration in the middle": {rssOf(item(title, "1", "")), title},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := parseAt([]byte(tc.body), testBase)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Releases[0].Title; got != tc.want {
				t.Errorf("title %q, want %q", got, tc.want)
			}
		})
	}
	for name, body := range map[string]string{
		"unknown":            decl("x-klingon") + cp1252,
		"replaced by w3c":    decl("iso-2022-kr") + cp1252,
		"binary":             doc + "\x00\xff\xfe",
		"second declaration": rssOf(decl("koi8-r"), item("x", "1", "")),
	} {
		if f, err := parseAt([]byte(body), testBase); err == nil {
			t.Errorf("%s: accepted as %q", name, f.Releases[0].Title)
		}
	}
}

func TestF10Enclosures(t *testing.T) {
	t.Parallel()
	const head = `<item><guid>1</guid>`
	for name, tc := range map[string]struct {
		enclosures string
		url        string // "": left out
		length     int64
	}{
		"none":             {``, "", 0},
		"empty":            {`<enclosure/>`, "", 0},
		"first is best":    {`<enclosure url="http://h/a.xvm" length="1"/><enclosure url="http://h/b.xvm" length="2"/>`, "http://h/a.xvm", 1},
		"package wins":     {`<enclosure url="http://h/a.png" type="image/png"/><enclosure url="http://h/a.iso"/><enclosure url="http://h/a.ova"/><enclosure url="http://h/a.xvm2?x=1"/>`, "http://h/a.xvm2?x=1", 0},
		"type":             {`<enclosure url="http://h/1" type="text/html"/><enclosure url="http://h/2"/><enclosure url="http://h/3" type="application/Enomalism2-XVM2; x"/>`, "http://h/3", 0},
		"name beats type":  {`<enclosure url="http://h/a.xvm" type="text/html"/><enclosure url="http://h/a.asc" type="application/x-xvm"/>`, "http://h/a.xvm", 0},
		"compressed disk":  {`<enclosure url="http://h/x"/><enclosure url="http://h/a.IMG.gz"/>`, "http://h/a.IMG.gz", 0},
		"zero":             {`<enclosure url="http://h/a.xvm" length="0"/>`, "http://h/a.xvm", 0},
		"negative":         {`<enclosure url="http://h/a.xvm" length="-5"/>`, "http://h/a.xvm", 0},
		"2^63":             {`<enclosure url="http://h/a.xvm" length="9223372036854775808"/>`, "http://h/a.xvm", 0},
		"2^63-1":           {`<enclosure url="http://h/a.xvm" length="9223372036854775807"/>`, "http://h/a.xvm", 1<<63 - 1},
		"words":            {`<enclosure url="http://h/a.xvm" length="big"/>`, "http://h/a.xvm", 0},
		"only a signature": {`<enclosure url="http://h/a.xvm.asc"/>`, "", 0},
		"bad then good":    {`<enclosure url="ftp://h/a.xvm"/><enclosure url="http://h/b.img"/>`, "http://h/b.img", 0},
		"xml:base":         {`<enclosure xml:base="http://b/x/y" url="a.xvm?a&amp;b"/>`, "http://b/x/a.xvm?a&b", 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := parseAt([]byte(rssOf(head+tc.enclosures+"</item>")), testBase)
			if tc.url == "" {
				if !errors.Is(err, ErrNoReleases) {
					t.Errorf("%+v, %v", f, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r := f.Releases[0]; r.URL != tc.url || r.Length != tc.length {
				t.Errorf("%s %d", r.URL, r.Length)
			}
		})
	}
	f := mustParse(t, rssOf(head+"<title>empty</title></item>", item("ok", "2", "")))
	if len(f.Releases) != 1 || !warned(f, "item 1 (empty) is left out: it has no enclosure") {
		t.Errorf("%+v", f)
	}
	if f := mustParse(t, rssOf()); len(f.Releases) != 0 {
		t.Errorf("%+v", f)
	}
}

func TestF11DuplicateIDs(t *testing.T) {
	t.Parallel()
	a, b, c := item("old", "x", "2020-01-01"), item("new", "x", "2021-01-01"), item("undated", "x", "")
	for _, items := range [][]string{{a, b, c}, {b, a, c}, {c, b, a}} {
		f := mustParse(t, rssOf(items...))
		if len(f.Releases) != 1 || f.Releases[0].Title != "new" || !warned(f, "same id") {
			t.Errorf("%+v", f)
		}
	}
	f := mustParse(t, rssOf(item("first", "x", "2020-01-01"), item("second", "x", "2020-01-01")))
	if f.Releases[0].Title != "first" {
		t.Errorf("%+v", f)
	}
}

func TestF13OrderWithOddDates(t *testing.T) {
	t.Parallel()
	f := mustParse(t, rssOf(
		item("u1", "1", "yesterday"), item("py", "2", "2016-11-07 09:51:30.12"), item("u2", "3", ""),
		item("rfc", "4", "Mon, 07 Nov 2016 09:51:31 GMT"), item("zero", "5", "0000-00-00 00:00:00")))
	var got []string
	for _, r := range f.Releases {
		got = append(got, r.Title)
	}
	if s := strings.Join(got, " "); s != "rfc py u1 u2 zero" {
		t.Errorf("order %s", s)
	}
	if !warned(f, `item 1 (u1): its date "yesterday" is not understood`) || warned(f, "item 3") {
		t.Errorf("%q", f.Warnings)
	}
}

func TestF14Future(t *testing.T) {
	t.Parallel()
	f := mustParse(t, rssOf(item("next", "1", time.Now().Add(48*time.Hour).Format(time.RFC1123Z)), item("now", "2", time.Now().Format(time.RFC1123Z))))
	if !warned(f, "item 1 (next) is dated in the future") || len(f.Warnings) != 1 {
		t.Errorf("%q", f.Warnings)
	}
	for at, want := range map[time.Duration]string{0: "now", 25 * time.Hour: "next", -72 * time.Hour: "next"} {
		if got := f.Newest(time.Now().Add(at)).Title; got != want {
			t.Errorf("at %v the newest is %q, want %q", at, got, want)
		}
	}
}

func TestF16Roots(t *testing.T) {
	t.Parallel()
	binary := "7z\xbc\xaf{\x00" + strings.Repeat("\xfe\x01\x02", 700) // with what begins UTF-16
	for _, body := range []string{`<svg/>`, `<opml><body/></opml>`, `<x:Envelope xmlns:x="y"/>`, binary} {
		if _, err := parseAt([]byte(body), testBase); !errors.Is(err, ErrNotFeed) {
			t.Errorf("%s: %v", body, err)
		}
	}
	// An item of another vocabulary is none of ours.
	f := mustParse(t, rssOf(`<x:item xmlns:x="urn:x"><title>no</title><enclosure url="http://h/x.xvm"/></x:item>`, item("yes", "1", "")))
	if len(f.Releases) != 1 || f.Releases[0].Title != "yes" {
		t.Errorf("%+v", f)
	}
	// Core elements in the namespace of the root are.
	f = mustParse(t, strings.Replace(rssOf(item("yes", "1", "")), "<rss", `<rss xmlns="http://backend.userland.com/rss2"`, 1))
	if len(f.Releases) != 1 || f.Releases[0].ID != "1" {
		t.Errorf("%+v", f)
	}
	for _, body := range []string{"<rss><channel>", rssOf() + "<rss/>", "<rss></channel></rss>", "<rss><channel></rss></channel>", rssOf("</item>")} {
		if _, err := parseAt([]byte(body), testBase); !isSyntax(err) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestF17TextOnly(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`<![CDATA[a ]]]]><![CDATA[> b]]>`:             "a ]]> b",
		`Debian <b>12</b>`:                            "Debian 12",
		`Debian &lt;b&gt;12&lt;/b&gt;`:                "Debian 12",
		`<![CDATA[<script>alert(1)</script>x]]>`:      "alert(1)x",
		`a &lt; b &gt; c`:                             "a < b > c",
		`<![CDATA[host <web-1> & co]]>`:               "host <web-1> & co",
		`AT&amp;T &amp;copy=2`:                        "AT&T &copy=2",
		`<![CDATA[<!-- hidden --><img src=x>shown]]>`: "shown",
	} {
		if got := mustParse(t, rssOf(item(in, "1", ""))).Releases[0].Title; got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestH1Schemes(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://h/a.xvm":                        "http://h/a.xvm",
		"HTTPS://h/a.xvm#frag":                  "https://h/a.xvm",
		"//h/a.xvm":                             "https://h/a.xvm",
		"../a.xvm":                              "https://feeds.example.org/a.xvm",
		"/a b.xvm":                              "https://feeds.example.org/a%20b.xvm",
		"?x=1":                                  "https://feeds.example.org/dir/vmcast.xml?x=1",
		"file:///etc/shadow":                    "",
		"ftp://h/a.xvm":                         "",
		"gopher://h/a.xvm":                      "",
		"unix:/run/x.sock":                      "",
		"data:text/plain,x":                     "",
		"javascript:alert(1)":                   "",
		"http:a.xvm":                            "",
		"http:///a.xvm":                         "",
		"http://:80/a.xvm":                      "",
		"http://h:port/":                        "",
		"http://h/\x01":                         "http://h/",
		"http://[::1/":                          "",
		"\\\\h\\share\\a.xvm":                   "https://feeds.example.org/dir/%5C%5Ch%5Cshare%5Ca.xvm",
		"":                                      "",
		"http://" + strings.Repeat("a", maxURL): "",
	} {
		f, err := parseAt([]byte(rssOf(`<item><guid>1</guid><enclosure type="application/x-xvm" url="`+strings.ReplaceAll(raw, "&", "&amp;")+`"/></item>`)), testBase)
		switch {
		case want == "" && !errors.Is(err, ErrNoReleases):
			t.Errorf("%.40q: %+v, %v", raw, f, err)
		case want != "" && (err != nil || f.Releases[0].URL != want):
			t.Errorf("%.40q: %+v, %v", raw, f, err)
		}
	}
	local := []byte(rssOf(`<item><guid>1</guid><enclosure url="a.xvm"/></item>`, `<item><guid>2</guid><enclosure url="file:///srv/b.xvm"/></item>`,
		`<item><guid>3</guid><enclosure url="http://h/c.xvm"/></item>`, `<item><guid>4</guid><enclosure url="file://other/d.xvm"/></item>`))
	for _, base := range []string{"/srv/feeds/vmcast.xml", "file:///srv/feeds/vmcast.xml"} {
		f, err := parseAt(local, base)
		if err != nil || len(f.Releases) != 3 || f.Releases[0].URL != "file:///srv/feeds/a.xvm" || f.Releases[1].URL != "file:///srv/b.xvm" {
			t.Errorf("%s: %+v, %v", base, f, err)
		}
	}
	f, err := parseAt([]byte(rssOf(`<item><enclosure url="a.xvm"/></item>`, `<item><enclosure url="http://me:pw@h/b.xvm"/></item>`)), "https://u:secret@h/feed.xml")
	if err != nil || f.Releases[0].URL != "https://h/a.xvm" {
		t.Errorf("the feed's credentials went to an enclosure: %+v, %v", f, err)
	}
	if !warned(f, "password") || warned(f, "pw") {
		t.Errorf("%q", f.Warnings)
	}
}

func TestWarningsAreBoundedAndClean(t *testing.T) {
	t.Parallel()
	f := mustParse(t, rssOf(strings.Repeat("<item><title>&#x9b;31m\u202ebad</title></item>", 300), item("ok", "1", "")))
	if len(f.Warnings) != maxWarnings+1 || f.Warnings[maxWarnings] != "and 200 more" {
		t.Errorf("%d warnings, the last %q", len(f.Warnings), f.Warnings[len(f.Warnings)-1])
	}
	for _, w := range f.Warnings {
		if show.Text(w) != w {
			t.Errorf("%q", w)
		}
	}
}

// bigFeed is a feed of n ordinary items, of about 700 bytes each.
func bigFeed(n int) []byte {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`<item><title>Appliance %d &amp; co</title><link>https://h.example/%d</link>
<description>&lt;p&gt;%s&lt;/p&gt;</description><category>linux</category><guid isPermaLink="false">urn:x:%d</guid>
<pubDate>%s</pubDate><enclosure url="https://h.example/p/%d.xvm" length="%d" type="application/x-xvm"/></item>`,
			i, i, strings.Repeat("release notes ", 20), i, time.Unix(1.6e9+int64(i)*60, 0).UTC().Format(time.RFC1123), i, i)
	}
	return []byte(rssOf(items...))
}

func BenchmarkParse10000(b *testing.B) {
	body := bigFeed(10_000)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseAt(body, testBase); err != nil {
			b.Fatal(err)
		}
	}
}
