package catalog

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
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
	Logger        *slog.Logger

	inflate budgets // zero: inflateMemory of each kind
}

// Catalog is a feed with its packages, joined with the cache. It is safe for
// any number of goroutines.
//
// mu guards what follows it and snapshot's replacement. It is a
// leaf: nothing is called with it held but a Release's own mu is never taken
// before it.
type Catalog struct {
	cfg    Config
	poller *feed.Poller

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	archives archive.Env
	images   image.Env
	sidecars chan struct{} // one token: a sidecar is being read
	watch    feedWatch

	snapshot    atomic.Pointer[Snapshot]
	checking    atomic.Bool // checkAll is under way
	mu          sync.Mutex
	closed      bool
	looked      time.Time           // when lookAgain last did
	looking     chan struct{}       // closed when that ended
	feedFailed  map[string]int      // looks at the feed that brought none, by reason
	releases    map[string]*Release // by id: the current generation
	left        uint64              // the greatest generation of one that has left the feed
	subscribers map[int]func()
	onCorrupt   map[int]func(*File)
	nextSub     int
}

// Snapshot is one immutable state of the feed.
type Snapshot struct {
	feed     *feed.Feed
	raw      []byte
	time     time.Time
	releases []*Release
	byName   map[string]*Release
}

// FeedXML is the last good feed, verbatim.
func (s *Snapshot) FeedXML() []byte { return s.raw }

// FeedTime is when it was fetched.
func (s *Snapshot) FeedTime() time.Time { return s.time }

// Title is the channel's.
func (s *Snapshot) Title() string { return s.feed.Title }

// Warnings are what was wrong with the feed.
func (s *Snapshot) Warnings() []string { return s.feed.Warnings }

// Releases lists the releases, newest first.
func (s *Snapshot) Releases() []*Release { return s.releases }

// Release finds a release by its directory name.
func (s *Snapshot) Release(name string) (*Release, bool) {
	r, ok := s.byName[name]
	return r, ok
}

// Latest is the newest release, or nil.
func (s *Snapshot) Latest() *Release {
	if len(s.releases) == 0 {
		return nil
	}
	return s.releases[0]
}

// New makes a Catalog. It does no I/O; Start does.
func New(cfg Config) *Catalog {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.inflate == (budgets{}) {
		cfg.inflate = newBudgets(inflateMemory, inflateMemory)
	}
	c := &Catalog{
		cfg:         cfg,
		releases:    make(map[string]*Release),
		subscribers: make(map[int]func()),
		onCorrupt:   make(map[int]func(*File)),
	}
	c.sidecars = make(chan struct{}, 1)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.archives = archive.Env{
		Remote: cfg.Remote, Cache: cfg.Cache, Store: cfg.Store, Memory: cfg.inflate.archives,
		Log: cfg.Logger, Go: c.background,
	}
	c.images = image.Env{
		Store: cfg.Store, Cache: cfg.Cache, Log: cfg.Logger, Memory: cfg.inflate.members,
		Lists: &image.ListMemory{}, Held: image.NewHeldBlocks(cfg.Store, cfg.Logger, c.background), Pool: &image.BlockPool{},
		Go: c.background, Strict: cfg.Strict, AllowExternal: cfg.AllowExternal, Complete: cfg.Complete,
		Profile: cfg.Profile, ProfileReads: cfg.ProfileReads,
	}
	c.snapshot.Store(&Snapshot{feed: &feed.Feed{}, byName: map[string]*Release{}})
	return c
}

// Close ends all background work and waits for it.
func (c *Catalog) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
	c.images.Held.Close()
}

// background runs fn on the catalog's own context, until Close; false if that
// has begun.
func (c *Catalog) background(fn func(ctx context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(func() { fn(c.ctx) })
	return true
}

// Snapshot returns the present state.
func (c *Catalog) Snapshot() *Snapshot { return c.snapshot.Load() }

// Subscribe has changed called after Snapshot, the files of a package or the
// state of a file became another. It must not block.
func (c *Catalog) Subscribe(changed func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nextSub
	c.nextSub++
	c.subscribers[n] = changed
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, n)
	}
}

