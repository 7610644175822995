package feed

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// atomOf is an Atom feed of entries.
func atomOf(entries ...string) string {
	return `<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://b.example/dir/"><title type="html">A&amp;amp;B</title>` + strings.Join(entries, "") + `</feed>`
}

// entry is a usable Atom entry with these elements in it.
func entry(n int, elements string) string {
	return fmt.Sprintf(`<entry>%s<link rel="enclosure" href="http://h.example/%d.xvm"/></entry>`, elements, n)
}

func idsOf(f *Feed) (ids []string) {
	for _, r := range f.Releases {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestIDsAreComparedAsWritten: RFC 4287, section 4.2.6.1. Ids that name one
// resource as URLs are different ids.
func TestIDsAreComparedAsWritten(t *testing.T) {
	t.Parallel()
	ids := []string{
		"URN:UUID:1225c695-cfb8-4ebb-aaaa-80da344efa6a", "urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a", "urn:uuid:1225C695-CFB8-4EBB-AAAA-80DA344EFA6A",
		"http://example.org/thing", "http://EXAMPLE.org/thing", "HTTP://example.org/thing", "http://example.org/thing#", "http://example.org/thing/", "http://example.org/thing?",
		"http://example.org/bücher", "http://example.org/b%C3%BCcher", "http://example.org/b%c3%bccher", "http://example.org/./thing", "http://example.org:80/thing",
		"thing", "Thing", "../thing", "#thing", "a&b", "a&amp;b", "a<b>c", `a"b`, "tag:example.org,2026:a%2Fb", "tag:example.org,2026:a/b", "id:61", "61", "2016-11-07", "7", "7.0", "07",
	}
	want := slices.Clone(ids)
	slices.Sort(want)
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	forms := map[string]func(id string, n int) string{
		"rss": func(id string, n int) string {
			return fmt.Sprintf(`<item><guid isPermaLink="true">%s</guid><enclosure url="http://h.example/%d.xvm"/></item>`, escape(id), n)
		},
		"rss cdata": func(id string, n int) string {
			return fmt.Sprintf("<item><guid>\n<![CDATA[%s]]> </guid><enclosure url=\"http://h.example/%d.xvm\"/></item>", id, n)
		},
		"rss uuid": func(id string, n int) string {
			return fmt.Sprintf(`<item><uuid>%s</uuid><enclosure url="http://h.example/%d.xvm"/></item>`, escape(id), n)
		},
		"atom":       func(id string, n int) string { return entry(n, "<id>"+escape(id)+"</id>") },
		"atom base":  func(id string, n int) string { return entry(n, `<id xml:base="http://x.example/">`+escape(id)+"</id>") },
		"atom cdata": func(id string, n int) string { return entry(n, "<id> <![CDATA["+id+"]]></id>") },
		"atom prefix": func(id string, n int) string {
			return fmt.Sprintf(`<a:entry xmlns:a="http://www.w3.org/2005/Atom"><a:id>%s</a:id><a:link rel="enclosure" href="http://h.example/%d.xvm"/></a:entry>`, escape(id), n)
		},
		"json": func(id string, n int) string {
			b, _ := json.Marshal(id)
			return fmt.Sprintf(`{"id":%s,"attachments":[{"url":"http://h.example/%d.xvm"}]}`, b, n)
		},
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var items []string
			for n, id := range ids {
				items = append(items, form(id, n))
			}
			doc := rssOf(items...)
			switch {
			case strings.HasPrefix(name, "atom"):
				doc = atomOf(items...)
			case name == "json":
				doc = `{"version":"https://jsonfeed.org/version/1","items":[` + strings.Join(items, ",") + `]}`
			}
			if got := idsOf(mustParse(t, doc)); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
	// What cannot be shown is known by its digest, and as one alone.
	odd := []string{"a  b", "a\u202eb", strings.Repeat("x", maxID+1), strings.Repeat("x", maxID+2)}
	var entries []string
	for n, id := range odd {
		entries = append(entries, entry(n, "<id>"+id+"</id>"))
	}
	if got := idsOf(mustParse(t, atomOf(entries...))); len(got) != len(odd) || !strings.HasPrefix(got[0], "sha256:") {
		t.Errorf("%q", got)
	}
}

func TestTitlesByTheirType(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`<title>a &lt;b&gt; c &amp;amp; d</title>`:                                                          "a <b> c &amp; d",
		`<title type="text">a &lt;b&gt; c &amp;#8211; d</title>`:                                            "a <b> c &#8211; d",
		`<title type="text"><![CDATA[x <b> y]]></title>`:                                                    "x <b> y",
		`<title type="html">a &lt;b&gt;c&lt;/b&gt; &amp;amp; d</title>`:                                     "a c & d",
		`<title type="html"><![CDATA[R&#038;D &#8211; 1]]></title>`:                                         "R&D – 1",
		`<title type='HTML'>R&amp;#038;D &amp;ndash; 1</title>`:                                             "R&D – 1",
		`<title type="text/html" mode="escaped">&lt;i&gt;x&lt;/i&gt;</title>`:                               "x",
		`<title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Less: <em>&lt;</em> x</div></title>`: "Less: < x",
		`<title type="xhtml"><x:div xmlns:x="http://www.w3.org/1999/xhtml">a<x:br/>b</x:div></title>`:       "a b",
		`<title type="html">&lt;p&gt;one&lt;/p&gt;&lt;p&gt;H&lt;sub&gt;2&lt;/sub&gt;O&lt;/p&gt;</title>`:    "one H2O",
		`<title type="html">a&#0;b &#x1F;c&#xFFFF;</title>`:                                                 "ab c",
		"<title>\n a\n b </title>":                                                                          "a b",
		`<title/>`:                                                                                          "",
	} {
		if got := mustParse(t, atomOf(entry(1, in+"<id>1</id>"))).Releases[0].Title; got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"R&#038;D &#8211; 1":             "R&D – 1",
		"R&amp;#038;D &amp;#8211; 1":     "R&D – 1",
		"<![CDATA[R&#038;D &#8211; 1]]>": "R&D – 1",
		"R&amp;amp;D":                    "R&D",
		"R&amp;D &eacute;":               "R&D é",
		"AT&amp;T &amp;copy=2 &amp;xxx;": "AT&T &copy=2 &xxx;",
		"a<!-- no -->b":                  "ab",
	} {
		if got := mustParse(t, rssOf(item(in, "1", ""))).Releases[0].Title; got != want {
			t.Errorf("RSS %s: %q, want %q", in, got, want)
		}
		b, _ := json.Marshal(strings.NewReplacer("&#038;", "&", "&#8211;", "–", "&amp;", "&", "&eacute;", "é", "<![CDATA[", "", "]]>", "", "<!-- no -->", "").Replace(in))
		doc := `{"version":"https://jsonfeed.org/version/1","items":[{"id":"1","title":` + string(b) + `,"attachments":[{"url":"http://h/1.xvm"}]}]}`
		if got := mustParse(t, doc).Releases[0].Title; got != want {
			t.Errorf("JSON %s: %q, want %q", b, got, want)
		}
	}
	if got := mustParse(t, atomOf()).Title; got != "A&B" {
		t.Errorf("feed title %q", got)
	}
	if got := mustParse(t, strings.Replace(rssOf(), "<title>t", "<title>A&amp;amp;B <b>c</b>", 1)).Title; got != "A&B c" {
		t.Errorf("channel title %q", got)
	}
}

// TestOtherWaysToNameAPackage: what is no plain <enclosure>.
func TestOtherWaysToNameAPackage(t *testing.T) {
	t.Parallel()
	const ns = ` xmlns:atom="http://www.w3.org/2005/Atom" xmlns:m="http://search.yahoo.com/mrss/"`
	for name, tc := range map[string]struct {
		elements string
		url      string // "": left out
		length   int64
		more     int
	}{
		"attribute case":    {`<enclosure URL="http://h/a.xvm" Length="3" TYPE="application/x-xvm"/>`, "http://h/a.xvm", 3, 0},
		"element case":      {`<Enclosure Url="http://h/a.xvm" LENGTH="3"></Enclosure>`, "http://h/a.xvm", 3, 0},
		"atom:link":         {`<atom:link rel="enclosure" href="a.xvm" length="4" type="x/y"/>`, "https://feeds.example.org/dir/a.xvm", 4, 0},
		"atom:link by IRI":  {`<atom:link REL="http://www.iana.org/assignments/relation/Enclosure" HREF="http://h/a.xvm"/>`, "http://h/a.xvm", 0, 0},
		"atom:link in base": {`<atom:link xml:base="http://b/x/" rel="enclosure" href="a.xvm">text</atom:link>`, "http://b/x/a.xvm", 0, 0},
		"another relation":  {`<atom:link rel="related" href="http://h/a.xvm"/>`, "", 0, 0},
		"a plain link":      {`<link>http://h/a.xvm</link>`, "", 0, 0},
		"media:content":     {`<m:content url="http://h/a.xvm" fileSize="5" type="application/x-xvm"><m:title>x</m:title></m:content>`, "http://h/a.xvm", 5, 0},
		"media:group":       {`<m:group><m:content url="http://h/a.png" medium="image"/><m:content url="http://h/a.xvm" filesize="5"/></m:group>`, "http://h/a.xvm", 5, 0},
		"an avatar":         {`<m:content url="http://h/avatar?s=96" medium="image"/>`, "", 0, 0},
		"enc:enclosure":     {`<e:enclosure xmlns:e="http://purl.oclc.org/net/rss_2.0/enc#" xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" r:resource="http://h/a.xvm" e:length="7"/>`, "http://h/a.xvm", 7, 0},
		"both":              {`<m:content url="http://h/a.xvm" fileSize="5"/><enclosure url="http://h/a.xvm" length="6"/><enclosure url="http://h/b.img"/>`, "http://h/a.xvm", 5, 1},
		"with children":     {`<enclosure url="http://h/a.xvm"><title>no</title><guid>no</guid></enclosure>`, "http://h/a.xvm", 0, 0},
		"content:encoded":   {`<content:encoded xmlns:content="http://purl.org/rss/1.0/modules/content/">x</content:encoded>`, "", 0, 0},
		"default namespace": {`<enclosure xmlns="urn:other" url="http://h/a.xvm"/>`, "http://h/a.xvm", 0, 0},
	} {
		for _, form := range []string{"rss", "atom"} {
			t.Run(name+" "+form, func(t *testing.T) {
				doc := strings.Replace(rssOf(`<item><title>yes</title><guid>1</guid>`+tc.elements+`</item>`, item("other", "2", "")), "<rss", "<rss"+ns, 1)
				if form == "atom" {
					doc = strings.Replace(atomOf(`<entry><title>yes</title><id>1</id>`+tc.elements+`</entry>`, entry(2, "<id>2</id>")), ` xml:base="http://b.example/dir/"`, ns, 1)
				}
				f := mustParse(t, doc)
				at := slices.IndexFunc(f.Releases, func(r Release) bool { return r.ID == "1" })
				switch {
				case at < 0 && tc.url != "" || at >= 0 && tc.url == "":
					t.Errorf("%+v, %q", f.Releases, f.Warnings)
				case at >= 0:
					if r := f.Releases[at]; r.URL != tc.url || r.Length != tc.length || len(r.Alternates) != tc.more || r.Title != "yes" {
						t.Errorf("%+v", r)
					}
				}
			})
		}
	}
	f := mustParse(t, "<!-- made by hand > -->\n<?xml-stylesheet href='x'?> <?xml version=\"1.1\" encoding=\"koi8-r\"?>\n"+rssOf(item("\xd4\xc5\xd3\xd4", "1", "")))
	if got := f.Releases[0].Title; got != "тест" {
		t.Errorf("a comment before the XML declaration: title %q", got)
	}
}

// TestOddJSON: what is odd costs itself, never the feed.
func TestOddJSON(t *testing.T) {
	t.Parallel()
	const good = `{"id":"good","title":"good","attachments":[{"url":"http://h/good.xvm"}]}`
	feedOf := func(version string, items ...string) string {
		return `{"version":` + version + `,"items":[` + strings.Join(append(items, good), ",") + `]}`
	}
	const version = `"https://jsonfeed.org/version/1.1"`
	for _, odd := range []string{
		`"tags":"x"`, `"tags":[1,{}]`, `"author":"me"`, `"author":[]`, `"authors":{"name":1}`, `"authors":"x"`, `"image":7`, `"url":{}`, `"external_url":[]`,
		`"title":7`, `"summary":[]`, `"content_html":{}`, `"content_text":null`, `"date_published":2026`, `"date_published":null`, `"date_modified":{}`, `"language":1`, `"banner_image":false`,
		`"Attachments":null`, `"_ext":{"a":[1,2]}`,
	} {
		f := mustParse(t, feedOf(version, `{"id":"odd",`+odd+`,"attachments":[{"url":"http://h/odd.xvm","size_in_bytes":5}]}`))
		if got := idsOf(f); !slices.Equal(got, []string{"good", "odd"}) {
			t.Errorf("%s: %q", odd, got)
		}
	}
	for attachments, want := range map[string]string{
		`[{"url":"http://h/a.xvm","mime_type":7,"size_in_bytes":"5","title":[],"duration_in_seconds":{}}]`: "http://h/a.xvm 5",
		`[{"url":"http://h/a.xvm","size_in_bytes":5.0}]`:                                                   "http://h/a.xvm 5",
		`[{"url":"http://h/a.xvm","size_in_bytes":[5]}]`:                                                   "http://h/a.xvm 0",
		`[null,1,"x",[],{},{"url":7},{"URL":"http://h/a.xvm"}]`:                                            "http://h/a.xvm 0",
		`{"url":"http://h/a.xvm"}`:                                                                         "http://h/a.xvm 0",
		`"http://h/a.xvm"`:                                                                                 "",
		`[{"url":["http://h/a.xvm"]}]`:                                                                     "",
	} {
		got := ""
		for _, r := range mustParse(t, feedOf(version, `{"id":"odd","attachments":`+attachments+`}`)).Releases {
			if r.ID == "odd" {
				got = fmt.Sprint(r.URL, " ", r.Length)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", attachments, got, want)
		}
	}
	for _, item := range []string{"null", "1", `"x"`, "[]", "{}", `{"id":{}}`} {
		f := mustParse(t, feedOf(version, item))
		if got := idsOf(f); !slices.Equal(got, []string{"good"}) || len(f.Warnings) != 1 {
			t.Errorf("%s: %q, %q", item, got, f.Warnings)
		}
		if _, err := parseAt([]byte(`{"version":"1","items":[`+item+`]}`), testBase); !errors.Is(err, ErrNoReleases) {
			t.Errorf("%s alone: %v", item, err)
		}
	}
	for _, v := range []string{`"1.0"`, `"1"`, `1`, `1.1`, `"http://jsonfeed.org/version/1"`, `"jsonfeed.org/version/1"`} {
		if got := idsOf(mustParse(t, feedOf(v))); len(got) != 1 {
			t.Errorf("version %s: %q", v, got)
		}
	}
	for _, v := range []string{`""`, `null`, `{}`, `"2.0"`, `"x"`, `["1.0"]`} {
		if _, err := parseAt([]byte(feedOf(v)), testBase); err == nil {
			t.Errorf("version %s was accepted", v)
		}
	}
}

// TestCharsetOfTheHeader: RFC 7303, section 3: a byte order mark, the header,
// then the declaration.
func TestCharsetOfTheHeader(t *testing.T) {
	t.Parallel()
	const cyrillic = "Тест" // 0xd2 e5 f1 f2 in Windows-1251
	in1251 := rssOf(item("\xd2\xe5\xf1\xf2", "1", ""))
	inUTF8 := rssOf(item(cyrillic, "1", ""))
	// In Windows-1251 the letters of these marks are two of the alphabet.
	marks := "<!-- \xfe\xff \xfe\xff \xff\xfe \xff\xfe " + strings.Repeat("x", 2000) + " \xfe\xff \xfe\xff -->"
	decl := func(enc string) string { return `<?xml version="1.0" encoding="` + enc + `"?>` }
	inUTF16 := func(order binary.AppendByteOrder, s string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(s)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	for name, tc := range map[string]struct{ contentType, body, want string }{
		"header alone":              {"text/xml; charset=windows-1251", in1251, cyrillic},
		"letters like marks":        {"text/xml; charset=windows-1251", in1251 + marks, cyrillic},
		"declared letters":          {"", decl("windows-1251") + in1251 + marks, cyrillic},
		"quoted, upper case":        {`Application/RSS+XML; x=y; Charset="WINDOWS-1251"`, in1251, cyrillic},
		"in single quotes":          {"text/xml; charset='windows-1251'", in1251, cyrillic},
		"with rubbish behind":       {"text/xml; charset=windows-1251; foo", in1251, cyrillic},
		"given twice":               {"text/xml; charset=windows-1251; charset=utf-8", in1251, cyrillic},
		"joined by a proxy":         {"text/xml, text/xml;charset = windows-1251", in1251, cyrillic},
		"two marks":                 {"text/xml; charset=windows-1251", "\xef\xbb\xbf\xef\xbb\xbf\n" + decl("koi8-r") + inUTF8, cyrillic},
		"UTF-16 behind a line feed": {"text/xml; charset=utf-16", inUTF16(binary.LittleEndian, "\n "+inUTF8), cyrillic},
		"big UTF-16 behind spaces":  {"", inUTF16(binary.BigEndian, " \r\n"+inUTF8), cyrillic},
		"JSON behind a line feed":   {"", inUTF16(binary.BigEndian, "\n"+`{"version":"1","items":[{"id":"1","title":"Тест","attachments":[{"url":"http://h/1.xvm"}]}]}`), cyrillic},
		"a mark behind a line feed": {"", "\n\xef\xbb\xbf" + decl("windows-1251") + inUTF8, cyrillic},
		"header before declaration": {"text/xml; charset=windows-1251", decl("koi8-r") + in1251, cyrillic},
		"a wrong UTF-8 declaration": {"text/xml; charset=windows-1251", decl("utf-8") + in1251, cyrillic},
		"mark before header":        {"text/xml; charset=windows-1251", "\xef\xbb\xbf" + inUTF8, cyrillic},
		"a wrong UTF-8 header":      {"text/xml; charset=utf-8", decl("windows-1251") + in1251, cyrillic},
		"an unknown header":         {"text/xml; charset=x-klingon", decl("windows-1251") + in1251, cyrillic},
		"UTF-8 in both":             {"text/xml; charset=utf-8", decl("windows-1251") + inUTF8, cyrillic},
		"a server's default":        {"text/xml; charset=ISO-8859-1", inUTF8, cyrillic},
		"no charset":                {"text/xml", decl("windows-1251") + in1251, cyrillic},
		"malformed":                 {"text/xml; charset", decl("windows-1251") + in1251, cyrillic},
		"JSON is UTF-8":             {"application/json; charset=windows-1251", `{"version":"1","items":[{"id":"1","title":"Тест","attachments":[{"url":"http://h/1.xvm"}]}]}`, cyrillic},
		"JSON that is not":          {"application/json; charset=windows-1251", "{\"version\":\"1\",\"items\":[{\"id\":\"1\",\"title\":\"\xd2\xe5\xf1\xf2\",\"attachments\":[{\"url\":\"http://h/1.xvm\"}]}]}", cyrillic},
		"Shift JIS":                 {"text/xml;charset=shift_jis", rssOf(item("\x83\x65\x83\x58\x83\x67", "1", "")), "テスト"},
		"GB, valid as UTF-8 too":    {"text/xml; charset=gb18030", rssOf(item("\xcd\xa8", "1", "")), "通"},
	} {
		f, err := Parse(Document{Body: []byte(tc.body), ContentType: tc.contentType, FinalURL: testBase})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := f.Releases[0].Title; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestNamesOutliveTheirFormerIDs: versions that took Atom's ids for URLs have
// given names to what they made of them.
func TestNamesOutliveTheirFormerIDs(t *testing.T) {
	t.Parallel()
	names := new(nameTable)
	old := []Release{{ID: "urn:uuid:AB", Title: "Debian"}, {ID: "http://h/b%C3%BC", Title: "Debian"}, {ID: "http://h/x", Title: "x"}}
	names.assign(old)
	doc := atomOf(entry(1, "<id>URN:uuid:AB</id><title>new</title>"), entry(2, "<id>http://h/bü</id>"), entry(3, "<id>http://h/x</id>"), entry(4, "<id>http://h/x#</id><title>x</title>"))
	want := map[string]string{"URN:uuid:AB": old[0].Name, "http://h/bü": old[1].Name, "http://h/x": "x", "http://h/x#": "x-" + digest("http://h/x#")[:8]}
	for range 2 {
		f, err := parse(Document{Body: []byte(doc), FinalURL: testBase}, names)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Releases {
			if r.Name != want[r.ID] {
				t.Errorf("%s is called %q, want %q", r.ID, r.Name, want[r.ID])
			}
		}
	}
}

// TestIDsOfRDF: an item of RSS 1.0 is what rdf:about says. Versions that knew no
// rdf:about took the address of the package, and their names stay.
func TestIDsOfRDF(t *testing.T) {
	t.Parallel()
	names := new(nameTable)
	names.assign([]Release{{ID: urlID("http://h/a.xvm"), Title: "old name"}})
	const enclosure = `<title>x</title><enclosure url="http://h/a.xvm"/>`
	doc := `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"><channel rdf:about="http://c/"><title>t</title></channel>` +
		`<item rdf:about="urn:A">` + enclosure + `</item><item rdf:about=" urn:a ">` + enclosure + `</item><item about="no"><guid>guid</guid>` + enclosure + `</item>` +
		`<item rdf:about="http://h/b#"><guid/>` + enclosure + `</item><item rdf:about="urn:none"/><item><title>y</title><enclosure url="http://h/b.xvm"/></item></rdf:RDF>`
	f, err := parse(Document{Body: []byte(doc), FinalURL: testBase}, names)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := idsOf(f), []string{"guid", "http://h/b#", urlID("http://h/b.xvm"), "urn:A", "urn:a"}; !slices.Equal(got, want) {
		t.Errorf("ids %q, want %q", got, want)
	}
	if at := slices.IndexFunc(f.Releases, func(r Release) bool { return r.ID == "urn:A" }); at < 0 || f.Releases[at].Name != "old-name" && f.Releases[at].Name != "old name" {
		t.Errorf("its name has changed: %+v", f.Releases)
	}
}

// TestDigestOfTheEnclosure: in every kind of feed, of the package that is chosen.
func TestDigestOfTheEnclosure(t *testing.T) {
	t.Parallel()
	sum := digest("package")
	const url = `url="http://h/a.img"`
	for name, tc := range map[string]struct{ doc, want string }{
		"rss":           {rssOf(`<item xmlns:vmcast="urn:vmcast:feed:1"><enclosure ` + url + ` type="application/x; y=z" vmcast:sha256="` + sum + `"/></item>`), sum},
		"another case":  {rssOf(`<item xmlns:v="urn:vmcast:feed:1"><enclosure ` + url + ` type="application/x" v:SHA256=" ` + strings.ToUpper(sum) + `"/></item>`), sum},
		"atom":          {atomOf(`<entry xmlns:v="urn:vmcast:feed:1"><link rel="enclosure" href="http://h/a.img" type="application/x" v:sha256="` + sum + `"/></entry>`), sum},
		"json":          {`{"version":"1","items":[{"attachments":[{"url":"http://h/a.img","mime_type":"application/x","_vmcast":{"sha256":"` + sum + `"}}]}]}`, sum},
		"odd json":      {`{"version":"1","items":[{"attachments":[{"url":"http://h/a.img","mime_type":"application/x","_vmcast":[7]}]}]}`, ""},
		"none":          {rssOf(`<item><enclosure ` + url + ` type="application/x"/></item>`), ""},
		"too short":     {rssOf(`<item><enclosure ` + url + ` type="application/x" sha256="` + sum[1:] + `"/></item>`), ""},
		"no hex":        {rssOf(`<item><enclosure ` + url + ` type="application/x" sha256="` + strings.Repeat("g", 64) + `"/></item>`), ""},
		"in the type":   {rssOf(`<item><enclosure ` + url + ` type="application/x;vmcast-sha256=` + sum + `"/></item>`), ""},
		"of the chosen": {rssOf(`<item><enclosure url="http://h/b" sha256="` + digest("b") + `"/><enclosure ` + url + ` type="application/x" sha256="` + sum + `"/></item>`), sum},
	} {
		if r := mustParse(t, tc.doc).Releases[0]; r.SHA256 != tc.want || r.Type != "application/x" {
			t.Errorf("%s: SHA-256 %q of type %q, want %q", name, r.SHA256, r.Type, tc.want)
		}
	}
}
