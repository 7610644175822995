package trust

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"vmcastfs/feed"
)

// State is the part of a Dir that concerns one feed, as a mount uses
// it. What it learns is in memory at once and on the disk soon, see delay.
//
// mu guards what follows it; it is a leaf, but held over reading and writing
// the file.
type State struct {
	dir *Dir
	url string
	log *slog.Logger

	mu      sync.Mutex
	now     *Feed // nil: it is on the disk alone, see Rest
	stamp   stamp // of now
	asked   bool  // for now, since the last Rest
	pending []func(*Feed)
	timer   *time.Timer   // runs while something is pending
	took    time.Duration // the last writing
	closed  bool
	err     error // why what was learned is not on the disk
}

// delay is how long changes are gathered before they are written as a whole, and writing
// takes no more than one part in spare of the time. It is never longer than maxDelay.
const (
	delay    = 200 * time.Millisecond
	spare    = 20
	maxDelay = 2 * time.Second
)

// stamp tells whether the file is the one that was read.
type stamp struct {
	ino         uint64
	size, mtime int64
}

func (d *Dir) stamp(feedURL string) stamp {
	st, err := d.feeds.StatOf(file(feedURL))
	if err != nil {
		return stamp{}
	}
	return stamp{st.Ino, st.Size, st.Mtim.Nano()}
}

// Open opens what is known of a feed; it fails if that cannot be
// read, or the directory cannot be written. Close it after the Catalog.
func Open(dir, feedURL string, log *slog.Logger) (*State, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d, err := OpenDir(dir, true)
	if err != nil {
		return nil, err
	}
	s := &State{dir: d, url: feedURL, log: log}
	s.now, err = d.Change(feedURL, func(*Feed) error { return nil })
	if err != nil {
		d.Close()
		return nil, err
	}
	s.stamp = d.stamp(feedURL)
	return s, nil
}

// Close writes what is not on the disk yet.
func (s *State) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.save()
	return errors.Join(s.err, s.dir.Close())
}

// look calls fn with the present state, having read what other processes made
// of it.
func (s *State) look(fn func(*Feed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	fn(s.now)
}

// refresh reads the file if it is another one; mu is held.
func (s *State) refresh() {
	s.asked = true
	stamp := s.dir.stamp(s.url)
	if s.now != nil && stamp == s.stamp {
		return
	}
	t, err := s.dir.Load(s.url)
	if err != nil {
		s.fail(err)
		if s.now == nil {
			s.now = emptyFeed(s.url) // Err says what that is worth; the file is tried again
		}
		return
	}
	for _, fn := range s.pending {
		fn(t)
	}
	if s.now, s.stamp = t, stamp; len(s.pending) == 0 {
		s.err = nil
	}
}

// Rest gives back what is on the disk, if nobody has asked for it since the last call, and
// reports whether it did.
func (s *State) Rest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := !s.asked && s.now != nil && len(s.pending) == 0 && s.err == nil && s.stamp != (stamp{})
	if s.asked = false; idle {
		s.now, s.stamp = nil, stamp{}
	}
	return idle
}

// change has fn applied to the state, now and to what is on the disk soon: it
// may run several times.
func (s *State) change(fn func(*Feed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	fn(s.now)
	s.pending = append(s.pending, fn)
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(min(max(delay, spare*s.took), maxDelay), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer = nil
			s.save()
		})
	}
}

// save writes what is pending; mu is held.
func (s *State) save() {
	if len(s.pending) == 0 {
		return
	}
	begin := time.Now()
	t, err := s.dir.Change(s.url, func(t *Feed) error {
		for _, fn := range s.pending {
			fn(t)
		}
		return nil
	})
	s.took = time.Since(begin)
	if err != nil {
		s.fail(err) // kept pending: the next change tries again
		return
	}
	s.now, s.stamp, s.pending, s.err = t, s.dir.stamp(s.url), nil, nil
}

// fail says once why nothing is kept; mu is held.
func (s *State) fail(err error) {
	if s.err == nil {
		s.log.Error("what was seen of the feed cannot be kept", "err", err)
	}
	s.err = err
}

// Err is why the state on the disk is not up to date, or nil.
func (s *State) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Rollback says why a feed is older than what was seen of it, or "".
func (s *State) Rollback(f *feed.Feed) (why string) {
	s.look(func(t *Feed) { why = t.rollback(f, time.Now()) })
	return why
}

// TakeFeed compares a feed that has come with what was seen, and learns from
// it. believed: its newest release counts as seen without a signature.
func (s *State) TakeFeed(f *feed.Feed, believed bool) (why string) {
	s.changeIf(func(t *Feed) bool { return len(t.renamed(f)) > 0 }, func(t *Feed) { t.rename(t.renamed(f)) })
	why = s.Rollback(f)
	now := time.Now().UTC().Truncate(time.Second)
	newest := f.Newest(now)
	s.changeIf(func(t *Feed) bool { return t.wouldNote(why, newest, believed, now) }, func(t *Feed) {
		if why != "" {
			t.raise(Alarm{Kind: Rollback, ID: newest.ID, Name: newest.Name, Offered: newest.ID, Published: newest.Published, Text: why, At: now})
			return
		}
		t.settle(func(a Alarm) bool { return a.Kind == Rollback })
		if believed && newest.ID != "" {
			t.advance(newest, now)
		}
	})
	return why
}

// Objection says in what a package contradicts what was seen before, or "".
func (s *State) Objection(p Package) (why string) {
	s.look(func(t *Feed) { _, why = t.objection(p) })
	return why
}

// TakePackage compares the package of a release with what was seen, and learns
// from it. believed: it counts as seen without a signature.
func (s *State) TakePackage(p Package, r feed.Release, believed bool) (why string) {
	why = s.Objection(p)
	now := time.Now().UTC().Truncate(time.Second)
	s.changeIf(func(t *Feed) bool {
		if known := t.Releases[p.ID]; why == "" && (p.Manifest == "" || known != nil && known.Manifest == p.Manifest && known.Signed == p.Signed) {
			copied := *t
			copied.advance(r, now)
			return copied.Newest != t.Newest || slices.ContainsFunc(t.Alarms, func(a Alarm) bool { return a.ID == p.ID && a.Kind != Rollback })
		}
		return true
	}, func(t *Feed) {
		if p.Signed && why == "" || believed {
			t.advance(r, now)
		}
		t.note(p, now)
	})
	return why
}

// changeIf is change, if there is anything to change.
func (s *State) changeIf(needed func(*Feed) bool, fn func(*Feed)) {
	s.mu.Lock()
	s.refresh()
	needs := needed(s.now)
	s.mu.Unlock()
	if needs {
		s.change(fn)
	}
}
