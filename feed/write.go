package feed

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vmcastfs/feed/show"
)

// Channel is a feed to be written.
type Channel struct {
	Title       string        // required
	Link        string        // page about the feed, required by RSS; "": Self, else the directory of the first package
	Description string        // "": the title
	Self        string        // URL under which the feed will be found; "": not said
	TTL         time.Duration // whole minutes; 0: not said
	Built       time.Time     // lastBuildDate; zero: not said
	Items       []Entry       // in any order

	// Signed is what the feed was made of, by URL, and when that was signed; see [SignedIn].
	Signed map[string]time.Time
}

// Entry is one release of a [Channel].
type Entry struct {
	ID        string    // guid; "": the URL. It must never change, nor be used again
	Title     string    // "": the last part of the URL
	URL       string    // absolute, http or https, required
	Length    int64     // bytes of the package, required
	SHA256    string    // of the package, in lower-case hex; "": not said
	Type      string    // MIME type; "": by the end of the URL
	Published time.Time // required
	NotesHTML string    // release notes; scripts, styles and the like are left out
}

// Marshal writes the channel as RSS 2.0, newest item first. The same channel
// gives the same bytes.
func (c Channel) Marshal() ([]byte, error) {
	items, err := c.normal()
	if err != nil {
		return nil, err
	}
	link := cmp.Or(c.Link, c.Self)
	if link == "" && len(items) > 0 {
		link = items[0].URL[:strings.LastIndexByte(items[0].URL, '/')+1]
	}
	if c.Title == "" || link == "" {
		return nil, errors.New("write feed: a feed needs a title and a link")
	}
	w := &xmlWriter{}
	w.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	w.raw(`<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"`)
	if len(c.Signed) > 0 || slices.ContainsFunc(items, func(e Entry) bool { return e.SHA256 != "" }) {
		w.raw(` xmlns:vmcast="` + namespace + `"`)
	}
	w.raw(">\n<channel>\n")
	w.text("  ", "title", c.Title)
	w.text("  ", "link", link)
	w.text("  ", "description", cmp.Or(c.Description, c.Title))
	if c.Self != "" {
		w.raw(`  <atom:link href="` + escapeXML(c.Self) + `" rel="self" type="application/rss+xml"/>` + "\n")
	}
	if !c.Built.IsZero() {
		w.text("  ", "lastBuildDate", rfc822(c.Built))
	}
	if m := int64(c.TTL / time.Minute); m > 0 {
		w.text("  ", "ttl", fmt.Sprint(m))
	}
	for _, address := range slices.Sorted(maps.Keys(c.Signed)) {
		w.raw(`  <vmcast:signed href="` + escapeXML(address) + `" at="` + c.Signed[address].UTC().Format(time.RFC3339) + `"/>` + "\n")
	}
	for _, e := range items {
		w.raw("  <item>\n")
		w.text("    ", "title", e.Title)
		if e.NotesHTML != "" {
			w.text("    ", "description", e.NotesHTML)
		}
		w.raw(`    <guid isPermaLink="false">` + escapeXML(e.ID) + "</guid>\n")
		w.text("    ", "pubDate", rfc822(e.Published))
		w.raw(fmt.Sprintf(`    <enclosure url="%s" length="%d" type="%s"`, escapeXML(e.URL), e.Length, escapeXML(e.Type)))
		if e.SHA256 != "" {
			w.raw(` vmcast:sha256="` + e.SHA256 + `"`)
		}
		w.raw("/>\n")
		w.raw("  </item>\n")
	}
	w.raw("</channel>\n</rss>\n")
	return w.b.Bytes(), nil
}

