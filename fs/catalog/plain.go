package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// plainKey is the part of its key that tells plain content from what is stored.
// It says which decoder it comes from. The gzip decoder of the first version was
// wrong about some streams: its blocks, sums and verdicts are not found any more,
// and leave the cache as what nobody reads.
const plainKey = "plain 2"

// newPlainImage is the plain content of a compressed member. It is inflated
// from the stored file in the cache, so that nothing crosses the network twice
// and the stored sums are checked on the way; what it yields is cached as a
// file of its own.
func newPlainImage(f *File, stored *File, format seekable.Format) *image {
	p := &plain{f: f, format: format}
	im := &image{f: f, base: stored.image}
	p.im = im
	im.setUp = p.setUp
	im.release = p.release
	return im
}

// plain holds what is open while a plain image is. Its fields but size are
// guarded by the image's mu.
type plain struct {
	im     *image
	f      *File
	format seekable.Format
	stream *archive.Stream // nil: the blocks are inflated one by one
	stored *store.File     // what the cache has of the member as stored, then; may be nil
}

func (p *plain) setUp() (cache.Spec, error) {
	base := p.im.base
	ib, err := p.im.blockSums().image(p.f.name, base.f.name, base.f.size, p.f.Size())
	if err != nil {
		return cache.Spec{}, err
	}
	if ib != nil && ib.Member != "" {
		return p.setUpBlocks(ib)
	}
	file, err := base.acquireHeld()
	if err != nil {
		return cache.Spec{}, err
	}
	cat := p.f.pkg.cat
	p.stream, err = archive.OpenStream(archive.StreamSpec{
		Key: p.f.key, Label: p.f.name, Format: p.format, Stored: file, Size: base.f.size,
		Store: cat.cfg.Store, Memory: cat.cfg.inflate.members, Log: cat.cfg.Logger,
		Hint: func() []byte { return p.im.blockSums().takePoints(base.f.name) },
	})
	if err != nil {
		return cache.Spec{}, errors.Join(err, base.dropHeld())
	}
	spec := p.im.spec()
	spec.Size, spec.Source = p.f.Size(), p.stream.Source(p.f.Size())
	if ib != nil {
		spec.Size = ib.Size
	} else {
		spec.Sums, spec.Judge = p.judge(file)
	}
	p.im.checkBlocks(&spec, ib)
	return spec, nil
}

// setUpBlocks opens an image whose blocks are compressed one by one. They are
// fetched from the archive and not kept as stored, unless somebody has read the
// stored file.
func (p *plain) setUpBlocks(ib *xvm.ImageBlocks) (cache.Spec, error) {
	if err := p.f.pkg.content.Acquire(); err != nil {
		return cache.Spec{}, err
	}
	base, cat := p.im.base, p.f.pkg.cat
	src := base.source
	if _, err := cat.cfg.Store.Stamp(base.f.key); err == nil {
		if p.stored, err = cat.cfg.Store.File(base.f.key, base.f.size, cache.DefaultBlockSize); err == nil {
			src = localFirst(src, p.stored)
		}
	}
	spec := p.im.spec()
	spec.Size, spec.Source = ib.Size, gzipBlocks{src, ib, &cat.pool}
	p.im.checkBlocks(&spec, ib)
	return spec, nil
}

func (p *plain) release() {
	cat := p.f.pkg.cat
	if p.stream == nil {
		if p.stored != nil {
			p.stored.Close()
			p.stored = nil
		}
		p.f.pkg.content.Release()
		return
	}
	p.stream.Close()
	p.stream = nil
	if err := p.im.base.dropHeld(); err != nil {
		cat.cfg.Logger.Warn("close of a compressed image", "file", p.im.base.f.name, "err", err)
	}
}

// judge says what makes the plain content verified: its own sum, which an XVM2
// manifest gives, else that the stored file it was inflated from (without an
// error of the format's own checks) matches.
func (p *plain) judge(stored *cache.File) ([]cache.Sum, cache.Judge) {
	if m := p.f.pkg.manifest; m != nil {
		if told, ok := m.Plain(p.f.name); ok && len(told.Any) > 0 {
			var sums []cache.Sum
			for _, s := range told.Any {
				sums = append(sums, cache.Sum(s))
			}
			return sums, func(_ context.Context, matched []bool) (store.FileState, string) {
				for i, ok := range matched {
					switch {
					case ok && sums[i].Prefix == 0:
						return store.Verified, sums[i].Algo + " of the plain content matches the manifest"
					case ok:
						return store.Unverified, fmt.Sprintf("the manifest's %s covers only the first %d bytes, which match", sums[i].Algo, sums[i].Prefix)
					}
				}
				return store.Corrupt, "the plain content does not match the manifest"
			}
		}
	}
	name := p.im.base.f.name
	return nil, func(ctx context.Context, _ []bool) (store.FileState, string) {
		if err := stored.Complete(ctx); err != nil {
			if stored.State() == store.Corrupt {
				return store.Corrupt, fmt.Sprintf("inflated from %s, which is corrupt", name)
			}
			return store.Partial, err.Error()
		}
		switch stored.State() {
		case store.Verified:
			return store.Verified, fmt.Sprintf("inflated from %s, which is verified", name)
		case store.Corrupt:
			return store.Corrupt, fmt.Sprintf("inflated from %s, which is corrupt", name)
		default:
			return store.Unverified, fmt.Sprintf("inflated from %s, which nothing vouches for", name)
		}
	}
}

