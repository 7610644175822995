package bundle

import (
	"encoding/json"
	"log/slog"
	"sync"

	"vmcastfs/cache/store"
)

// kindPackage are the persisted documents.
const kindPackage = "package"

// Record keeps the document of one generation of a release on disk. The next
// generation has the same place in the store for its own.
type Record struct {
	store *store.Store
	name  string
	log   *slog.Logger

	// mu guards what follows it, and is held while the document is written or
	// deleted.
	mu   sync.Mutex
	gone bool               // another generation has taken the place in the store
	lost bool               // nothing is kept any more
	raw  []byte             // the document, where it is kept elsewhere as well; nil: it is not
	keep func([]byte) error // keeps it elsewhere; nil: nobody does
}

// NewRecord is that of the release id whose URL has the key: another place is
// another package.
func NewRecord(st *store.Store, id, key string, log *slog.Logger) *Record {
	return &Record{store: st, name: id + "\n" + key, log: log}
}

// KeptRecord is one whose document is kept elsewhere. Apart: it has no place in the
// store.
func KeptRecord(st *store.Store, id, key string, log *slog.Logger, raw []byte, keep func([]byte) error, apart bool) *Record {
	r := NewRecord(st, id, key, log)
	r.raw, r.keep, r.gone = raw, keep, apart
	return r
}

// KeepBy has the document kept elsewhere too, from the next change on.
func (r *Record) KeepBy(keep func([]byte) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = keep
}

// Known tells whether the document is on the disk.
func (r *Record) Known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.raw != nil || !r.gone && r.store.HasDoc(kindPackage, r.name)
}

func (r *Record) load() *Doc {
	r.mu.Lock()
	defer r.mu.Unlock()
	if doc := parseDoc(r.raw); doc != nil {
		return doc
	}
	if r.gone {
		return nil
	}
	raw, err := r.store.GetDoc(kindPackage, r.name)
	if err != nil {
		return nil
	}
	return parseDoc(raw)
}

// save persists the document; that it fails costs time later, nothing else.
func (r *Record) save(doc *Doc) {
	raw, err := json.Marshal(doc)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !r.gone {
		err = r.store.PutDoc(kindPackage, r.name, raw)
	}
	if err != nil {
		r.log.Warn("an index is not kept on disk", "err", err)
	}
	if r.keep != nil && !r.lost {
		if err := r.keep(raw); err != nil {
			r.log.Error("what shows the release is not kept: its path may go with the feed's entry", "err", err)
		}
		r.raw = raw
	}
}

// KeepNow keeps the document elsewhere as it is, and has later ones kept there too.
func (r *Record) KeepNow(keep func([]byte) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = keep
	if r.raw == nil && !r.gone {
		r.raw, _ = r.store.GetDoc(kindPackage, r.name)
	}
	if r.raw == nil || r.lost {
		return
	}
	if err := r.keep(r.raw); err != nil {
		r.log.Error("what shows the release is not kept", "err", err)
	}
}

// Drop deletes the document, which holds no more. The next one is kept again.
func (r *Record) Drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = nil
	if !r.gone {
		r.deleteDoc()
	}
}

func (r *Record) deleteDoc() {
	if err := r.store.DeleteDoc(kindPackage, r.name); err != nil {
		r.log.Warn("the old index is not deleted", "err", err)
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
	r.lost = true
}
