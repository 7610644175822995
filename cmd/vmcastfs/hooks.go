package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
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

// hookName is what run-parts(8) would run.
var hookName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

func (h *hooks) programs() []string {
	var list []string
	if h.program != "" {
		list = append(list, h.program)
	}
	if h.dir == "" {
		return list
	}
	entries, err := os.ReadDir(h.dir) // sorted
	if err != nil {
		h.log.Error("no hooks", "err", err)
	}
	for _, entry := range entries {
		if !hookName.MatchString(entry.Name()) || strings.Contains(entry.Name(), ".dpkg-") {
			continue
		}
		path := filepath.Join(h.dir, entry.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			list = append(list, path)
		}
	}
	return list
}

// safeHook refuses a program that another user could have put there.
func safeHook(path string) error {
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to another user (%d)", p, st.Uid)
		}
		if info.Mode()&0o022 != 0 && !(info.IsDir() && info.Mode()&os.ModeSticky != 0) {
			return fmt.Errorf("%s can be written to by others (mode %#o)", p, info.Mode().Perm())
		}
	}
	return nil
}

// exec runs a program, without a shell; what the feed says is only ever in the
// environment.
func (h *hooks) exec(ctx context.Context, program string, e event) error {
	if err := safeHook(program); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hookLimit, fmt.Errorf("it took more than %s", hookLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, e.kind)
	cmd.Dir = "/"
	cmd.Env = h.environment(e)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = time.Second
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		h.copy(program, out)
	}()
	err = cmd.Wait()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	select { // a child may have kept the pipe
	case <-copied:
	case <-time.After(cmd.WaitDelay):
	}
	out.Close()
	<-copied
	return err
}

// copy puts the output into the log, line by line.
func (h *hooks) copy(program string, out io.Reader) {
	lines := bufio.NewScanner(io.LimitReader(out, hookOutput))
	for lines.Scan() {
		if line := show.Text(lines.Text()); line != "" {
			h.log.Info("hook says", "hook", program, "line", line)
		}
	}
	_, _ = io.Copy(io.Discard, out) // so that it does not wait for us
}

// environment has the facts, and nothing of ours.
func (h *hooks) environment(e event) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for _, v := range [][2]string{
		{"EVENT", e.kind}, {"FEED", string(scrub([]byte(h.feed)))}, {"DIR", h.mount},
		{"RELEASE", e.name}, {"TITLE", show.Text(e.release.Title)}, {"PUBLISHED", e.release.Published},
		{"URL", string(scrub([]byte(e.release.URL)))}, {"PATH", filepath.Join(h.mount, e.name, e.file)},
		{"FILE", e.file}, {"MIRROR", e.mirror}, {"REASON", show.Text(e.reason)},
	} {
		env = append(env, "VMCASTFS_"+v[0]+"="+v[1])
	}
	return env
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
