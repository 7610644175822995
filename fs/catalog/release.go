package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/catalog/kept"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

const (
	// indexTimeout bounds how long a listing waits for an archive that is not
	// indexed yet, also under hard: a directory must not hang.
	indexTimeout = 30 * time.Second
	// longIndex is for archives that take long to index. Some have many headers
	// (an XVA has two for each MiB). Others must be read whole: they are
	// compressed, or their server has no ranges.
	longIndex = 6 * time.Hour
	// indexPause is how long a failed indexing is not tried again.
	indexPause = 5 * time.Second
	// renewWait bounds how long a read whose URL has expired waits for the feed to
	// name a fresh one.
	renewWait = 5 * time.Second
)

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
	item       feed.Release // as it was first seen: the id, the name, and which package
	generation uint64
	record     *bundle.Record
	checker    checker
	line       *line

	// mu guards what follows it. It is never held over I/O. It comes after Catalog.mu
	// and before tasks.mu.
	mu      sync.Mutex
	from    string       // who gave the feed that names it, see feed.Document
	now     feed.Release // as the feed has it now: another title, date, notes, or URL of the same package
	pkg     *bundle.Package
	idle    weak.Pointer[bundle.Package] // it, once it was given back; see shelf
	was     store.Key                    // what it is of; "": it has not been indexed
	loading chan struct{}                // closed when the indexing under way ends; nil: none
	taking  archive.Content              // what is taken whole for that; nil: nothing
	wanted  purpose                      // the strongest of those that wait for it
	failed  *failure

	kept     bool        // it is kept outside of the cache
	left     time.Time   // when the feed was found to have dropped it; zero: it has not
	returned bool        // it had been dropped before
	images   []store.Key // of its images, if it is kept
	warm     *WarmStatus // nil: it was never the newest
	hold     hold        // why it stays, as of the last look
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

func newRelease(around *surroundings, item feed.Release, from string, generation uint64) *Release {
	log := around.log.With("release", item.Name)
	r := &Release{
		around: around, item: item, now: item, from: from, generation: generation,
		record: bundle.NewRecord(around.bundles.Images.Store, item.ID, feed.URLKey(item.URL), log),
		line:   new(line),
	}
	r.line.newest.Store(r)
	return r
}

// Name is the directory name.
func (r *Release) Name() string { return r.item.Name }

// Item is what the feed says now.
func (r *Release) Item() feed.Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// URL is where the feed says the archive is, now.
func (r *Release) URL() string { return r.Item().URL }

// Published is the item's date, or the zero time.
func (r *Release) Published() time.Time { return r.Item().Published }

// Generation tells the archives that stood behind this release in this process
// from each other: it grows from one to the next.
func (r *Release) Generation() uint64 { return r.generation }

func (r *Release) key() string { return feed.URLKey(r.item.URL) }

func (r *Release) feedFrom() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from
}

// edit takes over what the feed, and whoever gave it, say now of the same package.
// Another URL of it is asked from now on. That the archive there is the same is
// not believed: its validators are compared with each answer.
func (r *Release) edit(item feed.Release, from string) {
	r.mu.Lock()
	moved := r.now.URL != item.URL
	r.now, r.from = item, from
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
		Renew: r.renewed, Replaced: func() { r.around.replace(r) },
	}
}

// told is what the package is told of the release.
func (r *Release) told() bundle.Release {
	a, name := r.around, r.item.Name
	return bundle.Release{
		ID: r.item.ID, Name: name, Key: r.key(), Item: r.Item, Record: r.record,
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
		ID: r.item.ID, Name: r.item.Name, Manifest: v.Identity(), Former: !r.Withdrawn().IsZero(),
		Signed: v.Manifest.State == xvm.Good || v.By == xvm.BySidecar, Signer: v.Signer(),
	}
}

