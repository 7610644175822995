package feed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// feedparserScript reads a JSON list of documents and writes, for each, the id
// and the date (seconds since 1970, or null) of its entries as feedparser reads them.
const feedparserScript = `
import calendar, feedparser, json, sys
def date(e):
    d = e.get("published_parsed") or e.get("updated_parsed")
    return calendar.timegm(d) if d else None
json.dump([[[e.get("id", ""), date(e)] for e in feedparser.parse(doc).entries] for doc in json.load(sys.stdin)], sys.stdout)
`

// feedparserReads asks python3-feedparser, which has read feeds for twenty years.
// The test is skipped without it, except where CI is set.
func feedparserReads(t *testing.T, docs []string) [][]map[string]*int64 {
	t.Helper()
	const python = "/usr/bin/python3" // the one that Debian's modules are for
	if err := exec.Command(python, "-c", "import feedparser").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3-feedparser is not installed")
		}
		t.Skip("python3-feedparser is not installed")
	}
	in, err := json.Marshal(docs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", feedparserScript)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var raw [][][2]json.RawMessage
	if err := json.Unmarshal(out, &raw); err != nil {
		t.Fatal(err)
	}
	read := make([][]map[string]*int64, len(raw))
	for n, entries := range raw {
		for _, e := range entries {
			var id string
			var at *int64
			if err := json.Unmarshal(e[0], &id); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(e[1], &at); err != nil {
				t.Fatal(err)
			}
			read[n] = append(read[n], map[string]*int64{id: at})
		}
	}
	return read
}

// TestIDsAgainstFeedparser: both tell the same releases apart.
func TestIDsAgainstFeedparser(t *testing.T) {
	t.Parallel()
	var ids []string
	for _, scheme := range []string{"http://Example.org/", "HTTP://example.org/", "https://example.org:443/", "urn:uuid:", "URN:UUID:", "tag:example.org,2026:"} {
		for _, rest := range []string{"a", "A", "a#", "a?", "a/", "a/../a", "b%C3%BC", "b%c3%bc", "bü", "x&amp;y", "x&amp;amp;y", "%61", "1.0", "a b"} {
			ids = append(ids, scheme+rest)
		}
	}
	var items, entries []string
	for n, id := range ids {
		items = append(items, fmt.Sprintf(`<item><guid isPermaLink="false">%s</guid><enclosure url="http://h.example/%d.xvm"/></item>`, id, n))
		entries = append(entries, entry(n, "<id>"+id+"</id>"))
	}
	docs := []string{rssOf(items...), strings.Replace(atomOf(entries...), ` xml:base="http://b.example/dir/"`, "", 1)}
	for n, theirs := range feedparserReads(t, docs) {
		ours := map[string]bool{}
		for _, r := range mustParse(t, docs[n]).Releases {
			ours[r.ID] = true
		}
		if len(ours) != len(ids) || len(theirs) != len(ids) {
			t.Errorf("document %d: %d ids of %d, feedparser has %d", n, len(ours), len(ids), len(theirs))
		}
		for _, e := range theirs {
			for id := range e {
				if !ours[id] {
					t.Errorf("document %d: feedparser has the id %q, which is none of ours", n, id)
				}
			}
		}
	}
}

// TestDatesAgainstFeedparser: a date that feedparser reads means the same here.
func TestDatesAgainstFeedparser(t *testing.T) {
	t.Parallel()
	var dates []string
	add := func(days, gaps, clocks, zones []string) {
		for _, day := range days {
			dates = append(dates, day)
			for _, gap := range gaps {
				for _, clock := range clocks {
					for _, zone := range zones {
						dates = append(dates, day+gap+clock+zone)
					}
				}
			}
		}
	}
	// Left out is what feedparser gets wrong: ISO dates with -0530 for -05:30, with a
	// leap second, by the day of the year, with 24:00 or without dashes before a space.
	days, zones := []string{"2026-02-03", "2003-12-31", "1999-01-01"}, []string{"Z", "+01:00", "-05:30", ""}
	add(days, []string{"T", " "}, []string{"10:00:00", "09:05", "23:59:59.25"}, zones)
	add(append(days, "20260203"), []string{"T"}, []string{"24:00:00", "10:00:00"}, zones)
	add([]string{"Tue, 03 Feb 2026", "3 Feb 2026", "Wed, 31 Dec 2003", "03 Feb 26", "Thu, 29 Feb 2024"}, []string{" "},
		[]string{"10:00:00", "09:05", "00:00:00", "24:00:00", "07"}, []string{" GMT", " +0100", " -0530", " EST", " PDT", " MET", " MEST", " UT", " Z", " AST", " ET", " PT", ""})
	add([]string{"Tue Feb  3", "Wed Dec 31"}, []string{" "}, []string{"10:00:00", "09:05:07"}, []string{" 2026", " UTC 2003"})
	dates = append(dates, "2026", "2026-02", "2003-12", "Sun, 06 Nov 1994 08:49:37 GMT", "Tue, 10 Sep 2013 10:00:00 +0000", "2016-11-07 09:51:30.123456", "1970-01-01T00:00:01Z")
	var items, entries []string
	for n, d := range dates {
		items = append(items, item("x", fmt.Sprint("id", n), d))
		entries = append(entries, entry(n, fmt.Sprintf("<id>id%d</id><published>%s</published>", n, d)))
	}
	docs := []string{rssOf(items...), strings.Replace(atomOf(entries...), ` xml:base="http://b.example/dir/"`, "", 1)}
	read := 0
	for n, theirs := range feedparserReads(t, docs) {
		ours := map[string]time.Time{}
		for _, r := range mustParse(t, docs[n]).Releases {
			ours[r.ID] = r.Published
		}
		for i, e := range theirs {
			for id, at := range e {
				if at == nil {
					continue
				}
				if read++; ours[id].Unix() != *at {
					t.Errorf("document %d: %q is %v, feedparser has %v", n, dates[i], ours[id], time.Unix(*at, 0).UTC())
				}
			}
		}
	}
	if read < len(dates) {
		t.Errorf("feedparser read only %d of %d dates", read, 2*len(dates))
	}
}
