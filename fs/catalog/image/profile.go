package image

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// kindProfile are the boot profiles recorded on this host, in the text form of
// package xvm, by the key of the image.
const kindProfile = "profile"

// Limits of a recording. With them its text fits into an extended attribute.
const (
	recordUnit  = cache.DefaultBlockSize
	recordReads = 2000
	recordBytes = 256 << 20
	recordText  = 60_000
	// recordTime after the first read a boot is over.
	recordTime = 3 * time.Minute
	// recordLeast is what a look at an image (its type, its partitions) does not
	// reach: not worth keeping.
	recordLeast = 1 << 20
)

// profile is the boot profile of an image while it is open: the one that the
// cache follows, and the one that is recorded.
//
// looked is guarded by the image's mu, and what sets recorder holds it.
type profile struct {
	looked   bool                     // since it is open, a profile has been looked for
	recorder atomic.Pointer[recorder] // nil: nobody wants to know what is read
}

// on looks for a profile of an image that has just been opened, and has the file
// follow it. It records one more, up to maxBoots.
func (p *profile) on(set *Set, m Member, size int64, file *cache.File) {
	if format, _ := seekable.PlainName(m.Name); !set.Env.Profile || p.looked || format != "" {
		return // the compressed form is no disk
	}
	p.looked = true
	if extents := profileOf(bootReads(set, m, size), m.Name); len(extents) > 0 {
		file.Follow(extents)
	}
	if bootsOf(set.Store, m.Key).Boots < maxBoots {
		p.recorder.Store(&recorder{
			name: m.Name, key: m.Key, size: size, store: set.Store, log: set.Log.With("release", set.Release, "file", m.Name),
			seen: make(map[int64]struct{}),
		})
	}
}

// off ends the recording at the last close.
func (p *profile) off() {
	p.looked = false
	if r := p.recorder.Swap(nil); r != nil {
		r.finish()
	}
}

// text is what the boots from this image on this host have in common, with the one
// under way.
func (p *profile) text(st *store.Store, key store.Key) []byte {
	if r := p.recorder.Load(); r != nil {
		if text := r.current(); text != nil {
			return text
		}
	}
	text, err := st.GetDoc(kindProfile, string(key))
	if err != nil {
		return nil
	}
	return text
}

// record tells the recorder of a read.
func (p *profile) record(off, n int64) {
	if r := p.recorder.Load(); r != nil {
		r.record(off, n)
	}
}

// profileOf is what a profile says of one image.
func profileOf(reads []xvm.ProfileRead, name string) (extents []cache.Extent) {
	for _, r := range reads {
		if r.Image == name && len(extents) < cache.MaxProfile {
			extents = append(extents, cache.Extent{Off: r.Off, Len: r.Len})
		}
	}
	return extents
}

// sharedReads is what all hosts expect a boot to read, whatever each has recorded.
func sharedReads(set *Set, name string) []cache.Extent {
	if reads := profileOf(set.ProfileReads, name); len(reads) > 0 {
		return reads
	}
	return profileOf(set.Profile(), name)
}

// recordedProfile is what this host has recorded of an image before.
func recordedProfile(st *store.Store, kind string, key store.Key) []xvm.ProfileRead {
	text, err := st.GetDoc(kind, string(key))
	if err != nil {
		return nil
	}
	reads, _ := xvm.ParseProfile(text)
	return reads
}

// recorder notes which parts of an image are read first, in order, in units
// of the cache's blocks, each once.
type recorder struct {
	name  string
	key   store.Key
	size  int64 // of the image, in bytes
	store *store.Store
	log   *slog.Logger
	full  atomic.Bool // nothing more is noted

	// mu guards what follows it, and is held while the recording is kept.
	mu    sync.Mutex
	seen  map[int64]struct{} // units
	reads []xvm.ProfileRead
	bytes int64
	text  int // length of the text form, about
	end   *time.Timer
	kept  bool // it is on the disk
}

func (r *recorder) record(off, n int64) {
	if n <= 0 || r.full.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil {
		r.end = time.AfterFunc(recordTime, r.finish)
	}
	for unit := off / recordUnit; unit <= (off+n-1)/recordUnit; unit++ {
		if _, again := r.seen[unit]; again {
			continue
		}
		if len(r.reads) >= recordReads || r.bytes >= recordBytes || r.text >= recordText {
			r.full.Store(true)
			return
		}
		r.seen[unit] = struct{}{}
		at, before := unit*recordUnit, len(r.reads)
		size := min(recordUnit, r.size-at)
		r.bytes += size
		r.reads = xvm.AppendRead(r.reads, xvm.ProfileRead{Image: r.name, Off: at, Len: size})
		r.text += (len(r.reads) - before) * (len(r.name) + 2*len(" 1099511627776"))
	}
}

// recording is what has been recorded so far. nil: it is no boot, but too little, or
// so much that the image was copied; r.mu is held.
func (r *recorder) recording() []xvm.ProfileRead {
	if r.bytes < min(recordLeast, r.size/8) || r.bytes > max(r.size/2, 16*recordLeast) || r.bytes >= recordBytes {
		return nil
	}
	return r.reads
}

// current is the text of all recorded boots with this one, as far as it has come.
func (r *recorder) current() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	reads := r.recording()
	if r.kept || reads == nil {
		return nil
	}
	b := bootsOf(r.store, r.key)
	b.add(reads)
	text, _ := xvm.AppendProfile(nil, b.merged(r.name, r.size))
	return text
}

// finish ends the recording and keeps it. It may be called more than once.
func (r *recorder) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		r.end.Stop()
	}
	r.full.Store(true)
	reads := r.recording()
	if r.kept || reads == nil {
		return
	}
	r.kept = true
	if err := keepBoots(r.store, r.key, r.name, r.size, reads); err != nil {
		r.log.Warn("a recorded boot is not kept", "err", err)
	}
}
