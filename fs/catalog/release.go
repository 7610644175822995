package catalog

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/catalog/kept"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// renewWait bounds how long a read whose URL has expired waits for the feed to
// name a fresh one.
const renewWait = 5 * time.Second

// surroundings are what all releases work with, and what they ask of the catalog.
type surroundings struct {
	bundles *bundle.Env
	remote  *remote.Client
	sentry  *sentry
	feedURL string
	log     *slog.Logger
	// run runs a function in the background, on a context that ends with the
	// catalog; false: that has ended.
	run     func(func(context.Context)) bool
	changed func()             // the files of a package are others
	corrupt func(inode uint64) // the content of that file is wrong
	// replace puts a new generation in the place of one whose archive is another.
	replace func(*Release)
	kept    *kept.Dir // see Config
	settle  func()    // looks at what has to stay
	// older finds the newest other release whose file was booted here.
	older func(r *Release, file string) (image.Booted, bool)
	shelf *shelf
	// reopen puts a new generation in the place of one whose package has to be
	// opened anew.
	reopen func(*Release)
	// lookAgain has the feed looked at; the channel is closed when that has ended.
	lookAgain func() <-chan struct{}
}

// Release is one generation of one item of the feed: it stands for one version of
// one archive. When the archive is replaced, or the item names another one, a new
// Release takes its place in the snapshot. Its holders can go on using this one.
// It is safe for any number of goroutines.
type Release struct {
	around     *surroundings
	id, name   string
	generation uint64
	record     *bundle.Record
	checker    checker
	line       *line

	// mu guards what follows it. It is never held over I/O. It comes after Catalog.mu
	// and before tasks.mu.
	mu      sync.Mutex
	from    string        // who gave the feed that names it, see feed.Document
	now     *feed.Release // as the feed has it now: another title, date, notes, or URL of the same package; never changed. It is of the feed's own list.
	pkg     *bundle.Package
	idle    weak.Pointer[bundle.Package] // it, once it was given back; see shelf
	was     packedKey                    // what it is of; zero: it has not been indexed
	loading chan struct{}                // closed when the indexing under way ends; nil: none
	taking  archive.Content              // what is taken whole for that; nil: nothing
	wanted  purpose                      // the strongest of those that wait for it
	failed  *failure

	kept     bool        // it is kept outside of the cache
	left     time.Time   // when the feed was found to have dropped it; zero: it has not
	returned bool        // it had been dropped before
	over     bool        // it has given way to another generation, and is not kept
	images   []packedKey // of its images, if it is kept
	warm     *WarmStatus // nil: it was never the newest
	hold     hold        // why it stays, as of the last look
	cached   store.Stamp // of an image of which data is cached, if a file was opened
	guard    store.Hold  // of the cache for its files, as far as this process knows
}

// line is what the generations of an item share that have its directory name.
type line struct {
	newest atomic.Pointer[Release]
	opens  atomic.Int64 // files that are open
}

type failure struct {
	err error
	at  time.Time
}

// newRelease is that of an item, which nobody changes any more.
func newRelease(around *surroundings, item *feed.Release, from string, generation uint64) *Release {
	r := &Release{
		around: around, id: item.ID, name: item.Name, now: item, from: from, generation: generation,
		record: bundle.NewRecord(around.bundles.Images.Store, item.ID, item.URL, around.log),
		line:   new(line),
	}
	r.line.newest.Store(r)
	return r
}

// Name is the directory name.
func (r *Release) Name() string { return r.name }

// Item is what the feed says now.
func (r *Release) Item() feed.Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.now
}

// URL is where the feed says the archive is, now.
func (r *Release) URL() string { return r.Item().URL }

// Published is the item's date, or the zero time.
func (r *Release) Published() time.Time { return r.Item().Published }

// Generation tells the archives that stood behind this release in this process
// from each other: it grows from one to the next.
func (r *Release) Generation() uint64 { return r.generation }

// key is the same for all URLs that the feed has given the package.
func (r *Release) key() string { return feed.URLKey(r.URL()) }

func (r *Release) feedFrom() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from
}

// edit takes over what the feed, and whoever gave it, say now of the same package.
// Another URL of it is asked from now on. That the archive there is the same is
// not believed: its validators are compared with each answer.
func (r *Release) edit(item *feed.Release, from string) {
	r.mu.Lock()
	moved := r.now.URL != item.URL
	r.from, r.now = from, item // also if it is the same: the list that it was of goes as a whole
	if moved {
		r.failed = nil
	}
	p := held(r)
	r.mu.Unlock()
	if moved && p != nil {
		p.Archive().Move()
		r.checkSoon(0)
	}
}