// remember tells the trust state of a package, unless the feed has dropped it.
func remember(r *Release, v *xvm.Verdict) {
	if r.Withdrawn().IsZero() {
		r.around.sentry.remember(r.item, presented(r, v), v)
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
	return newRelease(r.around, r.Item(), r.feedFrom(), r.generation+1)
}

// takeOver gives r what its holders and the disk know of was. It is called before
// others see r.
func takeOver(r, was *Release) *Release {
	was.mu.Lock()
	r.record, r.kept, r.left, r.returned, r.images, r.hold = was.record, was.kept, was.left, was.returned, was.images, was.hold
	was.mu.Unlock() // which the record's mu comes before
	if r.kept {
		r.record.KeepBy(keepDocument(r))
	}
	return r
}

// supersede makes r the generation that follows was. It is called before others see r.
func supersede(r, was *Release) *Release {
	r.line = was.line
	r.line.newest.Store(r)
	return r
}

// checkSoon has the archive checked, in the background, unless that was done
// a short while ago.
func (r *Release) checkSoon(atMost time.Duration) {
	if p, ok := r.Peek(); ok && r.Withdrawn().IsZero() && r.checker.due(atMost) {
		r.around.run(func(ctx context.Context) { _ = r.check(ctx, p) })
	}
}

// confirm is called before an image is opened. If nothing of this process has asked
// whether the archive is still the one that the disk knows, it asks, and waits for the
// answer at most confirmWait. The error is archive.ErrReplaced if it is another one.
func (r *Release) confirm(ctx context.Context) error {
	p, ok := r.Peek()
	if !ok || !r.Withdrawn().IsZero() {
		return nil
	}
	wait, begin := r.checker.unconfirmed()
	if wait == nil {
		r.checkSoon(checkEvery)
		return nil
	}
	if begin && !r.around.run(func(ctx context.Context) { _ = r.check(ctx, p) }) {
		return context.Canceled
	}
	patience := time.NewTimer(confirmWait)
	defer patience.Stop()
	select {
	case <-wait:
	case <-patience.C:
		r.checker.giveUp()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.line.newest.Load() != r {
		return archive.ErrReplaced
	}
	return nil
}

// Confirm asks whether the archive is still the one that the disk knows, unless
// something of this process has just asked, and waits for the answer. It returns the
// newest generation, which is another one if the archive was replaced. An error is why
// there is no answer.
func (r *Release) Confirm(ctx context.Context) (*Release, error) {
	p, ok := r.Peek()
	if !ok || !r.Withdrawn().IsZero() || !r.checker.due(checkEvery) {
		return r.line.newest.Load(), nil
	}
	err := r.check(ctx, p)
	return r.line.newest.Load(), err
}

// check asks whether the archive is the same, after checker.due.
func (r *Release) check(ctx context.Context, p *bundle.Package) error {
	defer r.checker.done() // after the new generation is known
	changed, err := r.checker.check(ctx, p.Check, r.URL, r.around.log.With("release", r.Name()))
	if changed {
		r.around.replace(r)
	}
	return err
}

// OpenFile opens the release's archive where that is a file of this machine
// which its feed may name.
func (r *Release) OpenFile() (f *os.File, isFile bool, err error) { return archive.OpenFile(r.place()) }

// Peek returns the package if it is indexed.
func (r *Release) Peek() (*bundle.Package, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := held(r)
	return p, p != nil
}

// held is the package, if it is in memory; mu is held.
func held(r *Release) *bundle.Package {
	if r.pkg != nil {
		return r.pkg
	}
	return r.idle.Value()
}

// giveBack forgets the package, as soon as nobody uses it. That of a release that is
// kept, or that is not the newest of its item, cannot be had again.
func giveBack(r *Release) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pkg != nil && !r.kept && r.line.newest.Load() == r {
		r.idle, r.pkg = weak.Make(r.pkg), nil
	}
}

// LastError is why the release could not be indexed, the last time it was
// tried; nil once it is.
func (r *Release) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		return nil
	}
	return r.failed.err
}

// Package returns the indexed package. The first use reads what is persisted,
// or walks the archive over the network, once for however many ask; ctx ends
// only this caller's waiting.
func (r *Release) Package(ctx context.Context) (*bundle.Package, error) { return index(ctx, r, toUse) }

