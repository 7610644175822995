package page

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
)

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
				parts = keepBest(parts, candidate{r.Name, f, f.CachedBytes}, maxParts)
			}
		}
	}
	at := 0
	add := func(name, link string, n int64) {
		width := int(1000 * n / whole)
		v.Parts = append(v.Parts, part{name, size(n), link, at, width})
		at += width
	}
	for _, p := range parts {
		rest -= p.score
		h := heroOf(p.release, *p.status)
		if p.status.NoDisk {
			h.Link = "" // there is no picture of it
		}
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
