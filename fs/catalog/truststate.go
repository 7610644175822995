package catalog

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// FeedTrust is what this host remembers of one feed, as it is kept on disk.
type FeedTrust struct {
	Version  int                     `json:"version"`
	Feed     string                  `json:"feed"`             // its URL
	Newest   *NewestSeen             `json:"newest,omitempty"` // the newest release so far
	Releases map[string]*ReleaseSeen `json:"releases"`         // by id
	Alarms   []Alarm                 `json:"alarms,omitempty"` // what awaits the operator
}

// NewestSeen is the newest release that the feed has had.
type NewestSeen struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Published time.Time `json:"published,omitzero"`
	Seen      time.Time `json:"seen"`
}

// ReleaseSeen is what a release was when it was first seen, or accepted.
type ReleaseSeen struct {
	Name     string    `json:"name"`
	Manifest string    `json:"manifest"` // SHA-256
	Signed   bool      `json:"signed"`   // by a key that was trusted
	Signer   string    `json:"signer,omitempty"`
	First    time.Time `json:"first_seen"`
	Accepted time.Time `json:"accepted,omitzero"` // by the operator
}

// AlarmKind says what an Alarm is about.
type AlarmKind string

// The kinds of alarm.
const (
	// AlarmChanged: the manifest of a release is not the one first seen.
	AlarmChanged AlarmKind = "changed"
	// AlarmReplayed: the signed manifest of one release came under another.
	AlarmReplayed AlarmKind = "replayed"
	// AlarmRollback: the newest release of the feed is older than one seen before.
	AlarmRollback AlarmKind = "rollback"
)

// Alarm is something that no honest publisher does by accident.
type Alarm struct {
	Kind AlarmKind `json:"kind"`
	ID   string    `json:"id"`   // of the release; of the newest one for a rollback
	Name string    `json:"name"` // of the same
	// Offered is what Accept would record: a manifest, or for a rollback the
	// release to take for the newest.
	Offered   string    `json:"offered"`
	Published time.Time `json:"published,omitzero"` // of Offered, for a rollback
	Signed    bool      `json:"signed,omitempty"`
	Signer    string    `json:"signer,omitempty"`
	Text      string    `json:"text"`
	At        time.Time `json:"at"` // when it was first noticed
}

const (
	feedTrustVersion = 1
	maxTrustFile     = 64 << 20
	maxTrustReleases = 65536 // the first seen longest ago go
	maxAlarms        = 1000
)

// TrustDir is the directory of the trust state: one file for each feed. It is
// outside the cache, since forgetting what was seen is what an attacker wants.
// Each change is made under a lock among processes, and replaces the file.
type TrustDir struct{ path string }

// OpenTrustDir makes the directory if need be. It must be this user's and
// nobody else's; write asks that it can be written.
func OpenTrustDir(dir string, write bool) (*TrustDir, error) {
	d := &TrustDir{dir}
	if dir == "" {
		return nil, errors.New("trust state: there is no directory for it")
	}
	if write {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, fmt.Errorf("trust state: %w", err)
		}
	}
	for _, sub := range []string{dir, d.feeds()} {
		if write {
			if err := os.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("trust state: %w", err)
			}
		}
		if err := checkOwner(sub); err != nil {
			return nil, fmt.Errorf("trust state: %w", err)
		}
	}
	if write {
		unlock, err := d.lock()
		if err != nil {
			return nil, fmt.Errorf("trust state: %w", err)
		}
		unlock()
	}
	return d, nil
}

// checkOwner refuses a directory that others may change, or have made.
func checkOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to this one", dir, st.Uid)
	case info.Mode().Perm()&0o077 == 0:
		return nil
	}
	return os.Chmod(dir, 0o700)
}

func (d *TrustDir) feeds() string { return filepath.Join(d.path, "feeds") }

func (d *TrustDir) file(feedURL string) string {
	sum := sha256.Sum256([]byte(feedURL))
	return filepath.Join(d.feeds(), fmt.Sprintf("%x.json", sum[:16]))
}

