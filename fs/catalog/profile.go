package catalog

import (
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

// recorder notes which parts of an image are read first, in order, in units
// of the cache's blocks, each once.
//
// mu guards all but image and full; it is a leaf.
type recorder struct {
	image *image
	full  atomic.Bool // nothing more is noted

	mu    sync.Mutex
	seen  map[int64]struct{} // units
	reads []xvm.ProfileRead
	bytes int64
	text  int // length of the text form, about
	end   *time.Timer
}

// profileOn looks for a profile of an image that has just been opened and has
// it followed, and records one if this host has not recorded any; im.mu is held.
func (im *image) profileOn(file *cache.File) {
	cat := im.f.pkg.cat
	if format, _ := seekable.PlainName(im.f.name); !cat.cfg.Profile || im.profiled || format != "" {
		return // the compressed form is no disk
	}
	im.profiled = true
	own, recorded := im.recorded()
	for _, reads := range [][]xvm.ProfileRead{cat.cfg.ProfileReads, own, im.f.pkg.profile()} {
		if extents := profileOf(reads, im.f.name); len(extents) > 0 {
			file.Follow(extents)
			break
		}
	}
	if !recorded {
		im.recorder.Store(&recorder{image: im, seen: make(map[int64]struct{})})
	}
}

// profileOff ends the recording at the last close; im.mu is held.
func (im *image) profileOff() {
	im.profiled = false
	if r := im.recorder.Swap(nil); r != nil {
		r.finish()
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

// profile is the one in the package, or else in its sidecar. It is a hint: a
// wrong one costs something, but has no say in what is right.
func (p *Package) profile() []xvm.ProfileRead {
	var text []byte
	if f := p.byName[xvm.ProfileName]; f != nil && f.content != nil && f.state != store.Corrupt && f.standing().Refused == "" {
		text = f.content
	} else if p.doc.Sidecar != nil {
		text = p.doc.Sidecar.Profile
	}
	if text == nil {
		return nil
	}
	reads, err := xvm.ParseProfile(text)
	if err != nil {
		p.cat.cfg.Logger.Warn("the boot profile of a package is not used", "release", p.release.Name(), "err", err)
	}
	return reads
}

// recorded is what this host has recorded of the image before.
func (im *image) recorded() (reads []xvm.ProfileRead, ok bool) {
	text, err := im.f.pkg.cat.cfg.Store.GetDoc(kindProfile, string(im.f.key))
	if err != nil {
		return nil, false
	}
	reads, err = xvm.ParseProfile(text)
	return reads, err == nil
}

// note tells the recorder of a read.
func (im *image) note(off, n int64) {
	r := im.recorder.Load()
	if r == nil || n <= 0 || r.full.Load() {
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
		at := unit * recordUnit
		size := min(recordUnit, im.f.Size()-at)
		r.bytes += size
		if last := len(r.reads) - 1; last >= 0 && r.reads[last].Off+r.reads[last].Len == at {
			r.reads[last].Len += size
			continue
		}
		r.reads = append(r.reads, xvm.ProfileRead{Image: im.f.name, Off: at, Len: size})
		r.text += len(im.f.name) + 2*len(" 1099511627776")
	}
}

// recording is the text of what has been noted so far, nil if it is no boot:
// too little, or so much that the image was rather copied.
func (r *recorder) recording() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := r.image.f.Size()
	if r.bytes < min(recordLeast, size/8) || r.bytes > max(size/2, 16*recordLeast) || r.bytes >= recordBytes {
		return nil
	}
	text, err := xvm.AppendProfile(nil, r.reads)
	if err != nil {
		return nil
	}
	return text
}

// finish ends the recording and keeps it. It may be called more than once.
func (r *recorder) finish() {
	r.mu.Lock()
	if r.end != nil {
		r.end.Stop()
	}
	r.mu.Unlock()
	if r.full.Swap(true) && r.image.f.pkg.cat.cfg.Store.HasDoc(kindProfile, string(r.image.f.key)) {
		return
	}
	text := r.recording()
	if text == nil {
		return
	}
	im := r.image
	if err := im.f.pkg.cat.cfg.Store.PutDoc(kindProfile, string(im.f.key), text); err != nil {
		im.f.pkg.cat.cfg.Logger.Warn("a recorded boot is not kept", "release", im.f.pkg.release.Name(), "file", im.f.name, "err", err)
	}
}

// profileText is the recording of a boot from this image on this host, as far
// as it has come.
func (im *image) profileText() []byte {
	im.mu.Lock() // a recording that has just ended is being written
	defer im.mu.Unlock()
	if r := im.recorder.Load(); r != nil {
		return r.recording()
	}
	text, err := im.f.pkg.cat.cfg.Store.GetDoc(kindProfile, string(im.f.key))
	if err != nil {
		return nil
	}
	return text
}
