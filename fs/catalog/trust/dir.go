package trust

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the directory of the trust state: one file for each feed. It is
// outside the cache, since forgetting what was seen is what an attacker wants.
// Each change is made under a lock among processes, and replaces the file. It
// is held open: nothing is reached by its path once it has been found to be
// ours, nor through a link that leads out of it.
type Dir struct {
	path string // for messages
	root *os.Root
}

const feedsDir = "feeds"

// OpenDir makes the directory if need be. It must be this user's and
// nobody else's; write asks that it can be written. Close it after use.
func OpenDir(dir string, write bool) (*Dir, error) {
	d, err := openDir(dir, write)
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	return d, nil
}

func openDir(path string, write bool) (_ *Dir, err error) {
	if path == "" {
		return nil, errors.New("there is no directory for it")
	}
	if write {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path, root}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	if err := d.checkPlace(); err != nil {
		return nil, err
	}
	if err := d.checkOwner("."); err != nil {
		return nil, err
	}
	if write {
		if err := root.Mkdir(feedsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	if err := d.checkOwner(feedsDir); err != nil {
		return nil, err
	}
	if write {
		unlock, err := d.lock()
		if err != nil {
			return nil, err
		}
		unlock()
	}
	return d, nil
}

// Close gives the directory up.
func (d *Dir) Close() error { return d.root.Close() }

// checkPlace refuses what is not what was named: what was opened has to be what
// is there, and not what a link led to.
func (d *Dir) checkPlace() error {
	there, err := os.Lstat(d.path)
	if err != nil {
		return err
	}
	if opened, err := d.root.Lstat("."); err != nil || !os.SameFile(opened, there) {
		return fmt.Errorf("%s is no directory but a link, or is being exchanged", d.path)
	}
	return nil
}

// checkOwner refuses a directory that others may change, or have made.
func (d *Dir) checkOwner(name string) error {
	info, err := d.root.Lstat(name)
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, name)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	case !ours(info):
		return fmt.Errorf("%s belongs to user %d, not to this one", path, info.Sys().(*syscall.Stat_t).Uid)
	case info.Mode().Perm()&0o077 == 0:
		return nil
	}
	return d.root.Chmod(name, 0o700)
}

func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// file is the name of a feed's file in the directory.
func (d *Dir) file(feedURL string) string {
	sum := sha256.Sum256([]byte(feedURL))
	return filepath.Join(feedsDir, fmt.Sprintf("%x.json", sum[:16]))
}

// lock keeps other processes from changing anything until unlock.
func (d *Dir) lock() (unlock func(), err error) {
	f, err := d.root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
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
func (d *Dir) Load(feedURL string) (*Feed, error) {
	t, err := d.load(d.file(feedURL))
	if errors.Is(err, fs.ErrNotExist) {
		return &Feed{Version: version, Feed: feedURL, Releases: map[string]*Release{}}, nil
	}
	return t, err
}

func (d *Dir) load(name string) (*Feed, error) {
	path := filepath.Join(d.path, name)
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular() || !ours(info):
		return nil, fmt.Errorf("%s is not a file of this user: remove it", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	t, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return t, nil
}

// parse reads what is kept of a feed. Taking what is damaged for empty would
// be forgetting.
func parse(raw []byte) (*Feed, error) {
	var t Feed
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("is damaged: %w; move it away to begin anew", err)
	}
	switch {
	case t.Version > version:
		return nil, errors.New("was written by a newer version")
	case t.Version < 1:
		return nil, errors.New("is damaged: it has no version; move it away to begin anew")
	}
	if t.Releases == nil {
		t.Releases = make(map[string]*Release)
	}
	for id, r := range t.Releases {
		if r == nil {
			delete(t.Releases, id)
		}
	}
	return &t, nil
}

// Feeds lists what is known of all feeds, by URL.
func (d *Dir) Feeds() ([]*Feed, error) {
	entries, err := fs.ReadDir(d.root.FS(), feedsDir)
	if err != nil {
		return nil, err
	}
	var all []*Feed
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		t, err := d.load(filepath.Join(feedsDir, e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Feed) int { return strings.Compare(a.Feed, b.Feed) })
	return all, nil
}

// Change has fn change what is known of a feed, while no other process does.
func (d *Dir) Change(feedURL string, fn func(*Feed) error) (*Feed, error) {
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
		err = d.replace(d.file(feedURL), append(raw, '\n'))
	}
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	return t, nil
}

// replace puts data into a file, whole or not at all; the lock is held.
func (d *Dir) replace(name string, data []byte) error {
	tmp := name + ".new"
	if err := d.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of who was killed here
		return err
	}
	f, err := d.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(tmp, name)
	}
	if err != nil {
		_ = d.root.Remove(tmp)
	}
	return err
}

// Accept takes what the alarms offer for what was seen, and returns them.
// release is an id or a name; "": all of the feed's, a rollback too.
func (d *Dir) Accept(feedURL, release string) (accepted []Alarm, err error) {
	_, err = d.Change(feedURL, func(t *Feed) error {
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
			if a.Kind == Rollback {
				t.Newest = &Newest{ID: a.ID, Name: a.Name, Published: a.Published, Seen: now}
				continue
			}
			first := now
			if r := t.Releases[a.ID]; r != nil {
				first = r.First
			}
			t.Releases[a.ID] = &Release{Name: a.Name, Manifest: a.Offered, Signed: a.Signed, Signer: a.Signer, First: first, Accepted: now}
		}
		t.Alarms = left
		return nil
	})
	return accepted, err
}

// Forget removes what is known of a release, or of the whole feed if release
// is "": it is then seen for the first time again.
func (d *Dir) Forget(feedURL, release string) error {
	_, err := d.Change(feedURL, func(t *Feed) error {
		if release == "" {
			t.Newest, t.Releases, t.Alarms = nil, map[string]*Release{}, nil
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
