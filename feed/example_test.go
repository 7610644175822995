package feed_test

import (
	"fmt"
	"log"
	"time"

	"vmcastfs/feed"
)

// A feed is written, served, fetched and parsed.
func Example() {
	channel := feed.Channel{
		Title: "Appliances of example.org",
		Link:  "https://example.org/",
		Items: []feed.Entry{{
			ID:        "urn:example:debian-12.5",
			Title:     "Debian 12.5",
			URL:       "https://example.org/vm/debian-12.5.xvm",
			Length:    310 << 20,
			Published: time.Date(2026, 2, 3, 10, 0, 0, 0, time.UTC),
			NotesHTML: "<p>With <b>kernel 6.12</b><script>alert('no')</script></p>",
		}},
	}
	body, err := channel.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	f, err := feed.Parse(feed.Document{Body: body, FinalURL: "https://example.org/vm/vmcast.xml"})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range f.Releases {
		fmt.Println(r.Name, r.Published.Format(time.DateOnly))
		fmt.Println(r.URL, r.Length)
		fmt.Println(r.NotesHTML)
	}
	// Output:
	// Debian-12.5 2026-02-03
	// https://example.org/vm/debian-12.5.xvm 325058560
	// <p>With <b>kernel 6.12</b></p>
}