// normal checks the entries, fills in what they leave open and sorts them.
func (c Channel) normal() ([]Entry, error) {
	items := slices.Clone(c.Items)
	ids := map[string]bool{}
	for i := range items {
		e := &items[i]
		u, err := url.Parse(e.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(e.URL) > maxURL {
			return nil, fmt.Errorf("write feed: %q is no http or https URL that a feed may carry", show.Text(show.Clip(e.URL, 200)))
		}
		e.URL = u.String()
		e.ID = cmp.Or(e.ID, e.URL)
		e.Title = cmp.Or(plainTitle(e.Title), show.Text(u.Path[strings.LastIndexByte(u.Path, '/')+1:]), e.ID)
		e.Type = cmp.Or(e.Type, typeOf(u.Path))
		e.NotesHTML = sanitizeHTML(e.NotesHTML)
		e.Published = e.Published.UTC().Truncate(time.Second)
		switch {
		case e.Length < 0:
			return nil, fmt.Errorf("write feed: %s has a negative length", show.ParsedURL(u))
		case e.Published.Year() < 1970 || e.Published.Year() > 9999:
			return nil, fmt.Errorf("write feed: %s has no date", show.ParsedURL(u))
		case len(e.ID) > maxID || show.Text(e.ID) != e.ID:
			return nil, fmt.Errorf("write feed: %s has an id that readers could not show", show.ParsedURL(u))
		case e.SHA256 != "" && !isSHA256(e.SHA256):
			return nil, fmt.Errorf("write feed: %s has a SHA-256 that is none", show.ParsedURL(u))
		case ids[e.ID]:
			return nil, fmt.Errorf("write feed: two items have the id %q", e.ID)
		}
		ids[e.ID] = true
	}
	slices.SortFunc(items, func(a, b Entry) int {
		return cmp.Or(b.Published.Compare(a.Published), cmp.Compare(b.ID, a.ID))
	})
	return items, nil
}

// SignedIn reads [Channel.Signed] of a feed that Marshal wrote, as far as there is one.
func SignedIn(doc []byte) map[string]time.Time {
	var f struct {
		Signed []struct {
			Href string    `xml:"href,attr"`
			At   time.Time `xml:"at,attr"`
		} `xml:"channel>signed"`
	}
	_ = xml.Unmarshal(doc, &f) // what it was made of is not known then
	signed := make(map[string]time.Time)
	for _, s := range f.Signed {
		signed[s.Href] = s.At
	}
	return signed
}

// Update is Marshal over old, an earlier version of the same feed. An entry without
// an id keeps the one that its URL had. An item whose id was there before, with a
// package of the same length, keeps its title and its date. It keeps its notes unless
// the new entry has some. Items that are not in c go. If nothing but Built differs, old
// is returned as it is. Without old it is Marshal.
func (c Channel) Update(old []byte) ([]byte, error) {
	if len(old) == 0 {
		return c.Marshal()
	}
	base := cmp.Or(c.Self, c.Link)
	was, err := Parse(Document{Body: old, FinalURL: base})
	if err != nil && !errors.Is(err, ErrNoReleases) {
		return nil, fmt.Errorf("update feed: %w", err)
	}
	if was == nil {
		was = &Feed{}
	}
	byURL, byID := map[string]*Release{}, map[string]*Release{}
	for i := range was.Releases {
		r := &was.Releases[i]
		byURL[r.URL], byID[r.ID] = r, r
	}
	c.Items = slices.Clone(c.Items)
	for i := range c.Items { // an id that is not said stays as it was
		e := &c.Items[i]
		if u, err := url.Parse(e.URL); err == nil && e.ID == "" && byURL[u.String()] != nil {
			e.ID = byURL[u.String()].ID
		}
	}
	if c.Items, err = c.normal(); err != nil {
		return nil, err
	}
	for i := range c.Items {
		e := &c.Items[i]
		r := byID[e.ID]
		if r == nil {
			continue
		}
		if e.Length == r.Length && !r.Published.IsZero() {
			e.Published = r.Published
			e.Title = cmp.Or(r.Title, e.Title)
			e.NotesHTML = cmp.Or(e.NotesHTML, r.NotesHTML)
		}
	}
	built := c.Built
	c.Built = was.Built
	if b, err := c.Marshal(); err != nil || bytes.Equal(b, old) {
		return old, err
	}
	c.Built = built
	return c.Marshal()
}

// rfc822 is the date form of RSS 2.0, with the four-digit year it prefers.
func rfc822(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }

// xmlWriter collects a document.
type xmlWriter struct{ b bytes.Buffer }

func (w *xmlWriter) raw(s string) { w.b.WriteString(s) }

func (w *xmlWriter) text(indent, name, s string) {
	w.raw(indent + "<" + name + ">" + escapeXML(s) + "</" + name + ">\n")
}

// escapeXML escapes text for elements and quoted attributes, and drops what XML
// cannot carry.
func escapeXML(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '"':
			b.WriteString("&quot;")
		case r < ' ' && r != '\t' && r != '\n', r == utf8.RuneError, r == 0xfffe, r == 0xffff:
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
