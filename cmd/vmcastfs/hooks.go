package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
)

// Events that hooks are run for.
const (
	eventNew       = "new"         // a release has come into the feed
	eventReplaced  = "replaced"    // a release names another package, or its package was replaced
	eventWithdrawn = "withdrawn"   // a release has left the feed
	eventCorrupt   = "corrupt"     // an image does not match its sums
	eventLied      = "mirror-lied" // a mirror gave what was not asked for
	eventRefused   = "refused"     // a release is not served any more, or not at all: nobody trusted vouches for it
)

const (
	hookLimit  = 10 * time.Second // for one run of one program
	hookOutput = 64 << 10         // bytes of its output that go to the log
	hookEvents = 100              // at one look at the feed
	kindEvents = "events"         // the store's document: what hooks were told, by feed
)

// event is one thing that happened.
type event struct {
	kind    string
	release known
	name    string // of the release's directory
	file    string // of a corrupt image
	reason  string // of a corrupt image, or why a release is refused
	mirror  string // that has lied
}

func (e event) rank() int {
	if e.kind == eventCorrupt || e.kind == eventLied || e.kind == eventRefused {
		return 0
	}
	return 1
}

// known is what hooks were told of a release, as it is kept in the store.
type known struct {
	Name      string   `json:"name"`
	Title     string   `json:"title"`
	URL       string   `json:"url"`
	Published string   `json:"published"`
	Gen       uint64   `json:"-"` // counts within this process only
	Corrupt   []string `json:"corrupt,omitempty"`
	Refused   bool     `json:"refused,omitempty"`
}

// hooks runs programs on events. What they have been told is kept in the cache
// directory, so that nothing is missed or told twice over a remount; the first
// mount of a feed tells nothing, as all of it would be new.
type hooks struct {
	dir, program string // of the options; ""
	mount        string
	feed         string
	store        *store.Store
	status       func() catalog.Status
	log          *slog.Logger

	releases map[string]known // by id
	fresh    bool             // nothing was on record
	lies     map[string]int   // of mirrors, in this process
	told     lastEvents
}

// run handles events until ctx ends. changed has to get a value after each
// change of the catalog; one that is pending stands for more.
func (h *hooks) run(ctx context.Context, changed <-chan struct{}) {
	h.load()
	for {
		h.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (h *hooks) load() {
	h.releases, h.lies = make(map[string]known), make(map[string]int)
	raw, err := h.store.GetDoc(kindEvents, h.feed)
	if err == nil {
		err = json.Unmarshal(raw, &h.releases)
	}
	h.fresh = err != nil
}

// look compares the catalog with what is known, and tells the difference.
func (h *hooks) look(ctx context.Context) {
	st := h.status()
	if st.Feed.LastSuccess == nil {
		return // there is no feed yet
	}
	events := h.difference(&st)
	if h.fresh {
		h.fresh = false
		events = slices.DeleteFunc(events, func(e event) bool { return e.kind != eventCorrupt && e.kind != eventLied })
	} else if len(events) == 0 {
		return
	}
	// A feed that names many new releases must not keep the corrupt image from
	// being told.
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.rank(), b.rank()) })
	if len(events) > hookEvents {
		h.log.Warn("too many events at once: hooks are not run for all of them", "events", len(events), "run", hookEvents)
		events = events[:hookEvents]
	}
	for _, e := range events {
		h.told.add(e, time.Now())
		h.tell(ctx, e)
	}
	if ctx.Err() != nil {
		return // who was interrupted is told again
	}
	raw, err := json.Marshal(h.releases)
	if err == nil {
		err = h.store.PutDoc(kindEvents, h.feed, raw)
	}
	if err != nil {
		h.log.Warn("what hooks were told is not kept", "err", err)
	}
}

// withdrawnID joins the id and the name of a release that the feed has dropped and
// that stays.
const withdrawnID = "\nwithdrawn\n"

// difference updates what is known and returns what is new in it.
func (h *hooks) difference(st *catalog.Status) []event {
	var events []event
	for _, m := range st.Mirrors {
		if m.Lies > h.lies[m.URL] {
			events = append(events, event{kind: eventLied, mirror: m.URL, reason: m.LastLie})
		}
		h.lies[m.URL] = m.Lies
	}
	now, stays := make(map[string]bool, len(st.Releases)), make(map[string]bool)
	for _, r := range st.Releases {
		id := r.ID
		if r.Withdrawn != nil { // another release may have its id by now
			id += withdrawnID + r.Name
			stays[r.ID] = true
		}
		now[id] = true
		was, old := h.releases[id]
		is := known{Name: r.Name, Title: r.Title, URL: r.URL, Gen: r.Generation}
		if r.Published != nil {
			is.Published = r.Published.UTC().Format(time.RFC3339)
		}
		switch {
		case !old && r.Withdrawn != nil:
			is.Corrupt, is.Refused = h.releases[r.ID].Corrupt, h.releases[r.ID].Refused
			events = append(events, event{kind: eventWithdrawn, release: is, name: r.Name})
		case !old:
			events = append(events, event{kind: eventNew, release: is, name: r.Name})
		case was.URL != is.URL || was.Gen != 0 && was.Gen != is.Gen:
			events = append(events, event{kind: eventReplaced, release: is, name: r.Name})
		default:
			is.Corrupt = was.Corrupt
		}
		is.Refused = (was.Refused || is.Refused) && r.State != "indexed" // until it is known to be served
		if r.State == "refused" && !is.Refused {
			is.Refused = true
			events = append(events, event{kind: eventRefused, release: is, name: r.Name, reason: r.Error})
		}
		for _, f := range r.Files {
			if f.State == "corrupt" && !slices.Contains(is.Corrupt, f.Name) {
				is.Corrupt = append(slices.Clip(is.Corrupt), f.Name)
				events = append(events, event{kind: eventCorrupt, release: is, name: r.Name, file: f.Name, reason: f.Note})
			}
		}
		h.releases[id] = is
	}
	for id, was := range h.releases {
		if now[id] {
			continue
		}
		delete(h.releases, id)
		if !strings.Contains(id, withdrawnID) && !stays[id] {
			events = append(events, event{kind: eventWithdrawn, release: was, name: was.Name})
		}
	}
	return events
}

// tell runs the programs for one event, one after the other.
func (h *hooks) tell(ctx context.Context, e event) {
	for _, program := range h.programs() {
		if ctx.Err() != nil {
			return
		}
		if err := h.exec(ctx, program, e); err != nil {
			h.log.Error("hook failed", "hook", program, "event", e.kind, "release", cmp.Or(e.name, e.mirror), "err", err)
		}
	}
}

// checkHooks refuses, before mounting, what could never run.
func checkHooks(o options) error {
	if o.OnEvent != "" {
		info, err := os.Stat(o.OnEvent)
		if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			err = errors.New("it is no program")
		}
		if err == nil {
			err = safeHook(o.OnEvent)
		}
		if err != nil {
			return usagef("option on_event=%s: %w", o.OnEvent, err)
		}
	}
	if o.Hooks != "" {
		if info, err := os.Stat(o.Hooks); err != nil {
			return usagef("option hooks=%s: %w", o.Hooks, err)
		} else if !info.IsDir() {
			return usagef("option hooks=%s: it is no directory", o.Hooks)
		}
	}
	return nil
}
