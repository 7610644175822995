package cache

import (
	"time"

	"vmcastfs/cache/source"
)

// Limits of following a profile, in blocks.
const (
	// MaxProfile is how many blocks of a profile are followed; at most twice as
	// many are looked at, since a profile may name some more than once.
	MaxProfile = 1 << 16
	// followRange is one range of it: what a demanded block may have to share
	// the wire with.
	followRange = 8
	// A follower goes 32 blocks ahead of readers that have shown nothing yet, and
	// eight more for each block that they have used; never more than 256 blocks
	// and as many as were used, so that half a profile may be wrong.
	followFirst, followGrow, followFar = 32, 8, 256
	// followStrays is how many blocks in a row may be missed outside of the
	// profile before it is given up.
	followStrays = 32
)

// follower is a profile that readers are expected to follow: the blocks that
// an earlier boot read, in order. It fetches them ahead of the readers. While a
// range is under way that a reader had to begin itself, it begins none unless
// there is no other.
// flights.mu guards all but order and place.
type follower struct {
	order []int64         // each block once
	place map[int64]int32 // of a block in order
	asked []bool          // by place: fetched ahead
	read  []bool          // by place: wanted by a reader
	next  int             // before it, all is here, on its way or read

	ahead  int // asked for and not read
	used   int // read
	strays int // blocks missed outside since the last one inside
}

// Follow has the blocks of profile fetched in its order, ahead of the readers
// of this file. It begins at once with the first 32 blocks, and goes on as they are
// read. It ends with the profile, or when the readers do not follow it any more. What lies
// outside of the file is ignored. Follow does nothing for a Forward source,
// under Strict, and while another profile is being followed.
func (h *File) Follow(profile []Extent) {
	fl, st := h.e.flights, h.e.standing
	size := fl.local.size.Load()
	if fl.runner != nil || size < 0 || st.strict.Load() || st.whole.Load() {
		return
	}
	fo, _ := newFollower(profile, size, fl.local.bs)
	if len(fo.order) > 0 {
		fo.asked, fo.read = make([]bool, len(fo.order)), make([]bool, len(fo.order))
		if fl.following.CompareAndSwap(nil, fo) {
			fl.mu.Lock()
			defer fl.mu.Unlock()
			fl.fetchProfile()
		}
	}
}

// newFollower puts the blocks of a profile in their order. However often one
// names the same, no more than twice MaxProfile are looked at.
func newFollower(profile []Extent, size, bs int64) (fo *follower, looked int) {
	fo = &follower{place: make(map[int64]int32)}
	for _, e := range profile {
		if e.Off < 0 || e.Len <= 0 || e.Off >= size {
			continue
		}
		for b, last := e.Off/bs, (e.Off+min(e.Len, size-e.Off)-1)/bs; b <= last; b++ {
			if looked == 2*MaxProfile || len(fo.order) == MaxProfile {
				return fo, looked
			}
			looked++
			if _, known := fo.place[b]; !known {
				fo.place[b] = int32(len(fo.order))
				fo.order = append(fo.order, b)
			}
		}
	}
	return fo, looked
}

// follows reports whether block b is in a profile that is being followed.
func (fl *flights) follows(b int64) bool {
	fo := fl.following.Load()
	if fo == nil {
		return false
	}
	_, ok := fo.place[b]
	return ok
}

// followed tells the follower of a read.
func (fl *flights) followed(off, n int64) {
	fo := fl.following.Load()
	if fo == nil {
		return
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for b, last := off/fl.local.bs, min((off+n-1)/fl.local.bs, fl.local.blocks()-1); b <= last; b++ {
		p, ok := fo.place[b]
		switch {
		case !ok && fl.table[b] == nil && !fl.local.here(b):
			if fo.strays++; fo.strays == followStrays {
				fl.following.CompareAndSwap(fo, nil)
			}
		case ok && !fo.read[p]:
			fo.read[p] = true
			fo.used++
			fo.strays = 0
			if fo.asked[p] {
				fo.ahead--
			}
		}
	}
}

// fetchProfile goes on fetching ahead as far as there is reason and room;
// mu is held.
func (fl *flights) fetchProfile() {
	fo := fl.following.Load()
	for fo != nil && fl.over() == nil && !fl.full.Load() {
		busy, more := fl.s.slots.state(fl.origin)
		if fl.origin.demand.Load() > 0 && busy > 0 || !more {
			return // the end of what is under way brings us back
		}
		for fo.next < len(fo.order) && !fl.lacks(fo, fo.next) {
			fo.next++
		}
		if fo.next == len(fo.order) {
			return // all is here; until readers go elsewhere, nothing else is wanted
		}
		far := min(followFirst+followGrow*fo.used, followFar+fo.used)
		if fo.ahead >= far {
			return
		}
		b := fo.order[fo.next]
		fl.s.lastMiss.Store(time.Now().UnixNano()) // completion is for later
		if g := (grid{fl}); g.step() > 0 {
			if !fl.start(g.newPiece(b, source.ReadAhead)) {
				return
			}
			continue
		}
		run := []*flight{fl.askAhead(b, source.ReadAhead)}
		for len(run) < followRange {
			b++
			p, ok := fo.place[b]
			if !ok || int(p) >= fo.next+far || !fl.lacks(fo, int(p)) {
				break
			}
			run = append(run, fl.askAhead(b, source.ReadAhead))
		}
		if !fl.start(fl.newJob(run, source.ReadAhead)) {
			return
		}
	}
}

// lacks reports whether the block at place p has to be fetched; mu is held.
func (fl *flights) lacks(fo *follower, p int) bool {
	b := fo.order[p]
	return !fo.asked[p] && fl.table[b] == nil && !fl.local.here(b)
}

// askAhead makes a flight for a block that nobody waits for; mu is held.
func (fl *flights) askAhead(b int64, u source.Urgency) *flight {
	f := fl.add(b, u)
	if fo := fl.following.Load(); fo != nil {
		if p, ok := fo.place[b]; ok {
			f.listed, fo.asked[p] = true, true
			if !fo.read[p] {
				fo.ahead++
			}
		}
	}
	return f
}
