package page

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
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
	v := &view{Dir: clean(s.Dir), Version: clean(s.Version), Now: now, source: s, Feed: st.Feed, Title: show.Clip(show.Text(st.Feed.Title), 200), Find: clean(q.find)}
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

// clean makes a stranger's sentence fit for the page.
func clean(s string) string { return show.Clip(show.Text(s), 500) }

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
	var all []candidate
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
				all = append(all, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
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
		if len(v.Images) == maxBars {
			v.More = len(all) - maxBars - 1
			break
		}
		if h := v.picture(c, narrowBar, false); h != nil {
			v.Images = append(v.Images, *h)
		}
	}
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

// ImageState is the state of an image in words.
func ImageState(f image.Status) string {
	words := map[string]string{
		"partial": "in part", "verified": "verified", "unverified": "all here, not checkable", "corrupt": "corrupt",
	}[f.State]
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

// releases shows one page of them.
func (v *view) releases(st *catalog.Status, q query) {
	counts := map[string]int{}
	var found []*catalog.ReleaseStatus
	find := strings.ToLower(q.find)
	for i := range st.Releases {
		r := &st.Releases[i]
		state, _ := ReleaseState(r.State)
		if r.Withdrawn != nil {
			state = "withdrawn"
		}
		counts[state]++
		if q.find == "" || strings.Contains(strings.ToLower(r.Name+" "+r.Title), find) {
			found = append(found, r)
		}
	}
	for name, n := range counts {
		v.Counts = append(v.Counts, count{n, name})
	}
	slices.SortFunc(v.Counts, func(a, b count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name)) })
	v.Pages = max(1, (len(found)+perPage-1)/perPage)
	v.Page = min(max(q.page, 1), v.Pages)
	if v.Page > 1 {
		v.Prev = "/?" + q.values(v.Page-1).Encode() + "#releases"
	}
	if v.Page < v.Pages {
		v.Next = "/?" + q.values(v.Page+1).Encode() + "#releases"
	}
	from := (v.Page - 1) * perPage
	for _, r := range found[from:min(from+perPage, len(found))] {
		v.Releases = append(v.Releases, rowOf(r, v.Now))
	}
}

func rowOf(r *catalog.ReleaseStatus, now time.Time) row {
	x := row{Name: clean(r.Name), Title: clean(r.Title), Signed: signedBy(r)}
	x.State, x.Class = ReleaseState(r.State)
	if r.Withdrawn != nil {
		x.State += ", withdrawn " + r.Withdrawn.Format(time.DateOnly) + "; kept: " + clean(strings.Join(r.Held, ", "))
	}
	if w := r.Prewarm; w != nil {
		x.State += map[string]string{
			"fetching": "; what it boots from is being fetched", "done": "; boots at once", "limit": "; what it boots from is more than prewarm_limit=",
			"full": "; no room for what it boots from", "failed": "; what it boots from cannot be fetched",
		}[w.State]
	}
	switch {
	case r.Error != "":
		x.Why = clean(r.Error)
	case len(r.Incomplete) > 0:
		x.Why, x.Class = "not all here, and machines may depend on it: "+clean(strings.Join(r.Incomplete, ", ")), "bad"
	case r.Alarm != "":
		x.Why, x.Class = "ALARM: "+clean(r.Alarm), "bad"
	case len(r.Warnings) > 0:
		x.Why = clean(r.Warnings[0])
	}
	if r.Published != nil {
		x.Age = Ago(now.Sub(*r.Published))
	}
	sum := int64(0)
	for _, f := range r.Files {
		if f.Image && !f.NoDisk {
			sum += max(f.Size, 0)
			if len(x.Images) < 4 {
				x.Images = append(x.Images, heroOf(r.Name, f))
			}
		}
	}
	if sum > 0 {
		x.Size = humanize.IBytes(uint64(sum))
	}
	return x
}

// ReleaseState is the state of a release in words, and its class in the style sheet.
func ReleaseState(state string) (words, class string) {
	switch state {
	case "indexed":
		return "ready", "good"
	case "indexing":
		return "being read", "busy"
	case "refused":
		return "refused", "bad"
	case "rejected":
		return "cannot be used", "bad"
	}
	return "not opened yet", "plain"
}

