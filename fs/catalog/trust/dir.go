package trust

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmcastfs/cache/privdir"
)

// Dir is the directory of the trust state: one file for each feed. It is
// outside the cache, since forgetting what was seen is what an attacker wants.
// Each change is made under a lock among processes, and replaces the file.
type Dir struct {
	top, feeds privdir.Dir
}

const feedsDir = "feeds"

// OpenDir makes the directory if need be. It must be this user's and
// nobody else's, and no link; write asks that it can be written. Close it after
// use.
func OpenDir(dir string, write bool) (*Dir, error) {
	d, err := openDir(dir, write)
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	return d, nil
}

func openDir(path string, write bool) (_ *Dir, err error) {
	var policy privdir.Policy
	if write {
		policy = privdir.Make
		if path != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return nil, err
			}
		}
	}
	d := &Dir{}
	if d.top, err = privdir.Open(path, policy, feedsDir, "lock", "kept", "vms"); err != nil {
		return nil, err
	}
	sub := d.top.Sub
	if write {
		sub = d.top.MakeSub
	}
	if d.feeds, err = sub(feedsDir); err != nil {
		d.top.Close()
		return nil, err
	}
	if write {
		unlock, err := d.lock()
		if err != nil {
			d.Close()
			return nil, err
		}
		unlock()
	}
	return d, nil
}

// Close gives the directory up.
func (d *Dir) Close() error { return errors.Join(d.feeds.Close(), d.top.Close()) }

// file is the name of a feed's file.
func file(feedURL string) string {
	sum := sha256.Sum256([]byte(feedURL))
	return fmt.Sprintf("%x.json", sum[:16])
}

// lock keeps other processes from changing anything until unlock.
func (d *Dir) lock() (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return d.top.Lock(ctx, "lock")
}

// Load reads what is known of a feed; of one never seen that is nothing.
func (d *Dir) Load(feedURL string) (*Feed, error) {
	t, err := d.load(file(feedURL))
	if errors.Is(err, fs.ErrNotExist) {
		return emptyFeed(feedURL), nil
	}
	return t, err
}

func emptyFeed(url string) *Feed {
	return &Feed{Version: version, Feed: url, Releases: map[string]*Release{}}
}

func (d *Dir) load(name string) (*Feed, error) {
	raw, err := d.feeds.ReadFile(name, maxFile)
	if err != nil {
		return nil, err
	}
	t, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %w", d.feeds.Path(name), err)
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
	names, err := d.feeds.Names()
	if err != nil {
		return nil, err
	}
	var all []*Feed
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		t, err := d.load(name)
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
		err = d.feeds.Write(file(feedURL), append(raw, '\n'))
	}
	if err != nil {
		return nil, fmt.Errorf("trust state: %w", err)
	}
	return t, nil
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
			n := &Release{Name: a.Name, Manifest: a.Offered, Signed: a.Signed, Signer: a.Signer, First: now, Accepted: now}
			if r := t.Releases[a.ID]; r != nil {
				n.First = r.First
				n.succeed(r)
			}
			t.Releases[a.ID] = n
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
