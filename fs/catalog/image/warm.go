package image

import (
	"context"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

const (
	// kindWarmed marks images that nobody has opened yet: what is cached of them was
	// fetched beforehand.
	kindWarmed = "warmed"
	// kindCarried are profiles of earlier releases, in terms of this image.
	kindCarried = "carried"
	// The kernel reads on behind what a guest reads: twice as much, within these limits.
	warmLeast, warmMost = 64 << 10, 256 << 10
	// wholeMost is the largest kernel or ramdisk that is fetched for a boot.
	wholeMost = 128 << 20
)

// Booted is an image of an earlier release that was booted on this host.
type Booted struct {
	Key  store.Key
	Size int64
}

// HasBooted tells whether a boot of an image was recorded on this host.
func HasBooted(st *store.Store, key store.Key) bool { return st.HasDoc(kindProfile, string(key)) }

// OnlyWarmed tells whether nobody has opened an image yet.
func OnlyWarmed(st *store.Store, key store.Key) bool { return st.HasDoc(kindWarmed, string(key)) }

// IsCached tells whether image data is cached, and more than a look at its kind reads
// unless it was opened.
func IsCached(st *store.Store, key store.Key, opened bool) bool {
	i, err := st.Stat(key)
	return err == nil && i.Bytes > 0 && (opened || i.Bytes >= recordLeast && !OnlyWarmed(st, key))
}

// bootReads is what a boot of the image is expected to read: by the operator, by a
// boot that was recorded here, by its publisher, or by a boot of an earlier release.
func bootReads(set *Set, m Member, size int64) (reads []xvm.ProfileRead) {
	for _, of := range []func() []xvm.ProfileRead{
		func() []xvm.ProfileRead { return set.ProfileReads },
		func() []xvm.ProfileRead { return recordedProfile(set.Store, kindProfile, m.Key) },
		set.Profile,
		func() []xvm.ProfileRead { return recordedProfile(set.Store, kindCarried, m.Key) },
		func() []xvm.ProfileRead { return olderReads(set, m.Name, size) },
	} {
		if reads = of(); len(profileOf(reads, m.Name)) > 0 {
			return reads
		}
	}
	return nil
}

// olderReads is what a boot of an earlier release has read, by offset, if that image
// has the same size.
func olderReads(set *Set, name string, size int64) []xvm.ProfileRead {
	if set.Older == nil {
		return nil
	}
	if old, ok := set.Older(name); ok && old.Size == size {
		return recordedProfile(set.Store, kindProfile, old.Key)
	}
	return nil
}

// carry finds what a boot of an earlier release has read in this image, by the sums
// of its blocks, and keeps that. The caller holds the block list.
func carry(ctx context.Context, im *Image) {
	set, m := im.set, im.member
	if set.Older == nil || set.Store.HasDoc(kindCarried, string(m.Key)) || HasBooted(set.Store, m.Key) || len(profileOf(set.Profile(), m.Name)) > 0 {
		return
	}
	old, ok := set.Older(m.Name)
	if !ok {
		return
	}
	had := set.Held.keptSums(old.Key)
	has, err := im.listed(im.Size())
	if err != nil || had == nil || has == nil || had.BlockSize() != has.BlockSize {
		return
	}
	bs := int64(has.BlockSize)
	places := make(map[[32]byte]int64)
	var order []int64 // blocks of the old image
	for _, r := range recordedProfile(set.Store, kindProfile, old.Key) {
		for b := r.Off / bs; r.Len > 0 && b <= (r.Off+r.Len-1)/bs && b < had.Blocks(); b++ {
			if sum, zero, ok := had.Sum(b); ok && !zero {
				places[sum] = -1
				order = append(order, b)
			}
		}
	}
	for b := range has.Blocks() {
		if zero, ok := has.Known(b); zero || !ok {
			continue
		}
		sum, err := has.Sum(ctx, b)
		if err != nil {
			return // another time
		}
		if at, wanted := places[sum]; wanted && at < 0 {
			places[sum] = b
		}
	}
	var reads []xvm.ProfileRead
	for _, b := range order {
		sum, _, _ := had.Sum(b)
		at := places[sum]
		if at < 0 && old.Size == im.Size() {
			at = b // what has changed is likely to be read all the same
		}
		if at < 0 || at*bs >= im.Size() {
			continue
		}
		reads = xvm.AppendRead(reads, xvm.ProfileRead{Image: m.Name, Off: at * bs, Len: min(bs, im.Size()-at*bs)})
	}
	text, err := xvm.AppendProfile(nil, reads)
	if err == nil {
		err = set.Store.PutDoc(kindCarried, string(m.Key), text)
	}
	if err != nil {
		set.Log.Warn("the boot profile of an earlier release is not carried over", "file", im.label(), "err", err)
	}
}

// Warm fetches what a boot of an image is expected to read, at most bytes of it, behind
// all readers. It returns how many bytes came, and whether anything is known of boots.
func Warm(ctx context.Context, im *Image, most int64) (got int64, known bool, err error) {
	set, m := im.set, im.member
	if !records(set, m.Name) || im.Size() == store.Unknown {
		return 0, false, nil
	}
	im.warming.Add(1)
	defer im.warming.Add(-1)
	file, err := im.Acquire(ctx)
	if err != nil {
		return 0, false, err
	}
	defer im.Drop() //nolint:errcheck // only filled
	carry(ctx, im)
	extents := profileOf(bootReads(set, m, im.Size()), m.Name)
	if len(extents) == 0 && xvm.NoDisk(m.Name) && len(set.Profile()) > 0 && im.Size() <= wholeMost {
		extents = []cache.Extent{{Len: im.Size()}} // a kernel or ramdisk, beside the profile of a disk
	}
	if len(extents) == 0 {
		return 0, false, nil
	}
	if file.Status().CachedBytes < recordLeast {
		if err := set.Store.PutDoc(kindWarmed, string(m.Key), nil); err != nil {
			return 0, true, err
		}
	}
	if !HasBooted(set.Store, m.Key) { // else it is in what was recorded
		for _, e := range extents { // last, what the kernel is going to ask for beside them
			extents = append(extents, cache.Extent{Off: e.Off, Len: e.Len + min(max(2*e.Len, warmLeast), warmMost)})
		}
	}
	got, err = file.Warm(ctx, extents, most)
	return got, true, err
}

// opened takes note that somebody has opened an image.
func opened(im *Image, file *cache.File) {
	if im.set.Complete {
		file.CompleteBehind() // it may have been opened to be warmed
	}
	if OnlyWarmed(im.set.Store, im.member.Key) {
		_ = im.set.Store.DeleteDoc(kindWarmed, string(im.member.Key)) // a hint
	}
}