// lock keeps other processes from changing anything until unlock.
func (d *TrustDir) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(d.path, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// Load reads what is known of a feed; of one never seen that is nothing.
func (d *TrustDir) Load(feedURL string) (*FeedTrust, error) {
	t, err := loadTrust(d.file(feedURL))
	if errors.Is(err, fs.ErrNotExist) {
		return &FeedTrust{Version: feedTrustVersion, Feed: feedURL, Releases: map[string]*ReleaseSeen{}}, nil
	}
	return t, err
}

func loadTrust(path string) (*FeedTrust, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxTrustFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxTrustFile)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxTrustFile))
	if err != nil {
		return nil, err
	}
	t, err := parseTrust(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return t, nil
}

// parseTrust reads what is kept of a feed. Taking what is damaged for empty would
// be forgetting.
func parseTrust(raw []byte) (*FeedTrust, error) {
	var t FeedTrust
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("is damaged: %w; move it away to begin anew", err)
	}
	switch {
	case t.Version > feedTrustVersion:
		return nil, errors.New("was written by a newer version")
	case t.Version < 1:
		return nil, errors.New("is damaged: it has no version; move it away to begin anew")
	}
	if t.Releases == nil {
		t.Releases = make(map[string]*ReleaseSeen)
	}
	for id, r := range t.Releases {
		if r == nil {
			delete(t.Releases, id)
		}
	}
	return &t, nil
}

// Feeds lists what is known of all feeds, by URL.
func (d *TrustDir) Feeds() ([]*FeedTrust, error) {
	entries, err := os.ReadDir(d.feeds())
	if err != nil {
		return nil, err
	}
	var all []*FeedTrust
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		t, err := loadTrust(filepath.Join(d.feeds(), e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *FeedTrust) int { return strings.Compare(a.Feed, b.Feed) })
	return all, nil
}

// Change has fn change what is known of a feed, while no other process does.
func (d *TrustDir) Change(feedURL string, fn func(*FeedTrust) error) (*FeedTrust, error) {
	unlock, err := d.lock()
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	defer unlock()
	t, err := d.Load(feedURL)
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	if err := fn(t); err != nil {
		return nil, err
	}
	t.trim()
	raw, err := json.MarshalIndent(t, "", " ")
	if err == nil {
		err = renameio.WriteFile(d.file(feedURL), append(raw, '\n'), 0o600, renameio.IgnoreUmask())
	}
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	return t, nil
}

func (t *FeedTrust) trim() {
	if over := len(t.Alarms) - maxAlarms; over > 0 {
		t.Alarms = t.Alarms[over:]
	}
	if len(t.Releases) <= maxTrustReleases {
		return
	}
	ids := make([]string, 0, len(t.Releases))
	for id := range t.Releases {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return t.Releases[a].First.Compare(t.Releases[b].First) })
	for _, id := range ids[:len(ids)-maxTrustReleases] {
		delete(t.Releases, id)
	}
}

// find returns the id of a release by its id or name.
func (t *FeedTrust) find(release string) (string, bool) {
	if t.Releases[release] != nil {
		return release, true
	}
	for id, r := range t.Releases {
		if r.Name == release {
			return id, true
		}
	}
	for _, a := range t.Alarms {
		if a.ID == release || a.Name == release {
			return a.ID, true
		}
	}
	return "", false
}

// Accept takes what the alarms offer for what was seen, and returns them.
// release is an id or a name; "": all of the feed's, a rollback too.
func (d *TrustDir) Accept(feedURL, release string) (accepted []Alarm, err error) {
	_, err = d.Change(feedURL, func(t *FeedTrust) error {
		id := ""
		if release != "" {
			var ok bool
			if id, ok = t.find(release); !ok {
				return fmt.Errorf("nothing is known of a release %q of this feed", release)
			}
		}
		var left []Alarm
		now := time.Now().UTC().Truncate(time.Second)
		for _, a := range t.Alarms {
			if id != "" && a.ID != id {
				left = append(left, a)
				continue
			}
			accepted = append(accepted, a)
			if a.Kind == AlarmRollback {
				t.Newest = &NewestSeen{ID: a.ID, Name: a.Name, Published: a.Published, Seen: now}
				continue
			}
			first := now
			if r := t.Releases[a.ID]; r != nil {
				first = r.First
			}
			t.Releases[a.ID] = &ReleaseSeen{Name: a.Name, Manifest: a.Offered, Signed: a.Signed, Signer: a.Signer, First: first, Accepted: now}
		}
		t.Alarms = left
		return nil
	})
	return accepted, err
}

