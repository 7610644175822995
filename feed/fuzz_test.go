package feed

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"vmcastfs/feed/show"
)

// FuzzParse holds Parse to what its documentation promises, whatever the input.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "text/xml")
	}
	for _, s := range []string{
		rssOf(item("a", "1", ""), item("b", "1", "")), `<rss><item/></rss>`, `{"version":"jsonfeed.org","items":[null,{}]}`,
		`<!DOCTYPE rss SYSTEM "x"><rss/>`, "<rss xml:base='a'><channel><item xml:base='b/'><enclosure url='c'/></item></channel></rss>",
		"<feed><entry><link rel='enclosure' href='x'/><content type='xhtml'><div/></content></entry></feed>", rssOf("<item><title>a & <b</title></item>"),
		rssOf(`<item><m:group xml:base="http://b/"><m:content url="a" medium="image"/><m:content URL="a.xvm" fileSize="1"/></m:group><a:link rel="enclosure" href="b.xvm"/></item>`),
		atomOf(entry(1, `<id xml:base="http://b/">URN:ü#</id><title type="xhtml"><div>a<x>b</x></div></title><published>20260203T100000Z</published>`)),
		"<!-- a --><?xml version='1.1' encoding='koi8-r'?><rss><channel><title><![CDATA[&#038;]]></title></channel></rss>",
		`{"version":1,"items":[{"id":7,"title":{},"attachments":{"url":"a.xvm","size_in_bytes":"5"}}]}`,
	} {
		f.Add([]byte(s), "text/xml; charset=windows-1251")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		var names nameTable
		feed, err := parse(Document{Body: body, ContentType: contentType, FinalURL: testBase}, &names)
		if err != nil {
			if feed != nil {
				t.Error("a feed and an error")
			}
			if names.round != 0 {
				t.Error("names were assigned for a bad feed")
			}
			for _, known := range []error{errTooLarge, ErrHTML, ErrNotFeed, errEntities, errTooDeep, errCharset, ErrNoReleases} {
				if errors.Is(err, known) {
					return
				}
			}
			if !isSyntax(err) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		ids, taken := map[string]bool{}, map[string]bool{}
		for i, r := range feed.Releases {
			checkName(t, r.Name)
			if r.ID == "" || ids[r.ID] || show.Text(r.ID) != r.ID || len(r.ID) > maxID {
				t.Errorf("id %q", r.ID)
			}
			if !IsName(r.Name) || taken[fold(r.Name)] {
				t.Errorf("name %q", r.Name)
			}
			if show.Text(r.Title) != r.Title || len(r.Title) > maxTitle || show.Text(r.Type) != r.Type {
				t.Errorf("title %q, type %q", r.Title, r.Type)
			}
			for _, raw := range append(slices.Clone(r.Alternates), r.URL) {
				if u, err := url.Parse(raw); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
					t.Errorf("URL %q", raw)
				}
			}
			if r.Length < 0 || sanitizeHTML(r.NotesHTML) != r.NotesHTML || len(r.NotesHTML) > maxNotes {
				t.Errorf("length %d, notes %q", r.Length, r.NotesHTML)
			}
			if i > 0 && feed.Releases[i-1].Published.Before(r.Published) {
				t.Error("not newest first")
			}
			ids[r.ID], taken[fold(r.Name)] = true, true
		}
		for _, w := range append(feed.Warnings, feed.Title) {
			if show.Text(w) != w {
				t.Errorf("%q", w)
			}
		}
		again, err := parse(Document{Body: body, ContentType: contentType, FinalURL: testBase}, &names)
		if err != nil || len(again.Releases) != len(feed.Releases) {
			t.Fatalf("not repeatable: %v", err)
		}
		for i := range again.Releases {
			if again.Releases[i].Name != feed.Releases[i].Name || again.Releases[i].ID != feed.Releases[i].ID {
				t.Errorf("%+v, then %+v", feed.Releases[i], again.Releases[i])
			}
		}
		roundTrip(t, feed)
	})
}

// roundTrip writes a feed and reads it again.
func roundTrip(t *testing.T, f *Feed) {
	t.Helper()
	c := Channel{Title: "t", Link: "https://h/"}
	for _, r := range f.Releases {
		if r.Published.IsZero() || strings.Contains(r.URL, "@") {
			return
		}
		c.Items = append(c.Items, Entry{ID: r.ID, Title: r.Title, URL: r.URL, Length: r.Length, Type: r.Type, SHA256: r.SHA256, Published: r.Published, NotesHTML: r.NotesHTML})
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatalf("write what was read: %v", err)
	}
	if same, err := c.Update(b); err != nil || string(same) != string(b) {
		t.Errorf("update changes the unchanged: %v\n%s\n%s", err, b, same)
	}
}
