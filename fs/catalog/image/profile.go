package image

import (
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// kindProfile are the boot profiles recorded on this host, in the text form of
// package xvm, by the key of the image.
const kindProfile = "profile"

// Limits of a recording, beside those of package trace. With them its text fits into
// an extended attribute.
const (
	recordUnit  = cache.DefaultBlockSize
	recordReads = 2000
	recordBytes = 256 << 20
	recordText  = 60_000
	// recordLeast is what a look at an image (its type, its partitions) does not
	// reach: not worth keeping.
	recordLeast = 1 << 20
)

// textOf is about the length of the text of so many reads.
func textOf(name string, reads int) int { return reads * (len(name) + 2*len(" 1099511627776")) }

// records tells whether boots from an image are recorded: a compressed form is no disk.
func records(set *Set, name string) bool {
	format, _ := seekable.PlainName(name)
	return set.Env.Profile && format == ""
}

// recording is which parts of an image were read first, in order, in units of the
// cache's blocks, each once, since it was opened. nil: it is no boot, but too little, or
// so much that the image was copied.
func recording(t *trace.Trace, name string, opened time.Time) (reads []xvm.ProfileRead) {
	bytes := int64(0)
	seen := make(map[int64]bool)
	for _, r := range t.Reads {
		if t.Begun.Add(time.Duration(r.At) * time.Microsecond).Before(opened) {
			continue // to see what it is
		}
		for unit := r.Off / recordUnit; unit*recordUnit < r.Off+int64(r.Len); unit++ {
			if seen[unit] || len(reads) >= recordReads || bytes >= recordBytes || textOf(name, len(reads)) >= recordText {
				continue
			}
			seen[unit] = true
			size := min(recordUnit, t.Size-unit*recordUnit)
			bytes += size
			reads = xvm.AppendRead(reads, xvm.ProfileRead{Image: name, Off: unit * recordUnit, Len: size})
		}
	}
	if bytes < min(recordLeast, t.Size/8) || bytes > max(t.Size/2, 16*recordLeast) || bytes >= recordBytes {
		return nil
	}
	return reads
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
	text, _ := st.GetDoc(kind, string(key))
	reads, _ := xvm.ParseProfile(text)
	return reads
}