func (c *Catalog) notify() {
	c.mu.Lock()
	fns := make([]func(), 0, len(c.subscribers))
	for _, fn := range c.subscribers {
		fns = append(fns, fn)
	}
	c.mu.Unlock()
	for _, fn := range fns {
		fn()
	}
}

// publish makes f the state of the feed. A release whose enclosure is the
// same stays the object it is, also if its URL was signed anew, and takes over
// the title, the date and the notes that the feed gives it now; one whose
// enclosure moved becomes a new generation, and so does one that left the feed
// and comes back, since somebody may still use what it was.
func (c *Catalog) publish(f *feed.Feed, raw []byte, at time.Time) {
	c.cfg.Remote.FeedFrom(c.cfg.FeedURL, f.From) // before anything that f names is opened
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
			r = newRelease(c, item, f.From, c.left+1)
		case r.item.Length == item.Length && feed.URLKey(r.item.URL) == feed.URLKey(item.URL):
			r.setFrom(f.From)
			edited[r] = item
		default:
			c.cfg.Logger.Warn("the feed names another package for a release", "release", item.Name, "package", displayURL(item.URL))
			r = newRelease(c, item, f.From, r.generation+1)
		}
		current[item.ID] = r
		s.releases = append(s.releases, r)
		s.byName[item.Name] = r
	}
	c.releases = current
	c.snapshot.Store(s)
	c.mu.Unlock()
	for r, item := range edited {
		r.edit(item)
	}
	c.notify()
}

// replace puts a new generation in the place of r, whose archive is not the
// one it was any more.
func (c *Catalog) replace(r *Release) {
	c.mu.Lock()
	if c.releases[r.item.ID] != r {
		c.mu.Unlock()
		return // done already, or gone from the feed
	}
	next := newRelease(c, r.Item(), r.feedFrom(), r.generation+1)
	c.releases[r.item.ID] = next
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
	c.mu.Unlock()
	if err := c.cfg.Store.DeleteDoc(kindPackage, r.docName()); err != nil {
		c.cfg.Logger.Warn("the old index is not deleted", "release", r.Name(), "err", err)
	}
	c.cfg.Logger.Warn("the archive was replaced on its server; new opens get the new one", "release", r.Name())
	c.notify()
}

// noteCorrupt announces that a file's content is wrong. It is called with
// locks of the cache held.
func (c *Catalog) noteCorrupt(f *File) {
	c.cfg.Logger.Error("an image is corrupt; reading it fails from now on", "release", f.pkg.release.Name(), "file", f.name)
	c.background(func(context.Context) {
		c.notify()
		c.mu.Lock()
		fns := make([]func(*File), 0, len(c.onCorrupt))
		for _, fn := range c.onCorrupt {
			fns = append(fns, fn)
		}
		c.mu.Unlock()
		for _, fn := range fns {
			fn(f)
		}
		// The plain content goes down with what it was inflated from.
		for _, g := range f.pkg.byName {
			if g.image != nil && f.image != nil && g.image.InflatedFrom(f.image) || g.joined != nil && g.joined.has(f) {
				c.noteCorrupt(g)
			}
		}
		if f.pkg.unpinned() { // nothing else would tell that it is another archive
			c.replace(f.pkg.release)
		}
	})
}

// OnCorrupt has fn called with every file whose content turns out to be
// wrong, after reads of it have begun to fail. It must not block.
func (c *Catalog) OnCorrupt(fn func(*File)) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nextSub
	c.nextSub++
	c.onCorrupt[n] = fn
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.onCorrupt, n)
	}
}

// saveDoc persists v; that it fails costs time later, nothing else.
func (c *Catalog) saveDoc(kind, name string, v any) {
	raw, err := json.Marshal(v)
	if err == nil {
		err = c.cfg.Store.PutDoc(kind, name, raw)
	}
	if err != nil {
		c.cfg.Logger.Warn("not kept on disk", "what", kind, "err", err)
	}
}
