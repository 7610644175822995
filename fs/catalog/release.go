package catalog

import (
	"context"
	"os"
	"sync"
	"time"

	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
)

const (
	// kindPackage are the persisted packageDocs.
	kindPackage = "package"
	// indexTimeout bounds how long a listing waits for an archive that is not
	// indexed yet, also under hard: a directory must not hang.
	indexTimeout = 30 * time.Second
	// indexPause is how long a failed indexing is not tried again.
	indexPause = 5 * time.Second
)

// Release is one generation of one item of the feed: it stands for one
// version of one archive. When the archive is replaced, or the item names
// another one, a new Release takes its place in the snapshot; this one stays
// usable for who holds it.
//
// mu guards what follows it. It is never held over I/O.
type Release struct {
	cat        *Catalog
	item       feed.Release // as it was first seen: the id, the name, and which package
	generation uint64

	mu      sync.Mutex
	from    string       // who gave the feed that names it, see feed.Document
	now     feed.Release // as the feed has it now: another title, date, notes, or URL of the same package
	pkg     *Package
	loading chan struct{}   // closed when the indexing under way ends; nil: none
	taking  archive.Content // what is taken whole for that; nil: nothing
	failed  *failure

	checking bool      // its server is being asked whether the archive is the same
	checked  time.Time // when that was last known, or tried; zero: never
}

type failure struct {
	err error
	at  time.Time
}

// Name is the directory name.
func (r *Release) Name() string { return r.item.Name }

func newRelease(c *Catalog, item feed.Release, from string, generation uint64) *Release {
	return &Release{cat: c, item: item, now: item, from: from, generation: generation}
}

// Item is what the feed says now.
func (r *Release) Item() feed.Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// URL is where the feed says the archive is, now.
func (r *Release) URL() string { return r.Item().URL }

func (r *Release) setFrom(from string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = from
}

func (r *Release) feedFrom() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from
}

// edit takes over what the feed says now of the same package. Another URL of it
// is asked from now on. That the archive there is the same is not believed: its
// validators are compared with each answer.
func (r *Release) edit(item feed.Release) {
	r.mu.Lock()
	moved := r.now.URL != item.URL
	if r.now = item; moved {
		r.failed = nil
	}
	p := r.pkg
	r.mu.Unlock()
	if moved && p != nil {
		p.archive.Move()
		r.checkSoon(0)
	}
}

// Published is the item's date, or the zero time.
func (r *Release) Published() time.Time { return r.Item().Published }

// Generation tells the archives that stood behind this release in this process
// from each other: it grows from one to the next.
func (r *Release) Generation() uint64 { return r.generation }

// place says where the release's archive is.
func (r *Release) place() archive.Place {
	return archive.Place{
		Name: r.Name(), URL: r.URL, Key: feed.URLKey(r.item.URL), Base: r.cat.cfg.FeedURL, Writer: r.feedFrom,
		Renew:    r.renewed,
		Replaced: func() { r.cat.replace(r) },
	}
}

// OpenFile opens the release's archive where that is a file of this machine
// which its feed may name.
func (r *Release) OpenFile() (f *os.File, isFile bool, err error) { return archive.OpenFile(r.place()) }

// docName names the release's persisted package: another place is another one.
func (r *Release) docName() string { return r.item.ID + "\n" + feed.URLKey(r.item.URL) }

// Peek returns the package if it is indexed.
func (r *Release) Peek() (*Package, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pkg, r.pkg != nil
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
func (r *Release) Package(ctx context.Context) (*Package, error) {
	for {
		r.mu.Lock()
		if r.pkg != nil {
			defer r.mu.Unlock()
			return r.pkg, nil
		}
		if r.failed != nil && time.Since(r.failed.at) < indexPause {
			defer r.mu.Unlock()
			return nil, r.failed.err
		}
		if r.loading == nil {
			r.loading = make(chan struct{})
			if !r.cat.background(r.load) {
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