// knownSize is the size if it has been found.
func (im *image) knownSize() int64 {
	if n := im.told.Load(); n > 0 {
		return n - 1
	}
	im.f.pkg.mu.Lock()
	defer im.f.pkg.mu.Unlock()
	if n, ok := im.f.pkg.sizes[im.f.name]; ok {
		return n
	}
	return store.Unknown
}

// findSize finds the size of plain content that nothing tells: by what the
// format proves, else by inflating the stream to its end, which also caches
// all of it. Any number may wait; the work goes on for as long as one does.
func (im *image) findSize(ctx context.Context) (int64, error) {
	if n := im.knownSize(); n != store.Unknown {
		return n, nil
	}
	n, known, err := im.provenSize(ctx)
	if err != nil {
		return 0, err
	}
	if known {
		if b := im.blockSums(); b != nil && b.id != ownList {
			im.told.Store(n + 1) // another sidecar may say otherwise
		} else {
			im.f.pkg.learnSize(im.f.name, n)
		}
		return n, nil
	}
	file, err := im.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer im.drop()
	if err := im.corrupt(file); err != nil {
		return 0, err
	}
	n, err = file.WaitSize(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s/%s: find the plain size: %w", im.f.pkg.release.Name(), im.f.name, err)
	}
	im.f.pkg.learnSize(im.f.name, n)
	return n, nil
}

// provenSize asks the block list, and then the format, which costs a read or
// two at the stream's end.
func (im *image) provenSize(ctx context.Context) (int64, bool, error) {
	file, err := im.base.acquire(ctx)
	if err != nil {
		return 0, false, err
	}
	defer im.base.drop()
	ib, err := im.blockSums().image(im.f.name, im.base.f.name, im.base.f.size, store.Unknown)
	if err != nil {
		return 0, false, err
	}
	if ib != nil {
		return ib.Size, true, nil
	}
	format, _ := seekable.PlainName(im.base.f.name)
	reader, err := seekable.Open(format, file, im.base.f.size, seekable.Options{MaxSize: archive.MaxInflated})
	if err != nil {
		return 0, false, err
	}
	defer reader.Close()
	n, known, err := reader.Size(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("%s/%s: %w", im.f.pkg.release.Name(), im.base.f.name, err)
	}
	return n, known, nil
}

// sizing bounds what is inflated by itself, at a release's first use, so that
// a directory lists the plain names too; larger members are sized when their
// plain name is first asked for.
const (
	sizeAtOnce     = 4 << 20  // stored bytes of a member sized before the directory is shown
	sizeBackground = 64 << 20 // ... and behind it
	// A block list tells sizes without anything being inflated, so lists of so
	// many times the bytes are read.
	sizeListShare = 16
	// Little can be inflated to very much, and there may be thousands of it.
	sizeTime           = 5 * time.Second // for all of a release before its directory is shown
	sizeBackgroundTime = 2 * time.Minute // ... and behind it
	sizeFaults         = 8               // told of in the log, for a release
)

// findSizes sizes the small compressed members, as far as the time reaches.
func (p *Package) findSizes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	faults := 0
	var rest []*File
	for _, name := range p.names {
		f := p.byName[name]
		if f.Size() != store.Unknown || f.joined != nil {
			continue
		}
		stored := f.image.base.f.size
		if b := f.image.blockSums(); b != nil {
			stored = b.size / sizeListShare
		}
		if stored <= sizeAtOnce && ctx.Err() == nil && !p.findSizeOf(ctx, f, &faults) || stored > sizeAtOnce && stored <= sizeBackground {
			rest = append(rest, f)
		}
	}
	if len(rest) == 0 {
		return
	}
	p.cat.background(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sizeBackgroundTime)
		defer cancel()
		for _, f := range rest {
			if !p.findSizeOf(ctx, f, &faults) {
				return
			}
			p.cat.notify()
		}
		p.findJoined(ctx)
	})
}

// findSizeOf sizes one of them; false if the time was too short.
func (p *Package) findSizeOf(ctx context.Context, f *File, faults *int) bool {
	_, err := f.image.findSize(ctx)
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		if *faults++; *faults <= sizeFaults {
			p.cat.cfg.Logger.Warn("the plain size is not known yet", "err", err)
		}
	}
	return true
}
