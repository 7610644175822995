package image

import (
	"context"
	"errors"
	"fmt"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm/sums"
)

// inflated makes the plain content of a compressed image, as one stream. It is
// inflated from the stored file in the cache. So nothing crosses the network
// twice, and the stored sums are checked on the way. What it yields is cached as
// a file of its own.
type inflated struct {
	order
	stream *archive.Stream
}

func newInflated(o order) (recipe, bool) { return &inflated{order: o}, o.base != nil }

func (p *inflated) open() (cache.Spec, error) {
	file, err := p.base.acquireHeld()
	if err != nil {
		return cache.Spec{}, err
	}
	stored := p.base.stored()
	p.stream, err = archive.OpenStream(archive.StreamSpec{
		Key: p.member.Key, Label: p.member.Name, Format: p.member.Format, Stored: file, Size: stored.Size,
		Store: p.set.Store, Memory: p.set.Memory, Origin: p.set.Origin, Log: p.set.Log,
		Hint: func() []byte { return p.set.Blocks.takePoints(stored.Name) },
	})
	if err != nil {
		return cache.Spec{}, errors.Join(err, p.base.dropHeld())
	}
	spec := cache.Spec{Size: p.size, Source: p.stream.Source(p.size)}
	if p.listed != nil {
		spec.Size = p.listed.Size
	} else {
		spec.Sums, spec.Judge = p.judge(file)
	}
	return spec, nil
}

func (p *inflated) close() {
	p.stream.Close()
	if err := p.base.dropHeld(); err != nil {
		p.set.Log.Warn("close of a compressed image", "file", p.base.stored().Name, "err", err)
	}
}

func (*inflated) checksBlocks() bool { return false }

// judge says what makes the plain content verified. That is its own sum, which an
// XVM2 manifest gives. Else the stored file must match that it was inflated from,
// without an error of the format's own checks.
func (p *inflated) judge(stored *cache.File) ([]sums.Sum, cache.Judge) {
	if list := p.member.PlainSums; len(list) > 0 {
		return list, func(_ context.Context, matched []bool) (store.FileState, string) {
			for i, ok := range matched {
				switch {
				case ok && list[i].Prefix == 0:
					return store.Verified, list[i].Algo + " of the plain content matches the manifest"
				case ok:
					return store.Unverified, fmt.Sprintf("the manifest's %s covers only the first %d bytes, which match", list[i].Algo, list[i].Prefix)
				}
			}
			return store.Corrupt, "the plain content does not match the manifest"
		}
	}
	name := p.base.stored().Name
	return nil, func(ctx context.Context, _ []bool) (store.FileState, string) {
		err := stored.Complete(ctx)
		state := stored.State()
		var unkept *cache.UnkeptError
		switch {
		case errors.As(err, &unkept): // what it is was found out all the same
			state = unkept.State
		case err != nil && state != store.Corrupt:
			return store.Partial, err.Error()
		}
		switch state {
		case store.Verified:
			return store.Verified, fmt.Sprintf("inflated from %s, which is verified", name)
		case store.Corrupt:
			return store.Corrupt, fmt.Sprintf("inflated from %s, which is corrupt", name)
		default:
			return store.Unverified, fmt.Sprintf("inflated from %s, which nothing vouches for", name)
		}
	}
}
