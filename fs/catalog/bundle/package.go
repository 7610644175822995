package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// Package is one indexed archive: one generation of a release. It is safe for
// any number of goroutines.
type Package struct {
	shared   *shared
	env      *Env
	archive  *archive.Archive
	content  archive.Content // what the members are cut from
	doc      *Doc
	blocks   *image.BlockSums // nil: there is no block list
	files    map[string]*File
	names    []string // sorted
	joined   *joined  // nil: no image may be that of a partition
	learned  *learned
	identity identity
	warnings []string
	large    []*File   // whose sizes are found behind an open; written by Prepare alone
	finished sync.Once // for Finish
}

// newPackage joins what was read of the archive and the verdict on it. It does no
// I/O.
func newPackage(env *Env, release Release, a *archive.Archive, content archive.Content, doc *Doc, verdict *xvm.Verdict) *Package {
	b := newBuilder(env, release, a, content, doc, verdict)
	b.checkManifest()
	b.findBlocks()
	b.addMembers()
	b.addPlain()
	b.addDisks()
	b.addJoined()
	b.checkPinned()
	p := &Package{
		shared: b.shared, env: env, archive: a, content: content, doc: doc, blocks: b.set.Blocks,
		files: b.files, joined: b.joined, learned: b.learned, identity: b.identity, warnings: b.warnings,
	}
	for name := range p.files {
		p.names = append(p.names, name)
	}
	slices.Sort(p.names)
	return p
}

// offer gives a sidecar that has been read to those that will want it soon, and
// tells of what is amiss with it.
func (p *Package) offer(sc foundSidecar) {
	if sc.warning != "" {
		p.warnings = append(p.warnings, sc.warning)
		p.env.Images.Log.Warn(sc.warning, "release", p.shared.release.Name)
	}
	if sc.list != nil {
		p.blocks.Offer(sc.list)
	}
}

// Prepare does what a listing wants done before it shows the package. It reads the
// block list if that has come already, finds sizes, and makes the disk of partition
// images.
func (p *Package) Prepare(ctx context.Context) {
	p.logFaults()
	p.earlyBlocks(ctx)
	files := make([]*File, 0, len(p.names))
	for _, name := range p.names {
		files = append(files, p.files[name])
	}
	if p.shared.refusal() == "" {
		p.large = findSizes(ctx, files, p.learned, p.env.Images.Log)
	}
	p.findJoined(ctx)
	p.archive.DropHead()
}

// Opened begins what may go on behind the open of a file: members are inflated to find
// their sizes, so that the directory lists the plain names. A listing does not begin it.
// It comes after Prepare.
func (p *Package) Opened() {
	if len(p.large) == 0 {
		return
	}
	p.finished.Do(func() {
		p.env.Images.Go(func(ctx context.Context) {
			findRest(ctx, p.large, p.env.Images.Log, p.shared.release.Changed)
			p.findJoined(ctx)
		})
	})
}

// earlyBlocks reads a block list that has come with the archive's first bytes.
func (p *Package) earlyBlocks(ctx context.Context) {
	if p.blocks == nil {
		return
	}
	for _, m := range p.doc.Index.Members {
		if m.Name == xvm.BlockListName && m.Offset+m.Stored <= p.archive.Reach() && p.blocks.Hold(ctx) == nil {
			p.blocks.LetGo() // an error is told to whoever opens an image
		}
	}
}

// findJoined looks at the images that may be partitions, unless nothing of the
// package is served.
func (p *Package) findJoined(ctx context.Context) {
	if p.joined == nil || p.shared.refusal() != "" {
		return
	}
	atOnce, behind := p.joined.wanted()
	switch {
	case atOnce:
		p.joined.find(ctx)
	case behind:
		p.env.Images.Go(func(ctx context.Context) {
			p.joined.find(ctx)
			p.shared.release.Changed()
		})
	}
}

// Files lists the files whose size is known, sorted by name.
func (p *Package) Files() []*File {
	return slices.DeleteFunc(p.All(), func(f *File) bool { return f.Size() == store.Unknown })
}

// All lists every file, also those whose size is not known yet, sorted by name.
// A disk made of partition images is listed once it is known that there is one.
func (p *Package) All() []*File {
	files := make([]*File, 0, len(p.names)+1)
	for _, name := range p.names {
		if f := p.files[name]; f.origin != partly || f.Size() != store.Unknown {
			files = append(files, f)
		}
	}
	if f := p.notes(); f != nil {
		at, _ := slices.BinarySearchFunc(files, f.name, func(f *File, name string) int { return strings.Compare(f.name, name) })
		files = slices.Insert(files, at, f)
	}
	return files
}

