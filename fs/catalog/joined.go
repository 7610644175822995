package catalog

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// joinedName is the file that shows partition images as one disk.
const joinedName = "disk.img"

// joined is a disk made of the partition images of a package: a table of our
// own, and behind it what is read of the images, through them.
type joined struct {
	pkg   *Package
	parts []candidate
	done  atomic.Pointer[layout] // once it has been found

	// find is a token: who finds the layout has it.
	find chan struct{}
}

// layout is what was found. Without a disk there is none.
type layout struct{ disk *image.Joined }

const (
	maxCandidates = 256
	// What is looked at by itself, at the first use of a release: those that
	// are told to be partitions before its directory is shown, and so many
	// others behind it.
	maxUntold  = 32
	joinedTime = 5 * time.Second
)

// addJoined gives the package its disk, if it has images for one.
func (p *Package) addJoined(xva []xvm.XVADisk, identity []string) {
	if p.byName[joinedName] != nil {
		return
	}
	parts := p.candidates(xva)
	if len(parts) == 0 || len(parts) > maxCandidates {
		return
	}
	j := &joined{pkg: p, parts: parts, find: make(chan struct{}, 1)}
	f := &File{pkg: p, name: joinedName, size: store.Unknown, joined: j}
	f.key = archive.Key(append(identity[:len(identity):len(identity)], "joined 1")...)
	f.bare = f.key
	p.byName[joinedName] = f
	p.joined = j
	j.settle(p.kinds)
}

// resolve finds the layout, with the network if need be. Any number may wait.
func (j *joined) resolve(ctx context.Context) (*image.Joined, error) {
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	select {
	case j.find <- struct{}{}:
		defer func() { <-j.find }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	var mu sync.Mutex
	kinds := make(map[string]seenImage, len(j.parts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, c := range j.parts {
		g.Go(func() error {
			s, err := c.look(gctx)
			if err != nil {
				return err
			}
			mu.Lock()
			kinds[c.f.name] = s
			mu.Unlock()
			if c.isPartition(s) && c.f.Size() == store.Unknown {
				_, err = c.f.image.FindSize(gctx)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("%s/%s: what it is made of is not known yet: %w", j.pkg.release.Name(), joinedName, err)
	}
	j.pkg.learnKinds(kinds)
	j.settle(kinds)
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	return nil, fmt.Errorf("%s/%s: the sizes of its parts are not known yet", j.pkg.release.Name(), joinedName)
}

// settle makes the layout if all that it needs is known.
func (j *joined) settle(kinds map[string]seenImage) {
	l := &layout{}
	var parts []image.Placed
	for _, c := range j.parts {
		s, ok := kinds[c.f.name]
		if !ok {
			return
		}
		size := c.f.Size()
		if !c.isPartition(s) || size == 0 {
			continue
		}
		if size == store.Unknown {
			return
		}
		disk, number := c.place()
		parts = append(parts, image.Placed{Part: c.f, Kind: s.Kind, Disk: disk, Number: number})
	}
	if len(parts) > 0 {
		var err error
		// What is the same everywhere, and another for each package.
		seed := fmt.Sprint(j.pkg.manifestSum, " ", j.pkg.doc.Index.Size)
		if l.disk, err = image.Join(parts, seed); err != nil {
			j.pkg.cat.cfg.Logger.Warn("the partition images make no disk", "release", j.pkg.release.Name(), "err", err)
			l.disk = nil
		}
	}
	j.done.Store(l)
}

// findJoined looks at the images of a release at its first use: before its
// directory is shown if they are told to be partitions, else behind it.
func (p *Package) findJoined(ctx context.Context) {
	j := p.joined
	if j == nil || j.done.Load() != nil || p.refusal() != "" {
		return
	}
	told, known := 0, true
	for _, c := range j.parts {
		if c.told {
			told++
		}
		known = known && c.f.Size() != store.Unknown
	}
	if !known || told == 0 && len(j.parts) > maxUntold {
		return // who looks it up by name waits
	}
	find := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, joinedTime)
		defer cancel()
		if _, err := j.resolve(ctx); err != nil && ctx.Err() == nil {
			p.cat.cfg.Logger.Warn("the partition images are not joined yet", "err", err)
		}
	}
	if told > 0 {
		find(ctx)
		return
	}
	p.cat.background(func(ctx context.Context) {
		find(ctx)
		p.cat.notify()
	})
}

// disk is the joined disk, nil until it is found, and if there is none.
func (j *joined) disk() *image.Joined {
	if l := j.done.Load(); l != nil {
		return l.disk
	}
	return nil
}

// findSize waits for the layout; fs.ErrNotExist: there is no such disk.
func (j *joined) findSize(ctx context.Context) (int64, error) {
	disk, err := j.resolve(ctx)
	switch {
	case err != nil:
		return 0, err
	case disk == nil:
		return 0, fs.ErrNotExist
	}
	return disk.Size(), nil
}

// open opens all parts.
func (j *joined) open(ctx context.Context) (image.Handle, error) {
	if _, err := j.findSize(ctx); err != nil {
		return nil, err
	}
	return j.disk().Open(ctx)
}

// size is store.Unknown until there is a disk.
func (j *joined) size() int64 {
	if d := j.disk(); d != nil {
		return d.Size()
	}
	return store.Unknown
}

// blocks is File.Blocks.
func (j *joined) blocks() int64 {
	if d := j.disk(); d != nil {
		return d.Blocks()
	}
	return 0
}

// describe lists the partitions, see image.Joined.Describe.
func (j *joined) describe() string {
	if d := j.disk(); d != nil {
		return d.Describe()
	}
	return ""
}

func (j *joined) status(name string) image.Status {
	if d := j.disk(); d != nil {
		return d.Status(name)
	}
	return image.Status{Name: name, Size: store.Unknown}
}

// standing is that of the worst of the parts.
func (j *joined) standing() (worst xvm.Standing) {
	d := j.disk()
	if d == nil {
		return worst
	}
	for i, part := range d.Parts() {
		s := part.(*File).standing()
		if s.Refused != "" {
			s.Refused = part.Name() + ": " + s.Refused
			return s
		}
		if i == 0 || s.By == "" {
			worst = s
		}
	}
	return worst
}

// has tells whether f is one of the parts.
func (j *joined) has(f *File) bool {
	d := j.disk()
	return d != nil && slices.Contains(d.Parts(), image.Part(f))
}
