package feed

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// maxNames is how many names are remembered. Names of releases long gone count too.
const maxNames = 5 * MaxItems

// nameTable assigns directory names to releases for good. A release keeps its
// first name through refreshes, restarts, new titles and changed order. No other
// release gets that name, not even after the release has left the feed. (When
// 100 000 names are remembered, those not seen for longest are forgotten.)
//
// New names come from the title (see safeName), else the id. A name that is
// reserved, or looks like one already given, gets a suffix: eight hex digits of the
// id's SHA-256, or more if that is taken too. Of several new releases the oldest is
// served first, then the one with the lesser id. So the order of the feed does not
// matter.
//
// The zero value is ready. nameTable is safe for concurrent use, and marshals to
// JSON.
type nameTable struct {
	mu    sync.Mutex // guards all below; nothing is called with it held
	byID  map[string]*nameEntry
	taken map[string]string // folded name to id
	round int64             // counts calls of assign
}

type nameEntry struct {
	Name string `json:"name"`
	Seen int64  `json:"seen"` // the round that had it last
}

// assign sets Name of every release. The ids must be unique.
func (n *nameTable) assign(releases []Release) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	n.round++
	present := make(map[string]bool, len(releases))
	for _, r := range releases {
		present[r.ID] = true
	}
	var fresh []*Release
	for i := range releases {
		r := &releases[i]
		if e := n.byID[r.FormerID]; e != nil && n.byID[r.ID] == nil && !present[r.FormerID] {
			delete(n.byID, r.FormerID)
			n.byID[r.ID], n.taken[fold(e.Name)] = e, r.ID
		}
		if e := n.byID[r.ID]; e != nil {
			r.Name, e.Seen = e.Name, n.round
			continue
		}
		fresh = append(fresh, r)
	}
	slices.SortFunc(fresh, func(a, b *Release) int {
		return cmp.Or(a.Published.Compare(b.Published), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range fresh {
		r.Name = n.invent(r.Title, r.ID)
		n.byID[r.ID] = &nameEntry{r.Name, n.round}
		n.taken[fold(r.Name)] = r.ID
	}
	n.forget()
}

func (n *nameTable) init() {
	if n.byID == nil {
		n.byID, n.taken = map[string]*nameEntry{}, map[string]string{}
	}
}

// invent returns a name that nobody has; mu is held.
func (n *nameTable) invent(title, id string) string {
	base := cmp.Or(safeName(title), safeName(id), "release")
	free := func(name string) bool {
		f := fold(name)
		_, taken := n.taken[f]
		return !taken && !reserved[f]
	}
	if free(base) {
		return base
	}
	d := digest(id)
	for digits := 8; digits < len(d); digits += 8 {
		if name := base + "-" + d[:digits]; free(name) {
			return name
		}
	}
	return base + "-" + d // it is taken only by a collision of SHA-256
}

// forget drops the entries not seen for longest once there are too many; mu is held.
func (n *nameTable) forget() {
	if len(n.byID) <= maxNames {
		return
	}
	ids := make([]string, 0, len(n.byID))
	for id := range n.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(cmp.Compare(n.byID[a].Seen, n.byID[b].Seen), cmp.Compare(a, b))
	})
	for _, id := range ids[:len(ids)-maxNames] {
		delete(n.taken, fold(n.byID[id].Name))
		delete(n.byID, id)
	}
}

// namesJSON is the persisted form.
type namesJSON struct {
	Version int                   `json:"version"`
	Round   int64                 `json:"round"`
	Names   map[string]*nameEntry `json:"names"` // by id
}

// MarshalJSON writes the assignment, the same bytes for the same state.
func (n *nameTable) MarshalJSON() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.init()
	return json.Marshal(namesJSON{1, n.round, n.byID})
}

// UnmarshalJSON replaces the assignment by a persisted one. It leaves out entries
// that no assignment could have made: the document is damaged, or was edited.
func (n *nameTable) UnmarshalJSON(b []byte) error {
	var j namesJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	if j.Version != 1 {
		return fmt.Errorf("read names: version %d is not known", j.Version)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byID, n.taken, n.round = nil, nil, j.Round
	n.init()
	for id, e := range j.Names {
		if e == nil || id == "" || !IsName(e.Name) {
			continue
		}
		f := fold(e.Name)
		if other, taken := n.taken[f]; taken && other < id {
			continue
		} else if taken {
			delete(n.byID, other)
		}
		n.byID[id], n.taken[f] = e, id
	}
	return nil
}

// IsName reports whether name is one that invent could have made.
func IsName(name string) bool {
	if len(name) > maxName {
		cut := strings.LastIndexByte(name, '-')
		if cut < 0 || strings.Trim(name[cut+1:], "0123456789abcdef") != "" || len(name)-cut > 65 {
			return false
		}
		name = name[:cut]
	}
	return name != "" && safeName(name) == name && !reserved[fold(name)]
}