// signedBy says who vouches for a release.
func signedBy(r *catalog.ReleaseStatus) string {
	if r.Trust == nil {
		return ""
	}
	switch m := r.Trust.Manifest; {
	case r.Trust.By == "sidecar" && r.Sidecar != nil:
		return "sidecar of " + clean(r.Sidecar.Signer)
	case m.State == "good":
		return clean(m.Signer)
	case m.State == "bad":
		return "bad signature"
	case m.State == "unchecked":
		return "not checked: no keys"
	}
	return "not signed"
}

func cacheOf(st *catalog.Status, pinned map[store.Key]int64) cacheView {
	c := st.Cache
	v := cacheView{Bytes: size(c.Bytes), Free: size(c.Free), Dir: clean(c.Dir)}
	whole := max(c.Bytes, 1)
	if c.Limit > 0 {
		whole = max(c.Limit, whole)
		v.Limit, v.Percent = size(c.Limit), int(100*c.Bytes/whole)
	}
	if len(pinned) > 0 {
		sum := int64(0)
		for _, n := range pinned {
			sum += n
		}
		v.Pinned = fmt.Sprintf("%d pinned, %s", len(pinned), size(sum))
	}
	switch {
	case c.ReadOnly:
		v.Trouble = "The cache is read-only: nothing more is cached."
	case c.Refusing:
		v.Trouble = "The cache takes nothing more: " + clean(c.FullWhy)
	}
	var parts []candidate
	rest := c.Bytes
	for i := range st.Releases {
		r := &st.Releases[i]
		for i := range r.Files {
			if f := &r.Files[i]; f.Image && f.CachedBytes > 0 {
				parts = append(parts, candidate{r.Name, f, f.CachedBytes})
			}
		}
	}
	slices.SortStableFunc(parts, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	at := 0
	add := func(name, link string, n int64) {
		width := int(1000 * n / whole)
		v.Parts = append(v.Parts, part{name, size(n), link, at, width})
		at += width
	}
	for _, p := range parts[:min(len(parts), 8)] {
		rest -= p.score
		h := heroOf(p.release, *p.status)
		add(h.Release+"/"+h.File, h.Link, p.score)
	}
	if rest > 0 {
		add("other images, and what is known of them", "", rest)
	}
	return v
}

func serversOf(st *catalog.Status, now time.Time) (list []server) {
	for _, o := range st.Origins[:min(len(st.Origins), maxServers)] {
		s := server{Origin: clean(o.Origin), Requests: o.Requests, Errors: o.Errors, Class: "good", Latency: "-"}
		if n := o.Latency.Total(); n > 0 {
			s.Latency = fmt.Sprintf("%.0f ms", float64(o.Latency.Nanos)/1e6/float64(n))
		}
		s.Received = size(o.Bytes.Demand + o.Bytes.ReadAhead + o.Bytes.Background)
		if o.LastError != "" {
			s.Trouble = "last error " + Ago(now.Sub(o.LastTime)) + " ago: " + clean(o.LastError)
		}
		if o.Failing {
			s.Class, s.Trouble = "bad", "does not answer: "+clean(o.LastError)
		}
		i := slices.IndexFunc(st.Mirrors, func(m mirror.Status) bool { return originOf(m.URL) == o.Origin })
		if i >= 0 {
			s.mirror(st.Mirrors[i], now)
		}
		list = append(list, s)
	}
	for _, m := range st.Mirrors {
		if !slices.ContainsFunc(st.Origins, func(o remote.OriginStats) bool { return originOf(m.URL) == o.Origin }) {
			s := server{Origin: clean(m.URL), Class: "good", Latency: "-", Received: size(m.Bytes)}
			s.mirror(m, now)
			list = append(list, s)
		}
	}
	return list
}

// mirror says what is known of a server that is a mirror.
func (s *server) mirror(m mirror.Status, now time.Time) {
	s.Kind = "mirror, " + clean(m.State)
	if m.State != "works" {
		s.Class = "bad"
		if !m.Until.IsZero() && m.Until.After(now) {
			s.Kind += " for " + Ago(m.Until.Sub(now))
		}
	}
	if m.Lies > 0 {
		s.Trouble = fmt.Sprintf("gave what was not asked for, %d times: %s", m.Lies, clean(m.LastLie))
	}
}

// originOf is scheme://host:port of an address, as statistics have it.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	if u.Port() == "" {
		u.Host += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	return u.Scheme + "://" + u.Host
}

func size(n int64) string {
	if n < 0 {
		return "not known yet"
	}
	return humanize.IBytes(uint64(n))
}
