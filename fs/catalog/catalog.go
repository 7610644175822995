package catalog

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
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
	inflate       budgets // zero: DecoderMemory of each kind
}

// Catalog is a feed with its packages, joined with the cache. It is safe for
// any number of goroutines.
type Catalog struct {
	cfg    Config
	poller *feed.Poller
	around surroundings

	tasks    *tasks
	status   statusFile
	failures failures // looks at the feed that brought none
	changed  listeners[struct{}]
	corrupt  listeners[uint64] // by inode
	snapshot atomic.Pointer[Snapshot]
	checking atomic.Bool                // checkAll is under way
	asked    atomic.Pointer[xvm.Policy] // of packages now

	// mu guards what follows it, and the replacement of snapshot. It comes before
	// Release.mu.
	mu       sync.Mutex
	looked   time.Time           // when lookAgain last did
	looking  chan struct{}       // closed when that ended
	releases map[string]*Release // by id: the current generation
	left     uint64              // the greatest generation of one that has left the feed
}

// Close ends all background work and waits for it.
func (c *Catalog) Close() {
	c.tasks.close()
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

// forgetReplaced deletes what is kept of packages in whose place f names another
// one, before that looks for its own.
func (c *Catalog) forgetReplaced(f *feed.Feed) {
	var replaced []*Release
	c.mu.Lock()
	for _, item := range f.Releases {
		if r := c.releases[item.ID]; r != nil && !samePackage(r.Item(), item) && r.key() == feed.URLKey(item.URL) {
			replaced = append(replaced, r)
		}
	}
	c.mu.Unlock()
	for _, r := range replaced {
		r.record.Forget()
	}
}

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
func (c *Catalog) publish(f *feed.Feed, raw []byte, at time.Time) {
	c.cfg.Remote.FeedFrom(c.cfg.FeedURL, f.From) // before anything that f names is opened
	c.forgetReplaced(f)
	c.mu.Lock()
	edited := make(map[*Release]feed.Release)
	s := &Snapshot{feed: f, raw: raw, time: at, byName: make(map[string]*Release, len(f.Releases))}
	current := make(map[string]*Release, len(f.Releases))
	for _, item := range f.Releases {
		current[item.ID] = nil
	}
	for id, r := range c.releases {
		if _, stays := current[id]; !stays {
			c.left = max(c.left, r.generation)
		}
	}
	for _, item := range f.Releases {
		r := c.releases[item.ID]
		switch {
		case r == nil:
			r = newRelease(&c.around, item, f.From, c.left+1)
		case samePackage(r.Item(), item):
			edited[r] = item
		default:
			c.cfg.Logger.Warn("the feed names another package for a release", "release", item.Name, "package", show.URL(item.URL))
			r = newRelease(&c.around, item, f.From, r.generation+1).supersede(r)
		}
		current[item.ID] = r
		s.releases = append(s.releases, r)
		s.byName[item.Name] = r
	}
	c.releases = current
	c.snapshot.Store(s)
	c.mu.Unlock()
	for r, item := range edited {
		r.edit(item, f.From)
	}
	c.notify()
}

// replace puts a new generation in the place of r, whose archive is not the
// one it was any more.
func (c *Catalog) replace(r *Release) {
	r.record.Forget() // before the next generation looks for its own
	if c.supersede(r) {
		c.cfg.Logger.Warn("the archive was replaced on its server; new opens get the new one", "release", r.Name())
		c.notify()
	}
}

// reopen puts a new generation in the place of r, whose package has to be opened
// anew. Its sidecar counts by now, or does not count any more.
func (c *Catalog) reopen(r *Release) {
	if c.supersede(r) {
		c.cfg.Logger.Info("the release is opened anew", "release", r.Name())
		c.notify()
	}
}

// supersede puts a new generation in the place of r; false: that has been done, or
// it is gone from the feed.
func (c *Catalog) supersede(r *Release) bool {
	next := newRelease(&c.around, r.Item(), r.feedFrom(), r.generation+1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.releases[r.item.ID] != r {
		return false
	}
	c.releases[r.item.ID] = next
	next.supersede(r)
	old := c.snapshot.Load()
	s := *old
	s.releases = make([]*Release, len(old.releases))
	s.byName = make(map[string]*Release, len(old.byName))
	for i, x := range old.releases {
		if x == r {
			x = next
		}
		s.releases[i] = x
		s.byName[x.Name()] = x
	}
	c.snapshot.Store(&s)
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
