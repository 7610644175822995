package bundle

import (
	"encoding/json"
	"errors"
	"log/slog"
	"sync"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
)

// kindPackage are the persisted documents.
const kindPackage = "package"

// Record keeps the document of one generation of a release on disk. The next
// generation has the same place in the store for its own.
type Record struct {
	store   *store.Store
	id, url string
	log     *slog.Logger

	// mu guards what follows it, and is held while the document is written or
	// deleted.
	mu   sync.Mutex
	gone bool      // another generation has taken the place in the store
	lost bool      // nothing is kept any more
	keep Elsewhere // where it is kept as well; nil: nowhere
	kept bool      // it is there
	raw  []byte    // the document, where that should keep it and cannot; nil: it is on a disk
}

// Elsewhere is a place for a document outside of the store.
type Elsewhere interface {
	Put(doc []byte) error // its error wraps ErrNowhere if there is no such place
	Get() []byte          // nil: it is not there
}

// ErrNowhere: there is no place outside of the store.
var ErrNowhere = errors.New("there is no place for it")

// NewRecord is that of the release id at url: another place is another package.
func NewRecord(st *store.Store, id, url string, log *slog.Logger) *Record {
	return &Record{store: st, id: id, url: url, log: log}
}

// name is the document's in the store. There are many records, so they do not keep it.
func (r *Record) name() string { return r.id + "\n" + feed.URLKey(r.url) }

// KeptRecord is one whose document is kept elsewhere. Apart: it has no place in the
// store.
func KeptRecord(st *store.Store, id, url string, log *slog.Logger, keep Elsewhere, apart bool) *Record {
	r := NewRecord(st, id, url, log)
	r.keep, r.kept, r.gone = keep, true, apart
	return r
}

// KeepBy has the document kept elsewhere too, from the next change on.
func (r *Record) KeepBy(keep Elsewhere) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = keep
}

// Known tells whether the document is on the disk.
func (r *Record) Known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.raw != nil || r.kept || !r.gone && r.store.HasDoc(kindPackage, r.name())
}

func (r *Record) load() *Doc {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc := parseDoc(r.elsewhere()); doc != nil || r.gone {
		return doc
	}
	raw, err := r.store.GetDoc(kindPackage, r.name())
	if err != nil {
		return nil
	}
	return parseDoc(raw)
}

// elsewhere is the document as it is kept elsewhere; mu is held.
func (r *Record) elsewhere() []byte {
	if r.raw == nil && r.kept {
		return r.keep.Get()
	}
	return r.raw
}

// put keeps a document elsewhere; mu is held.
func (r *Record) put(raw []byte) {
	err := r.keep.Put(raw)
	r.kept, r.raw = err == nil, nil
	if err != nil {
		r.raw = raw
	}
	if err != nil && !errors.Is(err, ErrNowhere) {
		r.log.Error("what shows the release is not kept: its path may go with the feed's entry", "document", r.name(), "err", err)
	}
}

// save persists the document; that it fails costs time later, nothing else.
func (r *Record) save(doc *Doc) {
	raw, err := json.Marshal(doc)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !r.gone {
		err = r.store.PutDoc(kindPackage, r.name(), raw)
	}
	if err != nil {
		r.log.Warn("an index is not kept on disk", "document", r.name(), "err", err)
	}
	if r.keep != nil && !r.lost {
		r.put(raw)
	}
}

// KeepNow keeps the document elsewhere as it is, and has later ones kept there too.
func (r *Record) KeepNow(keep Elsewhere) {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw := r.elsewhere()
	r.keep = keep
	if raw == nil && !r.gone {
		raw, _ = r.store.GetDoc(kindPackage, r.name())
	}
	if raw != nil && !r.lost {
		r.put(raw)
	}
}

// Drop deletes the document, which holds no more. The next one is kept again.
func (r *Record) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept, r.raw = false, nil
	if !r.gone {
		r.deleteDoc()
	}
}

func (r *Record) deleteDoc() {
	if err := r.store.DeleteDoc(kindPackage, r.name()); err != nil {
		r.log.Warn("the old index is not deleted", "document", r.name(), "err", err)
	}
}

// Part gives up the place in the store: the document is kept elsewhere alone.
func (r *Record) Part() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave()
}

// leave gives up the place in the store; mu is held.
func (r *Record) leave() {
	if r.gone {
		return
	}
	r.gone = true
	r.deleteDoc()
}

// Forget deletes the document for good: what this generation learns from now on
// is not kept.
func (r *Record) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave()
	r.lost, r.kept, r.raw = true, false, nil
}