// Lookup finds a file by its name; fs.ErrNotExist: there is none. It waits until
// the size of the file is found, if that is not known.
func (p *Package) Lookup(ctx context.Context, name string) (*File, error) {
	f := p.File(name)
	if f == nil {
		return nil, fs.ErrNotExist
	}
	if f.Size() != store.Unknown {
		return f, nil
	}
	ctx, stop := p.shared.release.Patience(ctx)
	defer stop()
	if _, err := f.content.FindSize(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, err
	}
	return f, nil
}

// notesName is the file that shows the item's description, unless the package
// has a file of that name. It is as the feed has it now.
const notesName = "notes.html"

// notes is that file; nil if there is none.
func (p *Package) notes() *File {
	item := p.shared.release.Item()
	if left := p.shared.release.Left(); !left.IsZero() {
		item.NotesHTML = fmt.Sprintf("<p>Withdrawn: the feed has dropped this release by %s.</p>\n", left.UTC().Format(time.DateOnly)) + item.NotesHTML
	}
	if item.NotesHTML == "" || p.files[notesName] != nil {
		return nil
	}
	return &File{
		shared: p.shared, name: notesName, modTime: item.Published, origin: ofFeed,
		key:     p.identity.key("notes", item.NotesHTML, item.Published.String()),
		content: &small{label: p.shared.label(notesName), content: []byte(item.NotesHTML), state: store.Unverified},
	}
}

// Keep has the document kept elsewhere too, from now on.
func (p *Package) Keep(keep Elsewhere) {
	p.shared.release.Record.KeepBy(keep)
	p.learned.keep()
}

// Keys are the files of the cache that the package is read from: images, of which
// data is what guests read, and lists that they cannot be opened without.
func (p *Package) Keys() (images, lists []store.Key) {
	for name, f := range p.files {
		switch im := f.image(); {
		case im == nil:
		case name == xvm.BlockListName:
			lists = append(lists, im.Key())
		default:
			images = append(images, im.Key())
		}
	}
	if key := p.archive.PiecesKey(); key != "" && len(p.doc.Small) > 0 {
		lists = append(lists, key)
	}
	if d := p.doc.Sidecar; d != nil {
		lists = append(lists, sidecarKey(d.From, d.Identity))
	}
	return images, lists
}

// File is a file by its name, whether its size is known or not; nil: there is none.
func (p *Package) File(name string) *File {
	if f := p.files[name]; f != nil || name != notesName {
		return f
	}
	return p.notes()
}

// Is tells what package it is, and with what it is read: its files are the same for
// as long as that is.
func (p *Package) Is() store.Key {
	if p.blocks == nil {
		return p.identity.key("package")
	}
	return p.identity.key("package", p.blocks.ID)
}

// Bytes is about what the package takes in memory.
func (p *Package) Bytes() int64 {
	const fixed, each = 8 << 10, 1 << 10
	n := int64(fixed) + each*int64(len(p.names)+len(p.doc.Index.Members)+len(p.doc.Index.Hidden))
	for _, content := range p.doc.Meta {
		n += 2 * int64(len(content)) // a part of it is parsed
	}
	return n
}

// Verdict is who vouches for the package, and for which of its files.
func (p *Package) Verdict() *xvm.Verdict { return p.shared.verdict() }

// Refusal says why nothing of the package is served, or "".
func (p *Package) Refusal() string { return p.shared.refusal() }

// Archive is what the package was read from.
func (p *Package) Archive() *archive.Archive { return p.archive }

// Transport says how its bytes come, see archive.Content.
func (p *Package) Transport() string { return p.content.Transport() }

// Index is the archive's index; nobody may write to it.
func (p *Package) Index() *xvm.Index { return p.doc.Index }

// Faults are what is wrong with the archive and its manifest, and the entries
// that are not shown, and why.
func (p *Package) Faults() (warnings, hidden []string) {
	warnings = p.warnings
	if why := p.doc.Index.Truncated; why != "" {
		warnings = append(warnings[:len(warnings):len(warnings)], "the archive is not whole: "+why)
	}
	for _, h := range p.doc.Index.Hidden {
		hidden = append(hidden, h.Name+": "+h.Reason)
	}
	return warnings, hidden
}

// logFaults says them once, the first few of each.
func (p *Package) logFaults() {
	const most = 10
	warnings, hidden := p.Faults()
	log := p.env.Images.Log.With("release", p.shared.release.Name)
	for _, w := range warnings[:min(most, len(warnings))] {
		log.Warn("package: " + w)
	}
	for _, h := range hidden[:min(most, len(hidden))] {
		log.Warn("package: an entry is not shown: " + h)
	}
}
