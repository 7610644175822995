package page

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// Source is what the page shows. Its functions may be called from any goroutine,
// and answer from memory.
type Source struct {
	Dir, Version string
	Status       func() catalog.Status
	// Picture shows an image in at most so many pieces; boot: with its last boot.
	Picture  func(release, file string, pieces int, boot bool) (catalog.Boot, bool)
	Pinned   func() map[store.Key]int64 // bytes
	Machines func() []Machine
	Events   func() []Event // the last first
}

// Machine is one that `vmcastfs vm` made of a release.
type Machine struct {
	Feed                        string // of its release
	Name, Release, Engine, Disk string
	Created                     time.Time
}

// Event is something that happened.
type Event struct {
	At         time.Time
	Kind, Text string
}

const (
	perPage     = 40 // releases
	maxMachines = 100
	wideBar     = 400 // pieces
	narrowBar   = 160
	maxBars     = 9
	maxBoots    = 3 // images that are asked for their last boot, to show one
	maxServers  = 20
	maxParts    = 8 // of the cache
)

// query is what somebody wants to see.
type query struct {
	image string // RELEASE/FILE; "": the one of which there is most to see
	find  string // in the names of releases
	page  int    // of releases, from 1
}

// view is one state of the page.
type view struct {
	source   *Source
	Dir      string
	Version  string
	Now      time.Time
	Feed     catalog.FeedStatus
	Title    string
	Failing  string // what is wrong with the feed; ""
	Hero     *hero
	Images   []hero
	More     int // images that are not shown
	Releases []row
	Counts   []count
	Find     string
	Page     int
	Pages    int
	Prev     string // address
	Next     string
	Cache    cacheView
	Servers  []server
	Machines []Machine
	Events   []Event
	Live     string // address of the events
}

// hero is an image with its picture.
type hero struct {
	Release, File string
	Link          string
	State         string
	Sentence      string
	Local         string // how much of it is here
	Size          string
	When          string // its last boot
	Bar           *Bar
	Line          *Timeline
}

// row is one release.
type row struct {
	Name, Title string
	State       string
	Class       string // of the state, see the style sheet
	Why         string // what is wrong
	Signed      string
	Age         string
	Size        string
	Images      []hero
}

type count struct {
	N    int
	Name string
}

type cacheView struct {
	Bytes, Limit, Free, Dir string
	Percent                 int
	Pinned                  string
	Parts                   []part
	Trouble                 string
}

// part is what takes room in the cache.
type part struct {
	Name, Bytes, Link string
	At, Width         int // in the bar, of 1000
}

type server struct {
	Origin, Latency, Received string
	Kind                      string // of a mirror
	Requests, Errors          int64
	Trouble, Class            string
}

// newView looks at everything.
func newView(s *Source, st *catalog.Status, q query, now time.Time) *view {
	v := &view{Dir: clean(s.Dir), Version: clean(s.Version), Now: now, source: s, Feed: st.Feed, Title: show.Clip(show.Text(st.Feed.Title), 200), Find: show.Clip(show.Text(q.find), 200)}
	v.Feed.URL = clean(st.Feed.URL)
	for _, x := range []struct{ label, why string }{
		{"The feed is older than one seen before", st.Feed.Rollback}, {"What is seen cannot be kept", st.Feed.TrustError}, {"The last look at the feed failed", st.Feed.LastError},
	} {
		if x.why != "" && (st.Feed.Stale || x.why != st.Feed.LastError) {
			v.Failing = x.label + ": " + clean(x.why)
			break
		}
	}
	v.images(st, q)
	v.releases(st, q)
	v.Cache = cacheOf(st, s.Pinned())
	v.Servers = serversOf(st, now)
	for _, m := range s.Machines() {
		if m.Feed == st.Feed.URL && len(v.Machines) < maxMachines {
			m.Name, m.Release, m.Engine, m.Disk = clean(m.Name), clean(m.Release), clean(m.Engine), clean(m.Disk)
			v.Machines = append(v.Machines, m)
		}
	}
	for _, e := range s.Events() {
		e.Text = clean(e.Text)
		v.Events = append(v.Events, e)
	}
	v.Live = "/live?" + q.values(q.page).Encode()
	return v
}

