package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// joinedName is the file that shows partition images as one disk.
const joinedName = "disk.img"

// joined is a disk made of the partition images of a package. It is found out
// when it is wanted; the disk itself is an image.Joined.
type joined struct {
	label   string // for people
	log     *slog.Logger
	seed    string // what is the same everywhere, and another for each package
	parts   []candidate
	learned *learned
	done    atomic.Pointer[layout] // once it has been found
	finding chan struct{}          // holds the token of the goroutine that finds the layout
}

// layout is what was found. Without a disk there is none.
type layout struct{ disk *image.Joined }

const (
	maxCandidates = 256
	// At the first use of a release, images that are told to be partitions are
	// looked at before its directory is shown. So many others are behind it.
	maxUntold  = 32
	joinedTime = 5 * time.Second
	// A look must not fetch whole images that nobody asked for. So much of those that
	// are checked whole first is fetched for it, in bytes of all together.
	maxUnasked = 4 << 20
)

// newJoined is the disk of a package's partition images, nil if it has none.
func newJoined(label string, log *slog.Logger, seed string, parts []candidate, l *learned) *joined {
	if len(parts) == 0 || len(parts) > maxCandidates {
		return nil
	}
	j := &joined{label: label, log: log, seed: seed, parts: parts, learned: l, finding: make(chan struct{}, 1)}
	j.settle(l.kind)
	return j
}

// resolve finds the layout, with the network if need be. Any number may wait. Most is
// that of candidate.look.
func (j *joined) resolve(ctx context.Context, most int64) (*image.Joined, error) {
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	select {
	case j.finding <- struct{}{}:
		defer func() { <-j.finding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	var mu sync.Mutex
	kinds := make(map[string]SeenImage, len(j.parts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, c := range j.parts {
		g.Go(func() error {
			s, known := j.learned.kind(c.file.name)
			if !known {
				var err error
				if s, err = c.look(gctx, most); err != nil {
					return err
				}
			}
			mu.Lock()
			kinds[c.file.name] = s
			mu.Unlock()
			if !c.isPartition(s) {
				return nil
			}
			_, err := c.file.content.FindSize(gctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("%s: what it is made of is not known yet: %w", j.label, err)
	}
	j.learned.setKinds(kinds)
	j.settle(func(name string) (SeenImage, bool) { s, ok := kinds[name]; return s, ok })
	if l := j.done.Load(); l != nil {
		return l.disk, nil
	}
	return nil, fmt.Errorf("%s: the sizes of its parts are not known yet", j.label)
}

// settle makes the layout if all that it needs is known.
func (j *joined) settle(kind func(name string) (SeenImage, bool)) {
	l := &layout{}
	var parts []image.Placed
	for _, c := range j.parts {
		s, ok := kind(c.file.name)
		if !ok {
			return
		}
		size := c.file.Size()
		if !c.isPartition(s) || size == 0 {
			continue
		}
		if size == store.Unknown {
			return
		}
		disk, number := c.place()
		parts = append(parts, image.Placed{Part: c.file, Kind: s.Kind, Disk: disk, Number: number})
	}
	if len(parts) > 0 {
		var err error
		if l.disk, err = image.Join(parts, j.seed); err != nil {
			j.log.Warn("the partition images make no disk", "disk", j.label, "err", err)
			l.disk = nil
		}
	}
	j.done.Store(l)
}

// wanted tells when the images are looked at by themselves, at the first use of a
// release. They are at once if they are told to be partitions, so that the
// directory shows the disk; else behind that. An image whose size is not known is
// not waited for.
func (j *joined) wanted() (atOnce, behind bool) {
	if j.done.Load() != nil {
		return false, false
	}
	told := 0
	for _, c := range j.parts {
		if c.file.Size() == store.Unknown {
			return false, false
		}
		if c.told {
			told++
		}
	}
	return told > 0, told == 0 && len(j.parts) <= maxUntold
}

// find looks at the images by itself. Where that would fetch too much, the disk is found
// when somebody asks for it.
func (j *joined) find(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, joinedTime)
	defer cancel()
	if _, err := j.resolve(ctx, maxUnasked/int64(len(j.parts))); err != nil && ctx.Err() == nil && !errors.Is(err, errUnseen) {
		j.log.Warn("the partition images are not joined yet", "err", err)
	}
}

// disk is the joined disk, nil until it is found, and if there is none.
func (j *joined) disk() *image.Joined {
	if l := j.done.Load(); l != nil {
		return l.disk
	}
	return nil
}

// FindSize waits for the layout; fs.ErrNotExist: there is no such disk.
func (j *joined) FindSize(ctx context.Context) (int64, error) {
	disk, err := j.resolve(ctx, math.MaxInt64)
	switch {
	case err != nil:
		return 0, err
	case disk == nil:
		return 0, fs.ErrNotExist
	}
	return disk.Size(), nil
}

// Open opens all parts.
func (j *joined) Open(ctx context.Context) (image.Handle, error) {
	if _, err := j.FindSize(ctx); err != nil {
		return nil, err
	}
	return j.disk().Open(ctx)
}

// Size is store.Unknown until there is a disk.
func (j *joined) Size() int64 {
	if d := j.disk(); d != nil {
		return d.Size()
	}
	return store.Unknown
}

// Blocks is the data in all parts.
func (j *joined) Blocks() (n int64, settled bool) {
	if d := j.disk(); d != nil {
		return d.Blocks()
	}
	return 0, false
}

// Attr lists the partitions, see image.Joined.Describe.
func (j *joined) Attr(name string) string {
	switch d := j.disk(); {
	case name == "user.vmcast.format":
		return "raw"
	case name == "user.vmcast.parts" && d != nil:
		return d.Describe()
	}
	return ""
}

// Status is made of that of the parts.
func (j *joined) Status() image.Status {
	if d := j.disk(); d != nil {
		return d.Status()
	}
	return image.Status{}
}

// Known is Status from memory.
func (j *joined) Known() image.Status {
	if d := j.disk(); d != nil {
		return d.Known()
	}
	return image.Status{}
}

// standing is that of the worst of the parts.
func (j *joined) standing() (worst xvm.Standing) {
	d := j.disk()
	if d == nil {
		return worst
	}
	for i, part := range d.Parts() {
		s := part.(*File).Standing()
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
