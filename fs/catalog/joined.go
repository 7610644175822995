package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
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

// candidate is an image that may be that of a partition.
type candidate struct {
	f      *File
	target string // as described, "xvda1", or ""
	told   bool   // by its target or its name: only a look can say otherwise
}

// layout is what was found. Without parts there is no disk.
type layout struct {
	size   int64
	tables []run
	parts  []partition
	files  []*File // one for each of parts
}

// seen is what the first bytes of an image showed, as kept with the index.
type seenImage struct {
	Format, Kind string
	Boot         bool `json:",omitempty"` // its first sector ends in the boot signature
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
	f.key = keyOf(append(identity[:len(identity):len(identity)], "joined 1")...)
	f.bare = f.key
	p.byName[joinedName] = f
	p.joined = j
	j.settle(p.kinds)
}

// candidates lists what may be images of partitions: the disks that the
// description names, in its order, or else all that might be one, in the order
// of the archive.
func (p *Package) candidates(xva []xvm.XVADisk) []candidate {
	var d xvm.Description
	for _, name := range []string{"xvm.xml", "description.xml"} {
		if raw, ok := p.doc.Meta[name]; ok {
			if parsed, err := xvm.ParseDescription(raw); err == nil {
				d = *parsed
			}
			break
		}
	}
	var out []candidate
	add := func(name, target string) {
		f := p.byName[name]
		if f == nil || f.image == nil || slices.ContainsFunc(out, func(c candidate) bool { return c.f == f }) {
			return
		}
		c := candidate{f: f, target: target}
		_, number := c.place()
		c.told = number > 0
		out = append(out, c)
	}
	for _, v := range d.Drives {
		if !v.CDROM && !v.Floppy {
			add(p.plainOf(v.File), v.Target)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, m := range p.doc.Index.Members {
		name := p.plainOf(m.Name)
		if name != d.Kernel && name != d.Ramdisk && mayBeRaw(name) {
			add(name, "")
		}
	}
	for _, d := range xva {
		add(d.Name, "")
	}
	return out
}

// plainOf is the name of the plain content of a compressed member.
func (p *Package) plainOf(name string) string {
	for _, f := range []string{".gz", ".xz", ".zst", ".bz2"} {
		if plain, ok := strings.CutSuffix(name, f); ok && p.byName[plain] != nil {
			return plain
		}
	}
	return name
}

// mayBeRaw leaves out what need not be looked at.
func mayBeRaw(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".qcow2", ".qcow", ".qed", ".vmdk", ".vhd", ".vhdx", ".vdi", ".hdd", ".iso", ".dmg", ".gz", ".xz", ".zst", ".bz2",
		".xml", ".txt", ".asc", ".sig", ".mf", ".ovf", ".cert", ".nvram", ".html", ".md":
		return false
	}
	return true
}

// place is the disk and the number of the partition that the image is told to
// be: by its target ("xvda" and 1 of "xvda1"), or by the name that the draft
// gives partition images (imagefile, imagefile2, …). Number 0: by nothing.
func (c candidate) place() (disk string, number int) {
	name := path.Base(c.f.name)
	if c.target == "" && name == "imagefile" {
		return name, 1
	}
	for _, s := range []string{c.target, name} {
		disk = strings.TrimRight(s, "0123456789")
		number, err := strconv.Atoi(s[len(disk):])
		if disk != "" && err == nil && number > 0 && number <= maxPartitions && (s == c.target || disk == "imagefile") {
			return disk, number
		}
	}
	return "", 0
}

// isPartition tells what an image is: of a partition if it begins with a file
// system and cannot boot by itself; one that is told to be a partition is
// taken for it unless it shows to be something else.
func (c candidate) isPartition(s seenImage) bool {
	if s.Format != "raw" {
		return false
	}
	switch s.Kind {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "squashfs", "f2fs", "lvm":
		return c.told || !s.Boot
	case "mbr", "gpt", "iso9660":
		return false
	}
	return c.told
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

// look reads what the image is recognized by: its first block, which the cache
// keeps, and no more than that.
func (c candidate) look(ctx context.Context) (seenImage, error) {
	c.f.pkg.mu.Lock()
	s, ok := c.f.pkg.kinds[c.f.name]
	c.f.pkg.mu.Unlock()
	if ok {
		return s, nil
	}
	if err := c.f.refused(); err != nil {
		return seenImage{}, err
	}
	file, err := c.f.image.acquire(ctx)
	if err != nil {
		return seenImage{}, err
	}
	defer c.f.image.drop()
	head := make([]byte, cache.DefaultBlockSize)
	n, err := file.ReadAt(cache.Narrowly(ctx), head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return seenImage{}, err
	}
	disk := xvm.Sniff(head[:n], nil)
	return seenImage{disk.Format, disk.Kind, n >= 512 && head[510] == 0x55 && head[511] == 0xaa}, nil
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

// unvouched is File.unvouched.
func (j *joined) unvouched() string {
	if l := j.done.Load(); l != nil {
		for _, f := range l.files {
			if why := f.unvouched(); why != "" {
				return f.name + ": " + why
			}
		}
	}
	return ""
}

// has tells whether f is one of the parts.
func (j *joined) has(f *File) bool {
	l := j.done.Load()
	return l != nil && slices.Contains(l.files, f)
}

// open opens all parts.
func (j *joined) open(ctx context.Context) (Handle, error) {
	if _, err := j.findSize(ctx); err != nil {
		return nil, err
	}
	l := j.done.Load()
	h := &joinedHandle{size: l.size}
	for _, t := range l.tables {
		h.pieces = append(h.pieces, piece{t.off, int64(len(t.data)), memHandle(t.data)})
	}
	for i, f := range l.files {
		part, err := f.Open(ctx)
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.pieces = append(h.pieces, piece{l.parts[i].Off, l.parts[i].Size, part})
	}
	slices.SortFunc(h.pieces, func(a, b piece) int { return int(min(1, max(-1, a.off-b.off))) })
	return h, nil
}

// joinedHandle is the open disk. What is between the pieces is zeros.
type joinedHandle struct {
	size   int64
	pieces []piece // ascending
}

type piece struct {
	off, len int64
	Handle
}

// from is the first piece that ends above off.
func (h *joinedHandle) from(off int64) []piece {
	for i, p := range h.pieces {
		if off < p.off+p.len {
			return h.pieces[i:]
		}
	}
	return nil
}

func (h *joinedHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	var atEnd error
	if off >= h.size {
		return 0, io.EOF
	}
	if rest := h.size - off; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	n := 0
	for _, piece := range h.from(off) {
		at := off + int64(n)
		if gap := min(piece.off-at, int64(len(p)-n)); gap > 0 {
			clear(p[n : n+int(gap)])
			n, at = n+int(gap), at+gap
		}
		if n == len(p) {
			break
		}
		want := min(int64(len(p)-n), piece.off+piece.len-at)
		m, err := piece.ReadAt(ctx, p[n:n+int(want)], at-piece.off)
		n += m
		switch {
		case int64(m) == want:
		case err == nil || errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		default:
			return n, err
		}
	}
	clear(p[n:])
	return len(p), atEnd
}

func (h *joinedHandle) SeekData(off int64) (int64, error) {
	for _, p := range h.from(off) {
		off = max(off, p.off)
		at, err := p.SeekData(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
	}
	return h.size, nil
}

func (h *joinedHandle) SeekHole(off int64) (int64, error) {
	for _, p := range h.from(off) {
		if off < p.off {
			return off, nil
		}
		at, err := p.SeekHole(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
		off = p.off + p.len
	}
	return min(off, h.size), nil
}

func (h *joinedHandle) PassthroughFile() (*os.File, bool) { return nil, false }

// Complete fetches and checks all partitions.
func (h *joinedHandle) Complete(ctx context.Context) error {
	for _, p := range h.pieces {
		if c, ok := p.Handle.(interface{ Complete(context.Context) error }); ok {
			if err := c.Complete(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *joinedHandle) Close() error {
	var err error
	for _, p := range h.pieces {
		err = errors.Join(err, p.Close())
	}
	return err
}
