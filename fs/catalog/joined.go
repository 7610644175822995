package catalog

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
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

// layout is what was found. Without parts there is no disk.
type layout struct {
	size   int64
	tables []run
	parts  []partition
	files  []*File // one for each of parts
}

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
func (j *joined) resolve(ctx context.Context) (*layout, error) {
	if l := j.done.Load(); l != nil {
		return l, nil
	}
	select {
	case j.find <- struct{}{}:
		defer func() { <-j.find }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := j.done.Load(); l != nil {
		return l, nil
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
				_, err = c.f.image.findSize(gctx)
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
		return l, nil
	}
	return nil, fmt.Errorf("%s/%s: the sizes of its parts are not known yet", j.pkg.release.Name(), joinedName)
}

// settle makes the layout if all that it needs is known.
func (j *joined) settle(kinds map[string]seenImage) {
	l := &layout{}
	var numbers []int
	disk, same := "", true
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
		base, number := c.place()
		if number > 0 {
			same = same && (disk == "" || disk == base) && !slices.Contains(numbers, number)
			disk = base
		}
		numbers = append(numbers, number)
		l.parts = append(l.parts, partition{Name: path.Base(c.f.name), Kind: s.Kind, Size: size})
		l.files = append(l.files, c.f)
	}
	for i := range l.parts {
		if !same {
			numbers[i] = i + 1 // of several disks, or described twice
		}
		if numbers[i] == 0 {
			for numbers[i] = 1; slices.Contains(numbers[:i], numbers[i]) || slices.Contains(numbers[i+1:], numbers[i]); numbers[i]++ {
			}
		}
		l.parts[i].Number = numbers[i]
	}
	l.sort()
	if len(l.parts) > 0 {
		var err error
		// What is the same everywhere, and another for each package.
		seed := fmt.Appendf(nil, "%s %d %+v", j.pkg.manifestSum, j.pkg.doc.Index.Size, l.parts)
		if l.size, l.tables, err = layOut(l.parts, seed); err != nil {
			j.pkg.cat.cfg.Logger.Warn("the partition images make no disk", "release", j.pkg.release.Name(), "err", err)
			l = &layout{}
		}
	}
	j.done.Store(l)
}

// sort brings the partitions into the order of their numbers.
func (l *layout) sort() {
	files := make(map[int]*File)
	for i, p := range l.parts {
		files[p.Number] = l.files[i]
	}
	slices.SortFunc(l.parts, func(a, b partition) int { return a.Number - b.Number })
	for i, p := range l.parts {
		l.files[i] = files[p.Number]
	}
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

// findSize waits for the layout; fs.ErrNotExist: there is no such disk.
func (j *joined) findSize(ctx context.Context) (int64, error) {
	l, err := j.resolve(ctx)
	switch {
	case err != nil:
		return 0, err
	case len(l.parts) == 0:
		return 0, fs.ErrNotExist
	}
	return l.size, nil
}

// size is store.Unknown until there is a disk.
func (j *joined) size() int64 {
	if l := j.done.Load(); l != nil && len(l.parts) > 0 {
		return l.size
	}
	return store.Unknown
}

// blocks is File.Blocks.
func (j *joined) blocks() (n int64) {
	l := j.done.Load()
	if l == nil {
		return 0
	}
	for _, t := range l.tables {
		n += int64(len(t.data)) / sectorSize
	}
	for _, f := range l.files {
		n += f.Blocks()
	}
	return n
}

// describe lists the partitions, one "number name" a line, in the order of
// the disk.
func (j *joined) describe() string {
	var b strings.Builder
	if l := j.done.Load(); l != nil {
		for i, part := range l.parts {
			fmt.Fprintf(&b, "%d %s\n", part.Number, l.files[i].name)
		}
	}
	return b.String()
}

// status is made of that of the parts: the disk is as good as the worst.
func (j *joined) status(st *FileStatus) {
	l := j.done.Load()
	if l == nil {
		return
	}
	order := []string{store.Verified.String(), store.Unverified.String(), store.Partial.String(), store.Corrupt.String()}
	worst := 0
	st.Note = "every partition is verified; the table is made by this program"
	for _, f := range l.files {
		part := f.Status()
		st.Parts = append(st.Parts, part.Name)
		st.CachedBytes += part.CachedBytes
		st.Checked += part.Checked
		st.InFlight += part.InFlight
		if st.LastError == "" {
			st.LastError, st.LastErrorAt = part.LastError, part.LastErrorAt
		}
		if i := slices.Index(order, part.State); i > worst {
			worst = i
			st.Note = part.Name + " is " + part.State
			if part.Note != "" {
				st.Note += ": " + part.Note
			}
		}
		switch {
		case st.Verify == "":
			st.Verify = part.Verify
		case st.Verify != part.Verify:
			st.Verify = "whole" // the least that is promised
		}
		if part.VerifyNote != "" {
			st.VerifyNote = part.Name + ": " + part.VerifyNote
		}
	}
	st.State = order[worst]
	total := int64(0)
	for _, part := range l.parts {
		total += part.Size
	}
	st.Percent = 100 * float64(st.CachedBytes) / float64(total)
}

// standing is that of the worst of the parts.
func (j *joined) standing() (worst xvm.Standing) {
	l := j.done.Load()
	if l == nil {
		return worst
	}
	for i, f := range l.files {
		s := f.standing()
		if s.Refused != "" {
			s.Refused = f.name + ": " + s.Refused
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
	l := j.done.Load()
	return l != nil && slices.Contains(l.files, f)
}
