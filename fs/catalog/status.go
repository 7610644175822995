package catalog

import (
	"errors"
	"os"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// Status is the state of everything, from memory. Its JSON form is the
// content of .vmcastfs/status.json and a contract: fields are added, not
// renamed.
type Status struct {
	Version  int                  `json:"version"`        // 1
	HTTP     string               `json:"http,omitempty"` // where a page shows all this
	Feed     FeedStatus           `json:"feed"`
	Releases []ReleaseStatus      `json:"releases"`
	VMs      string               `json:"vms,omitempty"` // the directory of machines whose bases stay
	Cache    store.Stats          `json:"cache"`
	Reads    cache.Stats          `json:"reads"`
	Origins  []remote.OriginStats `json:"origins"` // mirrors too
	Mirrors  []mirror.Status      `json:"mirrors,omitempty"`
}

// FeedStatus is the state of the feed.
type FeedStatus struct {
	URL         string     `json:"url"`
	Title       string     `json:"title"`
	LastSuccess *time.Time `json:"last_success,omitempty"`
	LastAttempt *time.Time `json:"last_attempt,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	Rollback    string     `json:"rollback,omitempty"`    // why the feed is older than one seen before
	Kept        bool       `json:"kept,omitempty"`        // what is shown is not that feed, but the newer one
	TrustError  string     `json:"trust_error,omitempty"` // why what is seen cannot be kept
	Stale       bool       `json:"stale"`                 // shown is an earlier state: the last attempt failed
	Next        *time.Time `json:"next,omitempty"`
	Warnings    []string   `json:"warnings,omitempty"`
	Failed      int        `json:"failed_refreshes"` // in this process
	// FailedBy tells why: network, status (of HTTP), answer (no proper one),
	// refused (by a rule of ours), invalid (what came is no feed).
	FailedBy map[string]int `json:"failed_by"`
}

// ReleaseStatus is the state of a release. Files and Trust are there once it
// has been indexed.
type ReleaseStatus struct {
	Name       string         `json:"name"`
	ID         string         `json:"id"`
	Title      string         `json:"title"`
	Published  *time.Time     `json:"published,omitempty"`
	URL        string         `json:"url"`
	Generation uint64         `json:"generation"`
	State      string         `json:"state"`                 // listed, indexing, indexed, refused, rejected
	Taken      int64          `json:"taken_bytes,omitempty"` // so far, while an archive is indexed that has to be read, or inflated, whole
	Error      string         `json:"error,omitempty"`
	Withdrawn  *time.Time     `json:"withdrawn,omitempty"`  // when the feed was found to have dropped it
	Held       []string       `json:"held,omitempty"`       // why it stays: open, pinned, cached, "machine NAME"
	Prewarm    *WarmStatus    `json:"prewarm,omitempty"`    // of the newest release
	Incomplete []string       `json:"incomplete,omitempty"` // images that machines may depend on and that are not all here, of a withdrawn release
	Alarm      string         `json:"alarm,omitempty"`      // in what the release is not what it was
	Transport  string         `json:"transport,omitempty"`  // ranges, or whole: the server has no ranges
	Trust      *xvm.Verdict   `json:"trust,omitempty"`
	Sidecar    *xvm.Signature `json:"sidecar,omitempty"` // who vouches for the sidecar that is used
	Warnings   []string       `json:"warnings,omitempty"`
	Hidden     []string       `json:"hidden,omitempty"` // entries of the archive that are not shown, and why
	Files      []image.Status `json:"files,omitempty"`
}

// Status describes everything as it is now. It never touches the network, but it
// looks at the disk.
func (c *Catalog) Status() Status { return c.describe(c.look(), (*bundle.File).Status) }

// look looks at the disk. What it finds of images they keep, see bundle.File.Known.
func (c *Catalog) look() *look {
	l := &look{after: activityOf(c.cfg), cache: c.cfg.Store.Stats(), seen: make(map[*Release]seen)}
	c.settleNow(c.tasks.Context())
	for _, r := range c.Snapshot().All() {
		p, ok := r.Peek()
		if !ok {
			continue
		}
		l.seen[r] = l.at(r, p)
		r.around.sentry.watchKey(r.Name(), p.Verdict(), time.Now())
		for _, f := range p.All() {
			f.Status()
		}
	}
	return l
}

// activityOf is what this process has done to the cache so far, and what others want
// kept, from memory and a few stats.
func activityOf(cfg Config) activity {
	reads := cfg.Cache.Stats()
	held := cfg.Store.HeldStamp()
	if info, err := os.Stat(cfg.VMs); err == nil {
		held += info.ModTime().UnixNano()
	}
	return activity{reads.DemandBytes + reads.ReadAheadBytes + reads.BackgroundBytes + reads.CopiedBytes, cfg.Store.Known(store.Stats{}).EvictedBytes, held}
}

// describe makes a Status of a look at the disk and the state of each file.
func (c *Catalog) describe(l *look, of func(*bundle.File) image.Status) Status {
	s := c.Snapshot()
	st := Status{Version: 1, VMs: c.cfg.VMs, HTTP: c.cfg.HTTP, Cache: c.cfg.Store.Known(l.cache), Reads: c.cfg.Cache.Stats(), Origins: c.cfg.Remote.Stats(), Mirrors: c.cfg.Remote.Mirrors().Status()}
	st.Feed = feedStatus(c.poller.Status(), s)
	st.Feed.FailedBy = c.failures.reasons(st.Feed.Failed)
	st.Feed.Rollback, st.Feed.Kept, st.Feed.TrustError = c.around.sentry.status()
	all := s.All()
	st.Releases = make([]ReleaseStatus, 0, len(all))
	for _, r := range all {
		st.Releases = append(st.Releases, r.describe(l, of))
	}
	return st
}

// Status describes the release as it is now.
func (r *Release) Status() ReleaseStatus { return r.describe(&look{}, (*bundle.File).Status) }

func (r *Release) describe(l *look, of func(*bundle.File) image.Status) ReleaseStatus {
	item := r.Item()
	st := ReleaseStatus{
		Name: item.Name, ID: item.ID, Title: item.Title, Published: timePtr(item.Published),
		URL: show.URL(item.URL), Generation: r.generation, State: "listed",
	}
	if err := r.LastError(); err != nil {
		if st.Error = err.Error(); !errors.Is(err, ErrNotListed) {
			st.State = "rejected"
		}
	}
	r.mu.Lock()
	st.Withdrawn, st.Held = timePtr(r.left), r.hold.reasons()
	pins := r.hold.pins
	st.Prewarm = r.warm
	r.mu.Unlock()
	p, ok := r.Peek()
	if !ok {
		if taken, yes := r.indexing(); yes {
			st.State, st.Taken = "indexing", taken
		}
		return st
	}
	st.State, st.Error = "indexed", ""
	st.Trust = p.Verdict()
	if st.Trust.UsesSidecar() {
		st.Sidecar = st.Trust.Sidecar
	}
	seen := l.at(r, p)
	st.Alarm = seen.alarm
	if seen.refusal != "" {
		st.State, st.Error = "refused", seen.refusal
	}
	st.Transport = p.Transport()
	st.Warnings, st.Hidden = p.Faults()
	if why := st.Trust.ExpiresSoon(time.Now()); why != "" {
		st.Warnings = append(st.Warnings[:len(st.Warnings):len(st.Warnings)], why)
	}
	for _, f := range p.All() {
		is := of(f)
		is.Pinned = pins[f.CacheKey()]
		st.Files = append(st.Files, is)
	}
	if st.Withdrawn != nil {
		st.Incomplete = incomplete(st.Files)
	}
	return st
}

// incomplete are the images that are not all here. A compressed one is not needed
// once what it is inflated to is here.
func incomplete(files []image.Status) (names []string) {
	whole := make(map[string]bool)
	for _, f := range files {
		whole[f.Name] = f.Image && f.Percent >= 100
	}
	for _, f := range files {
		if _, plain := seekable.PlainName(f.Name); f.Image && f.Percent < 100 && f.Refused == "" && !whole[plain] {
			names = append(names, f.Name)
		}
	}
	return names
}

func feedStatus(p feed.Status, s *Snapshot) FeedStatus {
	return FeedStatus{
		URL: p.URL, Title: p.Title, LastSuccess: timePtr(p.LastSuccess), LastAttempt: timePtr(p.LastAttempt),
		LastError: p.LastError, Stale: p.Stale, Next: timePtr(p.Next), Warnings: s.feed.Warnings,
		Failed: p.Failed,
	}
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
