package catalog

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/cache/tasks"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/kept"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// Config is what a Catalog works with. FeedURL, Store, Cache and Remote are
// needed.
type Config struct {
	FeedURL string // http(s) URL, or the absolute path of a local file
	Store   *store.Store
	Cache   *cache.Cache
	Remote  *remote.Client

	Keyring       *xvm.Keyring      // nil: signatures are not checked
	Sidecar       string            // directory or address where sidecars are looked for; "": nowhere
	RequireSigned bool              // serve only what a key of the keyring signed
	Strict        bool              // the first read of an image waits until the whole matches
	Trust         *trust.State      // nil: nothing is remembered of what was seen before
	AllowExternal bool              // serve images that name other files
	Complete      bool              // fetch the rest of an open image in the background
	Kept          *kept.Dir         // where releases in use are kept; nil: nowhere
	Prewarm       string            // what is fetched of a new latest release: boot, all or off; "": off
	PrewarmLimit  int64             // bytes of a boot set
	Resident      bool              // it is of a mount: what is to be here is fetched without being asked for
	KeepCached    bool              // a release that left the feed stays while image data of it is cached
	VMs           string            // directory of the records of machines, whose bases stay; "": there are none
	Profile       bool              // record which blocks a boot reads, and fetch by such records
	ProfileReads  []xvm.ProfileRead // to follow rather than one recorded or in a package
	Refresh       time.Duration     // between looks at the feed; 0: as the feed says
	Retry         time.Duration     // how long Start asks again for a feed that cannot be had just now; 0: not at all
	HTTP          string            // where a page shows the mount, for Status; "": nowhere
	Logger        *slog.Logger

	Again func(err error, pause time.Duration) // told before Start asks again; nil: nobody is

	// DecoderMemory bounds what decoders of members take together, and likewise those
	// of archives that are compressed as a whole, in bytes. 0: 260 MiB.
	DecoderMemory int64
	inflate       budgets       // zero: DecoderMemory of each kind
	patience      time.Duration // with the disk, for a look at all releases; 0: localTimeout
}

// Catalog is a feed with its packages, joined with the cache. It is safe for
// any number of goroutines.
type Catalog struct {
	cfg    Config
	poller *feed.Poller
	around surroundings

	tasks    *tasks.Tasks
	status   statusFile
	failures failures // looks at the feed that brought none
	changed  listeners[struct{}]
	corrupt  listeners[uint64] // by inode
	snapshot atomic.Pointer[Snapshot]
	checking atomic.Bool // checkAll is under way
	ahead    atomic.Bool // indexNewest is under way
	asked    asking
	keeper   *keeper
	pinner   pinner
	warmer   warmer

	// mu guards what follows it, and the replacement of snapshot. It comes before
	// Release.mu.
	mu       sync.Mutex
	looked   time.Time           // when lookAgain last did
	looking  chan struct{}       // closed when that ended
	releases map[string]*Release // by id: the current generation
	left     uint64              // the greatest generation of one that has left the feed
	gone     []*Release          // those that left it and stay in the tree

	settling sync.Mutex // guards what follows it, and is held while settleNow looks at the disk; comes before mu
	settled  int        // which release was looked at last
}

// Close ends all background work and waits for it.
func (c *Catalog) Close() {
	c.tasks.Close(nil)
	c.around.bundles.Images.Held.Close()
}

// Snapshot returns the present state.
func (c *Catalog) Snapshot() *Snapshot { return c.snapshot.Load() }

// Subscribe has changed called after Snapshot, the files of a package or the
// state of a file became another. It must not block.
func (c *Catalog) Subscribe(changed func()) (cancel func()) {
	return c.changed.add(func(struct{}) { changed() })
}

func (c *Catalog) notify() { c.changed.call(struct{}{}) }

// samePackage reports whether an item still names the package that it did. Its
// URL may have been signed anew, and its digest may have been added or left out.
func samePackage(was, is feed.Release) bool {
	return was.Length == is.Length && feed.URLKey(was.URL) == feed.URLKey(is.URL) &&
		(was.SHA256 == is.SHA256 || was.SHA256 == "" || is.SHA256 == "")
}

