package image

import (
	"cmp"
	"context"
	"slices"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// kindBoot is the last boot that this host has seen of an image, in the form of
// package trace, by the key of the image.
const kindBoot = "boot"

// recordBoot makes the recorder of an image that is being opened, or none.
func recordBoot(im *Image, spec *cache.Spec) {
	if format, _ := seekable.PlainName(im.member.Name); !im.set.Env.Profile || format != "" || xvm.NoDisk(im.member.Name) {
		return // the compressed form is no disk
	}
	spec.Recorder = trace.NewRecorder(im.set.Boots, int64(cmp.Or(spec.BlockSize, cache.DefaultBlockSize)),
		func() *trace.Trace { return KeptBoot(im.set.Store, im.member.Key) },
		func() { im.set.Go(func(context.Context) { keepBoot(im, im.recorder.Load()) }) })
	im.recorder.Store(spec.Recorder)
}

// endBoot ends the recording at the last close. im.mu is held.
func endBoot(im *Image) {
	if r := im.recorder.Swap(nil); r != nil {
		r.Stop()
		keepBoot(im, r)
	}
}

// keepBoot writes what has been recorded to the disk.
func keepBoot(im *Image, r *trace.Recorder) {
	t := bootOf(im, r)
	if t == nil {
		return
	}
	raw, err := t.Encode()
	if err == nil {
		err = im.set.Store.PutDoc(kindBoot, string(im.member.Key), raw)
	}
	if err != nil {
		im.set.Log.Warn("a recorded boot is not kept", "file", im.label(), "err", err)
	}
}

// bootOf is the last boot with what r has of it; nil: r has nothing to add.
func bootOf(im *Image, r *trace.Recorder) *trace.Trace {
	t := r.Trace(im.Size())
	if t == nil {
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
	raw, err := st.GetDoc(kindBoot, string(key))
	if err != nil {
		return nil
	}
	t, err := trace.Decode(raw)
	if err != nil {
		return nil
	}
	return t
}