// Forget removes what is known of a release, or of the whole feed if release
// is "": it is then seen for the first time again.
func (d *TrustDir) Forget(feedURL, release string) error {
	_, err := d.Change(feedURL, func(t *FeedTrust) error {
		if release == "" {
			t.Newest, t.Releases, t.Alarms = nil, map[string]*ReleaseSeen{}, nil
			return nil
		}
		id, ok := t.find(release)
		if !ok {
			return fmt.Errorf("nothing is known of a release %q of this feed", release)
		}
		delete(t.Releases, id)
		t.Alarms = slices.DeleteFunc(t.Alarms, func(a Alarm) bool { return a.ID == id })
		if t.Newest != nil && t.Newest.ID == id {
			t.Newest = nil
		}
		return nil
	})
	return err
}

// TrustState is the part of a TrustDir that concerns one feed, as a mount uses
// it. What it learns is in memory at once and on the disk within trustDelay.
//
// mu guards what follows it; it is a leaf, but held over reading and writing
// the file.
type TrustState struct {
	dir *TrustDir
	url string
	log *slog.Logger

	mu      sync.Mutex
	now     *FeedTrust
	stamp   trustStamp
	pending []func(*FeedTrust)
	timer   *time.Timer // runs while something is pending
	closed  bool
	err     error // why what was learned is not on the disk
}

// trustDelay is how long changes are gathered before they are written.
const trustDelay = 200 * time.Millisecond

// trustStamp tells whether the file is the one that was read.
type trustStamp struct {
	ino   uint64
	size  int64
	mtime time.Time
}

func (d *TrustDir) stamp(feedURL string) trustStamp {
	info, err := os.Lstat(d.file(feedURL))
	if err != nil {
		return trustStamp{}
	}
	var st unix.Stat_t
	_ = unix.Lstat(d.file(feedURL), &st)
	return trustStamp{st.Ino, info.Size(), info.ModTime()}
}

// OpenTrustState opens what is known of a feed; it fails if that cannot be
// read, or the directory cannot be written. Close it after the Catalog.
func OpenTrustState(dir, feedURL string, log *slog.Logger) (*TrustState, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d, err := OpenTrustDir(dir, true)
	if err != nil {
		return nil, err
	}
	s := &TrustState{dir: d, url: feedURL, log: log}
	s.now, err = d.Change(feedURL, func(*FeedTrust) error { return nil })
	s.stamp = d.stamp(feedURL)
	return s, err
}

// Close writes what is not on the disk yet.
func (s *TrustState) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.save()
	return s.err
}

// look calls fn with the present state, having read what other processes made
// of it.
func (s *TrustState) look(fn func(*FeedTrust)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	fn(s.now)
}

// refresh reads the file if it is another one; mu is held.
func (s *TrustState) refresh() {
	stamp := s.dir.stamp(s.url)
	if stamp == s.stamp {
		return
	}
	t, err := s.dir.Load(s.url)
	if err != nil {
		s.fail(err)
		return
	}
	for _, fn := range s.pending {
		fn(t)
	}
	s.now, s.stamp = t, stamp
}

// change has fn applied to the state, now and to what is on the disk soon: it
// may run several times.
func (s *TrustState) change(fn func(*FeedTrust)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s.now)
	s.pending = append(s.pending, fn)
	if s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(trustDelay, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer = nil
			s.save()
		})
	}
}

// save writes what is pending; mu is held.
func (s *TrustState) save() {
	if len(s.pending) == 0 {
		return
	}
	t, err := s.dir.Change(s.url, func(t *FeedTrust) error {
		for _, fn := range s.pending {
			fn(t)
		}
		return nil
	})
	if err != nil {
		s.fail(err) // kept pending: the next change tries again
		return
	}
	s.now, s.stamp, s.pending, s.err = t, s.dir.stamp(s.url), nil, nil
}

func (s *TrustState) fail(err error) {
	if s.err == nil {
		s.log.Error("what was seen of the feed cannot be kept", "err", err)
	}
	s.err = err
}

// broken is why the state on the disk is not up to date, or nil.
func (s *TrustState) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
