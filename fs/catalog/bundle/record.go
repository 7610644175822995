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
// generation has the same place for its own.
type Record struct {
	store *store.Store
	name  string
	log   *slog.Logger

	// mu guards gone, and is held while the document is written or deleted.
	mu   sync.Mutex
	gone bool // another generation has taken the place
}

// NewRecord is that of the release id whose URL has the key: another place is
// another package.
func NewRecord(st *store.Store, id, key string, log *slog.Logger) *Record {
	return &Record{store: st, name: id + "\n" + key, log: log}
}

func (r *Record) load() *Doc {
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
	if r.gone {
		return
	}
	if err == nil {
		err = r.store.PutDoc(kindPackage, r.name, raw)
	}
	if err != nil {
		r.log.Warn("an index is not kept on disk", "err", err)
	}
}

// Forget deletes the document for good: what this generation learns from now on
// is not kept.
func (r *Record) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	r.gone = true
	if err := r.store.DeleteDoc(kindPackage, r.name); err != nil {
		r.log.Warn("the old index is not deleted", "err", err)
	}
}