// clean makes a stranger's sentence fit for the page. What may be written from right to
// left does not turn what stands beside it.
func clean(s string) string {
	const isolate, end = "\u2068", "\u2069"
	s = show.Clip(show.Text(s), 500)
	if strings.ContainsFunc(s, func(r rune) bool { return r >= 0x590 }) {
		s = isolate + s + end
	}
	return s
}

func (q query) values(page int) url.Values {
	v := url.Values{}
	if q.image != "" {
		v.Set("image", q.image)
	}
	if q.find != "" {
		v.Set("find", q.find)
	}
	if page > 1 {
		v.Set("page", fmt.Sprint(page))
	}
	return v
}

// candidate is an image that may be shown.
type candidate struct {
	release string
	status  *image.Status
	score   int64
}

// images chooses the images of which there is most to see.
func (v *view) images(st *catalog.Status, q query) {
	var all []candidate // of those with the most to see
	n := 0
	for i := range st.Releases {
		r := &st.Releases[i]
		for i := range r.Files {
			f := &r.Files[i]
			if !f.Image || f.NoDisk {
				continue
			}
			c := candidate{release: r.Name, status: f, score: f.CachedBytes}
			if f.Open {
				c.score += 1 << 60
			}
			if f.InFlight > 0 {
				c.score += 1 << 61
			}
			if q.image == r.Name+"/"+f.Name {
				c.score = 1 << 62
			}
			if c.score > 0 {
				n++
				all = keepBest(all, c, maxBars+1)
			}
		}
	}
	var newest time.Time
	chosen := -1
	for i, c := range all[:min(len(all), maxBoots)] {
		b, ok := v.source.Picture(c.release, c.status.Name, 1, true)
		if !ok || chosen >= 0 && (b.Boot == nil || b.Boot.Begun.Before(newest) || c.status.Open != all[chosen].status.Open) {
			continue
		}
		chosen = i
		if b.Boot != nil {
			newest = b.Boot.Begun
		}
		if q.image != "" {
			break
		}
	}
	if chosen >= 0 {
		if h := v.picture(all[chosen], wideBar, true); h != nil {
			v.Hero = h
		}
	}
	for i, c := range all {
		if i == chosen {
			continue
		}
		if h := v.picture(c, narrowBar, false); h != nil {
			v.Images = append(v.Images, *h)
		}
	}
	v.More = n - len(all)
}

// keepBest adds c if it is among the first so many by its score.
func keepBest(list []candidate, c candidate, most int) []candidate {
	i := len(list)
	for i > 0 && list[i-1].score < c.score {
		i--
	}
	if i == most {
		return list
	}
	list = slices.Insert(list, i, c)
	return list[:min(len(list), most)]
}

func (v *view) picture(c candidate, pieces int, boot bool) *hero {
	b, ok := v.source.Picture(c.release, c.status.Name, pieces, boot)
	if !ok {
		return nil
	}
	h := heroOf(c.release, b.Status)
	h.Bar = newBar(b.Picture)
	if boot {
		h.Sentence, h.Line = Sentence(b.Picture, v.Now), newTimeline(b.Boot)
		if b.Boot != nil && len(b.Boot.Reads) > 0 {
			h.When = Ago(v.Now.Sub(b.Boot.Begun)) + " ago"
		}
	}
	return &h
}

func heroOf(release string, f image.Status) hero {
	h := hero{Release: clean(release), File: clean(f.Name), State: ImageState(f), Size: size(f.Size)}
	h.Link = "/?" + url.Values{"image": {release + "/" + f.Name}}.Encode()
	h.Local = humanize.IBytes(uint64(max(f.CachedBytes, 0)))
	return h
}

// ImageState is the state of an image in words, those of its attribute.
func ImageState(f image.Status) string {
	words := f.State
	switch {
	case f.Refused != "":
		words = "refused"
	case f.State == "partial" && f.CachedBytes == 0:
		words = "not fetched"
	}
	if f.Open {
		words += ", open"
	}
	if f.Pinned {
		words += ", pinned"
	}
	return words
}

func size(n int64) string {
	if n < 0 {
		return "not known yet"
	}
	return humanize.IBytes(uint64(n))
}