// place says where the release's archive is.
func (r *Release) place() archive.Place {
	return archive.Place{
		Name: r.Name(), URL: r.URL, Key: r.key(), Base: r.around.feedURL, Writer: r.feedFrom,
		Renew: r.renewed, Doubted: func() { r.checkSoon(doubtEvery) }, Replaced: func() { r.around.replace(r) },
	}
}

// told is what the package is told of the release.
func (r *Release) told() bundle.Release {
	a, name := r.around, r.name
	return bundle.Release{
		ID: r.id, Name: name, Key: r.key(), Item: r.Item, Record: r.record,
		Refusal: func(v *xvm.Verdict) string { return a.sentry.refusal(presented(r, v), v) },
		Judged:  r.judged,
		Left:    r.Withdrawn,
		Older:   func(file string) (image.Booted, bool) { return a.older(r, file) },
		Opened: func(ctx context.Context) error {
			err := r.confirm(ctx)
			if err == nil {
				used(r)
			}
			return err
		},
		Refused:  func() { r.checkSoon(checkEvery) },
		Patience: func(ctx context.Context) (context.Context, context.CancelFunc) { return patience(ctx, a.remote, r.URL) },
		Changed:  a.changed,
		Corrupt: func(file string, inode uint64) {
			a.log.Error("an image is corrupt; reading it fails from now on", "release", name, "file", file)
			a.run(func(context.Context) { a.corrupt(inode) })
		},
		Withdrawn: func(inode uint64) { a.run(func(context.Context) { a.corrupt(inode) }) },
		Replaced:  func() { a.replace(r) },
	}
}

// presented is what a package of the release is to the trust state.
func presented(r *Release, v *xvm.Verdict) trust.Package {
	return trust.Package{
		ID: r.id, Name: r.name, Manifest: v.Identity(), Former: !r.Withdrawn().IsZero(),
		Signed: v.Manifest.State == xvm.Good || v.By == xvm.BySidecar, Signer: v.Signer(),
	}
}

// remember tells the trust state of a package, unless the feed has dropped it.
func remember(r *Release, v *xvm.Verdict) {
	if r.Withdrawn().IsZero() {
		r.around.sentry.remember(r.Item(), presented(r, v), v)
	}
}

// judged is told of a verdict that took the place of another.
func (r *Release) judged(was, is *xvm.Verdict) {
	// A sidecar is looked for when a package is opened, and another one may count.
	again := is.Refused != "" && (was.UsesSidecar() || is.WantsSidecar() && r.around.bundles.Sidecar != "")
	if was.Refused == is.Refused && !again {
		return
	}
	r.around.run(func(context.Context) {
		remember(r, is)
		if is.Refused == "" {
			r.around.log.Info("the release is trusted now", "release", r.Name(), "signer", is.Signer())
		}
		if again {
			r.around.reopen(r)
		}
		r.around.changed()
	})
}

// renewed returns a URL for the archive other than was, after a look at the feed if it
// knows none yet; "" if there is none.
func (r *Release) renewed(ctx context.Context, was string) string {
	if url := r.newestURL(); url != was {
		return url
	}
	wait := time.NewTimer(renewWait)
	defer wait.Stop()
	select {
	case <-r.around.lookAgain():
	case <-wait.C:
	case <-ctx.Done():
	}
	if url := r.newestURL(); url != was {
		return url
	}
	return ""
}

// newestURL is where the feed says the release's archive is, even if it takes that for
// another one by now: validators tell whether it is.
func (r *Release) newestURL() string { return r.line.newest.Load().URL() }

// nextOf is a new generation of the release.
func nextOf(r *Release) *Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	return newRelease(r.around, r.now, r.from, r.generation+1)
}

// takeOver gives r what its holders and the disk know of was. It is called before
// others see r.
func takeOver(r, was *Release) *Release {
	was.mu.Lock()
	r.record, r.kept, r.left, r.returned, r.images, r.hold, r.guard = was.record, was.kept, was.left, was.returned, was.images, was.hold, was.guard
	was.mu.Unlock() // which the record's mu comes before
	if r.kept {
		r.record.KeepBy((*outside)(r))
	}
	return r
}

// supersede makes r the generation that follows was. It is called before others see r.
func supersede(r, was *Release) *Release {
	r.line = was.line
	r.line.newest.Store(r)
	return r
}

// OpenFile opens the release's archive where that is a file of this machine
// which its feed may name.
func (r *Release) OpenFile() (f *os.File, isFile bool, err error) { return archive.OpenFile(r.place()) }
