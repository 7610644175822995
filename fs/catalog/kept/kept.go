package kept

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache/privdir"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
)

const (
	version     = 1
	maxReleases = 4096
	maxTotal    = 512 << 20
	maxFile     = 64 << 20
	lookEvery   = 64 // other processes write there too
)

// Release is one generation of a release, as it is kept.
type Release struct {
	Version   int
	Feed      string       // its URL
	From      string       // who gave the feed, see feed.Document
	Item      feed.Release // its Name is that of the directory
	Package   []byte       // the document of package bundle
	Images    []store.Key  // their keys in the cache
	Withdrawn time.Time    `json:",omitzero"`  // when it was found to have left the feed; zero: it is there
	Returned  bool         `json:",omitempty"` // it had left the feed before, and came back
}

// Dir keeps the releases of one feed. It is safe for any number of goroutines. A
// nil *Dir keeps nothing.
type Dir struct {
	dir  privdir.Dir
	feed string
	most int // files
	log  *slog.Logger

	// mu guards what follows it, and is held while a file is written or removed; a leaf.
	mu        sync.Mutex
	looked    int            // so many files may be written before the directory is looked at
	files     int            // at most, as of then
	bytes     int64          // likewise
	withdrawn map[entry]bool // of the oldest, those that are
}

// entry is a file of the directory, of whatever feed.
type entry struct {
	name string
	size int64
	time int64
}

// Open opens the directory in that of the state, and makes it if need be.
func Open(state, feedURL string, log *slog.Logger) (*Dir, error) {
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return nil, err
	}
	top, err := privdir.Open(state, privdir.Make, "feeds", "lock", "kept", "vms")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	d, err := top.MakeSub("kept")
	if err != nil {
		return nil, err
	}
	d.Sweep()
	return &Dir{dir: d, feed: feedURL, most: maxReleases, log: log}, nil
}

// Close gives the directory up.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	return d.dir.Close()
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%x", sum[:16])
}

func (d *Dir) file(name string) string { return hash(d.feed) + "-" + hash(name) + ".json" }

// All reads all that is kept of the feed.
func (d *Dir) All() iter.Seq[Release] {
	return func(yield func(Release) bool) {
		if d == nil {
			return
		}
		names, err := d.dir.Names()
		if err != nil {
			d.log.Error("what is kept of releases cannot be read", "err", err)
		}
		slices.Sort(names)
		for _, name := range names {
			if !strings.HasPrefix(name, hash(d.feed)+"-") || !strings.HasSuffix(name, ".json") {
				continue
			}
			r, err := d.read(name)
			if err != nil {
				d.log.Error("what is kept of a release is of no use", "file", d.dir.Path(name), "err", err)
				continue
			}
			if !yield(r) {
				return
			}
		}
	}
}

// Get reads what is kept under a name.
func (d *Dir) Get(name string) (Release, error) {
	if d == nil {
		return Release{}, os.ErrNotExist
	}
	return d.read(d.file(name))
}

// read reads a file of any feed.
func (d *Dir) read(name string) (r Release, err error) {
	raw, err := d.dir.ReadFile(name, maxFile)
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	switch {
	case err != nil:
	case r.Version != version:
		err = fmt.Errorf("it is of version %d", r.Version)
	case hash(r.Feed)+"-"+hash(r.Item.Name)+".json" != name || !feed.IsName(r.Item.Name) || r.Item.ID == "":
		err = errors.New("it is not what its name says")
	}
	return r, err
}

// Put keeps a release, in the place of what was kept under its name.
func (d *Dir) Put(r Release) error {
	if d == nil {
		return nil
	}
	r.Version, r.Feed = version, d.feed
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(raw) > maxFile {
		return fmt.Errorf("it takes %d bytes, more than %d", len(raw), maxFile)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.makeRoom(d.file(r.Item.Name), int64(len(raw))); err != nil {
		return err
	}
	return d.dir.Write(d.file(r.Item.Name), raw)
}

// makeRoom keeps the directory within its limits, before want bytes are put into
// a file. What is withdrawn is not given up for that. mu is held.
func (d *Dir) makeRoom(file string, want int64) error {
	if d.looked > 0 && d.files < d.most && d.bytes+want <= maxTotal {
		d.files++ // unless it takes the place of another
		d.bytes += want
		d.looked--
		return nil
	}
	names, err := d.dir.Names()
	if err != nil {
		return err
	}
	var all []entry
	d.files, d.bytes, d.looked = 1, want, lookEvery
	for _, n := range names {
		if st, err := d.dir.StatOf(n); err == nil && n != file {
			all = append(all, entry{n, st.Size, st.Mtim.Nano()})
			d.bytes += st.Size
			d.files++
		}
	}
	if d.files <= d.most && d.bytes <= maxTotal {
		return nil
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.time, b.time) })
	withdrawn := make(map[entry]bool)
	for _, e := range all { // some room is made for the next ones
		if d.files <= d.most-d.most/16 && d.bytes <= maxTotal-maxTotal/16 {
			break
		}
		known := d.withdrawn[e]
		if !known {
			r, err := d.read(e.name)
			known = err == nil && !r.Withdrawn.IsZero()
		}
		if known {
			withdrawn[e] = true
			continue
		}
		if err := d.dir.Remove(e.name); err != nil {
			return err
		}
		d.files--
		d.bytes -= e.size
	}
	d.withdrawn = withdrawn
	if d.files > d.most || d.bytes > maxTotal {
		return fmt.Errorf("%d withdrawn releases fill %s: end some with `vmcastfs cache remove DIR/RELEASE`", len(withdrawn), d.dir.Name())
	}
	return nil
}

// Remove ends that a release is kept.
func (d *Dir) Remove(name string) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.dir.Remove(d.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn("what was kept of a release stays", "release", name, "err", err)
	}
}