// publish makes f the state of the feed. A release whose enclosure is the same
// stays the object it is, also if its URL was signed anew. It takes over the
// title, the date and the notes that the feed gives it now. A release whose
// enclosure moved becomes a new generation. So does one that left the feed and
// comes back, because somebody may still use what it was.
// It is false if the catalog ends before the disk knows what stays.
func (c *Catalog) publish(f *feed.Feed, raw []byte, at time.Time) bool {
	c.cfg.Remote.FeedFrom(c.cfg.FeedURL, f.From) // before anything that f names is opened
	c.mu.Lock()
	was := maps.Clone(c.releases)
	c.mu.Unlock()
	stay := c.keeper.dropped(was, f)
	c.mu.Lock()
	edited := make(map[*Release]*feed.Release)
	s := &Snapshot{feed: f, raw: raw, time: at}
	current := make(map[string]*Release, len(f.Releases))
	used := make(map[string]string, len(f.Releases)) // directory names, by whom
	for _, item := range f.Releases {
		current[item.ID] = nil
		used[item.Name] = item.ID
	}
	for id, r := range c.releases {
		if _, named := current[id]; !named {
			c.left = max(c.left, r.generation)
		}
		if stay[r] {
			c.gone = append(c.gone, r)
		}
	}
	var returned []*Release
	for _, item := range f.Releases {
		r := c.releases[item.ID]
		if r == nil || stay[r] {
			if r, c.gone = returning(c.gone, item); r != nil {
				returned = append(returned, r)
			}
		}
		if r != nil && samePackage(r.Item(), item) {
			current[item.ID] = r
			used[r.Name()] = item.ID
		}
	}
	for _, r := range c.gone {
		used[r.Name()] = ""
	}
	for i := range f.Releases {
		item := &f.Releases[i]
		r, was := current[item.ID], c.releases[item.ID]
		switch {
		case r != nil:
			edited[r] = named(item, r.Name())
		case was == nil || stay[was]:
			r = newRelease(&c.around, named(item, freeName(item, used)), f.From, c.left+1)
		default:
			c.cfg.Logger.Warn("the feed names another package for a release", "release", item.Name, "package", show.URL(item.URL))
			r = supersede(newRelease(&c.around, named(item, was.Name()), f.From, was.generation+1), was)
		}
		current[item.ID] = r
		s.releases = append(s.releases, r)
	}
	c.releases = current
	c.snapshot.Store(s.with(c.gone))
	c.mu.Unlock()
	for r, item := range edited {
		r.edit(item, f.From)
	}
	for _, r := range returned {
		if p, ok := r.Peek(); ok {
			p.Keep((*outside)(r))
		}
		r.checkSoon(0) // it may be another archive by now
	}
	c.notify()
	ok := partAll(c, stay)
	c.settle()
	return ok
}

// replace puts a new generation in the place of r, whose archive is not the
// one it was any more.
func (c *Catalog) replace(r *Release) {
	if c.keeper.giveWay(r) {
		follow(c, r)
	}
}

// follow makes the generation after r, which has given way.
func follow(c *Catalog, r *Release) {
	if c.supersede(r, nextOf(r)) {
		c.cfg.Logger.Warn("the archive was replaced on its server; new opens get the new one", "release", r.Name())
		c.notify()
	}
}

// reopen puts a new generation in the place of r, whose package has to be opened
// anew. Its sidecar counts by now, or does not count any more.
func (c *Catalog) reopen(r *Release) {
	if c.supersede(r, takeOver(nextOf(r), r)) {
		c.cfg.Logger.Info("the release is opened anew", "release", r.Name())
		c.notify()
	}
}

// supersede puts next in the place of r; false: that has been done, or
// it is gone from the feed.
func (c *Catalog) supersede(r, next *Release) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := *c.snapshot.Load()
	at := slices.Index(s.releases, r)
	gone := slices.Index(c.gone, r)
	if at < 0 && (gone < 0 || next.record != r.record) {
		return false // what is cached of one that has left the feed goes on being served
	}
	switch withdrawn := !r.Withdrawn().IsZero(); {
	case gone >= 0: // it is opened anew
		supersede(next, r)
		c.gone[gone] = next
		c.snapshot.Store(s.with(c.gone))
		return true
	case withdrawn: // the next one gets another name
		used := map[string]string{}
		for _, x := range s.All() {
			used[x.Name()] = ""
		}
		next.name = freeName(next.now, used)
		next.now = named(next.now, next.name)
		c.gone = append(c.gone, r)
	default:
		supersede(next, r)
	}
	c.releases[r.id] = next
	s.releases = slices.Clone(s.releases)
	s.releases[at] = next
	c.snapshot.Store(s.with(c.gone))
	return true
}

// tellCorrupt announces that a file's content is wrong, or may have been.
func (c *Catalog) tellCorrupt(inode uint64) {
	c.notify()
	c.corrupt.call(inode)
}

// OnCorrupt has fn called with the inode of every file whose content turns out to
// be wrong, after reads of it have begun to fail, or to have been in doubt, after
// it has been given up. It must not block.
func (c *Catalog) OnCorrupt(fn func(inode uint64)) (cancel func()) { return c.corrupt.add(fn) }