func index(ctx context.Context, r *Release, why purpose) (*bundle.Package, error) {
	for {
		r.mu.Lock()
		if p := held(r); p != nil {
			r.mu.Unlock()
			r.around.shelf.use(r, p.Bytes())
			return p, nil
		}
		if r.was != "" && r.line.newest.Load() != r {
			defer r.mu.Unlock()
			return nil, archive.ErrReplaced
		}
		if r.failed != nil {
			unlisted := errors.Is(r.failed.err, ErrNotListed)
			if unlisted && why < toUse || !unlisted && time.Since(r.failed.at) < indexPause {
				defer r.mu.Unlock()
				return nil, r.failed.err
			}
		}
		r.wanted = max(r.wanted, why)
		if r.loading == nil {
			r.loading = make(chan struct{})
			if !r.around.run(r.load) {
				close(r.loading)
				r.loading = nil
				defer r.mu.Unlock()
				return nil, context.Canceled
			}
		}
		loading := r.loading
		r.mu.Unlock()
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// load indexes the release and says how that went.
func (r *Release) load(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(indexTimeout, func() { cancel(context.DeadlineExceeded) })
	defer deadline.Stop()
	ctx, stop := patience(archive.Quietly(ctx, func() bool { return unawaited(r) }), r.around.remote, r.URL)
	defer stop()
	was := r.URL()
	long := func() { deadline.Reset(longIndex) }
	p, err := r.open(ctx, long)
	if remote.IsLost(err) && r.renewed(ctx, was) != "" && r.URL() != was {
		p, err = r.open(ctx, long)
	}
	if err != nil {
		for _, cause := range []error{errDown, context.DeadlineExceeded} {
			if context.Cause(ctx) == cause && !errors.Is(err, cause) {
				err = fmt.Errorf("%w: %w", cause, err)
			}
		}
		if err = explain(r, err); errors.Is(err, ErrNotListed) {
			r.around.log.Info("a release is not listed yet", "release", r.Name(), "why", err)
		} else {
			r.around.log.Error("release cannot be opened", "release", r.Name(), "err", err)
		}
	} else {
		remember(r, p.Verdict())
		p.Prepare(ctx)
	}
	r.mu.Lock()
	replaced := err == nil && r.was != "" && r.was != p.Is()
	if replaced {
		err = archive.ErrReplaced // what was listed was of another one
	}
	if err != nil {
		r.failed = &failure{err, time.Now()}
	} else {
		r.pkg, r.was, r.failed = p, p.Is(), nil
	}
	close(r.loading)
	r.loading, r.taking, r.wanted = nil, nil, toKnow
	r.mu.Unlock()
	switch {
	case replaced:
		r.around.replace(r)
	case err == nil:
		p.Archive().Move() // it may have moved meanwhile
	}
}

// open finds the package. It calls long when that is going to take long.
func (r *Release) open(ctx context.Context, long func()) (_ *bundle.Package, err error) {
	defer func() {
		// A fault in what reads the archive must not end the process that
		// serves the mount.
		if p := recover(); p != nil {
			r.around.log.Error("panic while indexing a release", "release", r.Name(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	taking := func(w archive.Content) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.taking = w
	}
	p, asked, err := bundle.Open(ctx, r.around.bundles, r.told(), r.place(), bundle.Progress{Long: long, Taking: taking, Inflate: func() error { return mayInflate(r) }})
	if err == nil && asked {
		r.checker.done()
	}
	return p, err
}

// indexing tells whether the release is being indexed. Taken is how many bytes
// have come of an archive that has to be read, or inflated, whole.
func (r *Release) indexing() (taken int64, yes bool) {
	r.mu.Lock()
	w, yes := r.taking, r.loading != nil
	r.mu.Unlock()
	if w != nil {
		taken = w.Taken()
	}
	return taken, yes
}

// explain says what was found instead of a package, and what to do.
func explain(r *Release, err error) error {
	what := fmt.Sprintf("release %s: %s", r.Name(), show.URL(r.URL()))
	var tar *xvm.TarError
	switch {
	case errors.Is(err, remote.ErrNotFound):
		return fmt.Errorf("%s: the package is not on the server; tell the publisher: %w", what, err)
	case errors.Is(err, ErrNotListed):
		return fmt.Errorf("%s: %w; `ls DIR/%s/xvm.xml` or `vmcastfs prefetch DIR/%s` does, and then it is listed", what, err, r.Name(), r.Name())
	case errors.As(err, &tar):
		return fmt.Errorf("%s: %w; tell the publisher", what, err)
	case errors.Is(err, errDown):
		return fmt.Errorf("%s: its server has been failing; it is tried again at the next use: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer within %s; it is tried again at the next use: %w", what, indexTimeout, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
