package main

import (
	"fmt"
	"sync"
	"time"

	"vmcastfs/cmd/internal/page"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bases"
)

// pageSource is what the page shows of a mount.
func pageSource(a *services, s *session) page.Source {
	return page.Source{
		Dir: a.watch.dir, Version: version(),
		Status: func() catalog.Status { return catalog.KnownStatus(s.catalog) },
		Picture: func(release, file string, n int, boot bool) (catalog.Boot, bool) {
			return catalog.PictureOf(s.catalog, release, file, n, boot)
		},
		Pinned: s.store.Kept, Events: a.hooks.told.list,
		Machines: func() (list []page.Machine) {
			records, _ := bases.List(a.vms)
			for _, r := range records {
				list = append(list, page.Machine{Feed: r.Feed, Name: r.Name, Release: r.Release, Engine: r.Engine, Disk: r.Disk, Created: r.Created})
			}
			return list
		},
	}
}

// lastEvents are the last events of a mount, for the page. The zero value has none.
//
// mu guards what follows it; it is a leaf.
type lastEvents struct {
	mu     sync.Mutex
	events []page.Event // the last first
}

// keptEvents is how many of them are kept.
const keptEvents = 30

func (l *lastEvents) add(e event, at time.Time) {
	x := page.Event{At: at}
	name := e.name
	switch reason := e.reason; e.kind {
	case eventNew:
		x.Text = name + " is new in the feed"
	case eventReplaced:
		x.Text = "the package of " + name + " was replaced"
	case eventWithdrawn:
		x.Text = name + " has left the feed"
	case eventCorrupt:
		x.Kind, x.Text = "bad", fmt.Sprintf("%s/%s is corrupt: %s", name, e.file, reason)
	case eventLied:
		x.Kind, x.Text = "bad", fmt.Sprintf("the mirror %s gave what was not asked for: %s", e.mirror, reason)
	case eventRefused:
		x.Kind, x.Text = "bad", fmt.Sprintf("%s is refused: %s", name, reason)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append([]page.Event{x}, l.events...)
	l.events = l.events[:min(len(l.events), keptEvents)]
}

func (l *lastEvents) list() []page.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]page.Event(nil), l.events...)
}
