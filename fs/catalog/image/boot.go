package image

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/xvm"
)

// kindBoot is the last boot that this host has seen of an image, in the form of
// package trace, by the key of the image.
const kindBoot = "boot"

// followProfile looks for a profile of an image that has just been opened, and has the
// file follow it. im.mu is held.
func followProfile(im *Image, file *cache.File) {
	if !im.opened.IsZero() || !records(im.set, im.member.Name) {
		return
	}
	im.opened = time.Now()
	if extents := profileOf(bootReads(im.set, im.member, im.Size()), im.member.Name); len(extents) > 0 {
		file.Follow(extents)
	}
}

// profileText is what the boots from an image on this host have in common, with the one
// under way. im.mu is held.
func profileText(im *Image) []byte {
	if reads := newBoot(im, im.recorder.Load()); reads != nil {
		b := bootsOf(im.set.Store, im.member.Key)
		if b.add(reads); b.Boots <= maxBoots {
			text, _ := xvm.AppendProfile(nil, b.merged(im.member.Name, im.Size()))
			return text
		}
	}
	text, _ := im.set.Store.GetDoc(kindProfile, string(im.member.Key)) // nil: there is none
	return text
}

// newBoot is what r has of a boot that is not yet a part of the profile; nil: nothing.
// im.mu is held.
func newBoot(im *Image, r *trace.Recorder) []xvm.ProfileRead {
	if r == nil || im.opened.IsZero() || im.profiled {
		return nil
	}
	return recording(r.Trace(im.Size()), im.member.Name, im.opened)
}

// recordBoot makes the recorder of an image that is being opened, or none. im.mu is held.
func recordBoot(im *Image, spec *cache.Spec) {
	if !records(im.set, im.member.Name) {
		return
	}
	var r *trace.Recorder
	r = trace.NewRecorder(im.set.Boots, int64(cmp.Or(spec.BlockSize, cache.DefaultBlockSize)),
		func() *trace.Trace { return KeptBoot(im.set.Store, im.member.Key) },
		func() {
			im.set.Go(func(context.Context) {
				im.mu.Lock()
				defer im.mu.Unlock()
				if im.recorder.Load() == r {
					keepBoot(im, r)
				}
			})
		})
	spec.Recorder = r
	im.recorder.Store(r)
}

// endBoot ends the recording at the last close. im.mu is held.
func endBoot(im *Image) {
	if r := im.recorder.Swap(nil); r != nil {
		r.Stop()
		keepBoot(im, r)
	}
	im.opened, im.profiled = time.Time{}, false
}

// keepBoot writes what has been recorded to the disk: the profile, and the last boot.
// im.mu is held.
func keepBoot(im *Image, r *trace.Recorder) {
	reads := newBoot(im, r)
	im.profiled = im.profiled || reads != nil
	err := keepBoots(im.set.Store, im.member.Key, im.member.Name, im.Size(), reads)
	if t := bootOf(im, r); t != nil {
		raw, encoding := t.Encode()
		if encoding == nil {
			encoding = im.set.Store.PutDoc(kindBoot, string(im.member.Key), raw)
		}
		err = errors.Join(err, encoding)
	}
	if err != nil {
		im.set.Log.Warn("a recorded boot is not kept", "file", im.label(), "err", err)
	}
}

// bootOf is the last boot with what r has of it; nil: r has nothing to add.
func bootOf(im *Image, r *trace.Recorder) *trace.Trace {
	t := r.Trace(im.Size())
	if t == nil || xvm.NoDisk(im.member.Name) {
		return nil
	}
	t.Verify = im.checks.verify(im.set.Strict)
	for i, key := range t.From {
		if label := im.set.Store.Label(store.Key(key)); label != "" {
			t.From[i] = label
		}
	}
	if t.Bytes() >= min(recordLeast, t.Size/8) {
		return t
	}
	// Somebody has looked at the image, which is no boot.
	kept := KeptBoot(im.set.Store, im.member.Key)
	if kept == nil && len(t.Reads)+len(t.Elsewhere) > 0 {
		return t
	}
	if kept == nil {
		return nil
	}
	before := kept.Elsewhere
	if kept.Take(t); slices.Equal(before, kept.Elsewhere) {
		return nil
	}
	return kept
}

// KeptBoot is the last boot of an image that is on the disk; nil: there is none.
func KeptBoot(st *store.Store, key store.Key) *trace.Trace {
	raw, _ := st.GetDoc(kindBoot, string(key))
	t, _ := trace.Decode(raw)
	return t
}
