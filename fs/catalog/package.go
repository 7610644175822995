package catalog

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// Package is one indexed archive: one generation of a release. It is safe for
// any number of goroutines.
//
// Lock order: mu is a leaf; it is never held over I/O.
type Package struct {
	cat      *Catalog
	release  *Release
	archive  *archive.Archive
	content  archive.Content // what the members are cut from
	doc      *packageDoc
	manifest *xvm.Manifest // nil: the package has none
	// manifestSum is the SHA-256 of the manifest; "": there is none.
	manifestSum string
	verdict     *xvm.Verdict
	blocks      *image.BlockSums // nil: there is no block list
	images      *image.Set
	warnings    []string
	byName      map[string]*File
	names       []string // sorted
	identity    []string // what the keys of its files are made of

	joined *joined // nil: no image may be that of a partition

	mu    sync.Mutex
	sizes map[string]int64     // guarded by mu; plain sizes learned, as persisted in doc.Sizes
	kinds map[string]seenImage // guarded by mu; what images begin with, as persisted in doc.Kinds
}

// packageDoc is what is kept on disk of a package, so that it is walked once.
type packageDoc struct {
	Version  int
	Identity remote.Identity
	Index    *xvm.Index
	Meta     map[string][]byte    // whole content of the members that describe the others
	Sizes    map[string]int64     // proven plain sizes of compressed members, by plain name
	Kinds    map[string]seenImage `json:",omitempty"` // what images begin with, of those that were looked at
	Sidecar  *sidecarDoc          // nil: there is none, or its place was not named
	Inflate  seekable.Format      `json:",omitempty"` // of an archive compressed as a whole, which Index is of the plain content of
	Stored   int64                `json:",omitempty"` // bytes of that archive
}

// packageDocVersion is that of the form. Version 2 has the same form, but what it
// says of plain content may come from a gzip decoder that was wrong.
const packageDocVersion = 3

// forgetInflated makes a document of version 2 one of version 3.
func (d *packageDoc) forgetInflated() {
	d.Version, d.Sizes, d.Kinds = packageDocVersion, nil, nil
	if d.Inflate != "" {
		d.Sidecar = nil
	}
}

// newPackage joins what was read of the archive and the verdict on it. It does
// no I/O.
func newPackage(r *Release, a *archive.Archive, content archive.Content, doc *packageDoc, verdict *xvm.Verdict) (*Package, error) {
	p := &Package{
		cat: r.cat, release: r, archive: a, content: content, doc: doc,
		verdict: verdict, manifest: verdict.Sums, manifestSum: verdict.ManifestSum,
		byName: make(map[string]*File), sizes: doc.Sizes, kinds: doc.Kinds,
	}
	if p.sizes == nil {
		p.sizes = make(map[string]int64)
	}
	if m := p.manifest; m != nil {
		p.warnings = append(p.warnings, m.Warnings()...)
		p.warnings = append(p.warnings, p.missing(m)...)
	}
	if p.blocks = p.sidecarBlocks(); p.blocks == nil {
		p.blocks = p.ownBlocks()
	}
	p.images = p.imageSet()

	disks, chunk, err := xvm.XVADisks(doc.Index, doc.Meta[xvm.XVAName])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", xvm.ErrNotPackage, err)
	}

	identity := []string{feed.URLKey(r.item.URL), doc.Identity.ETag, doc.Identity.LastModified, fmt.Sprint(doc.Identity.Size), p.manifestSum}
	for i := range doc.Index.Members {
		m := doc.Index.Members[i]
		if chunk != nil && chunk(m.Name) {
			continue
		}
		f := &File{pkg: p, name: m.Name, size: m.Size, modTime: m.ModTime, member: true}
		f.identify(identity, "member", m.Name)
		if content, ok := doc.Meta[m.Name]; ok {
			f.content = content
			f.checkContent()
		} else {
			from, data := archive.Member(p.content, m)
			f.image = image.New(p.images, p.imageMember(f, image.Member{Source: from, Data: data}), nil)
		}
		p.byName[m.Name] = f
	}
	for _, m := range doc.Index.Members {
		format, plain := seekable.PlainName(m.Name)
		if format == "" || strings.HasSuffix(plain, "/") || p.byName[plain] != nil || p.byName[m.Name].image == nil {
			continue
		}
		f := &File{pkg: p, name: plain, size: store.Unknown, modTime: m.ModTime, stored: p.byName[m.Name]}
		f.identify(identity, plainKey, plain)
		if p.manifest != nil {
			if told, ok := p.manifest.Plain(plain); ok {
				f.size = told.Size
			}
		}
		if n, ok := p.sizes[plain]; ok && f.size == store.Unknown {
			f.size = n
		}
		f.image = image.New(p.images, p.imageMember(f, image.Member{Format: format}), f.stored.image)
		p.byName[plain] = f
	}
	p.addXVA(disks, identity)
	p.addJoined(disks, identity)
	p.markSigned()
	if p.unpinned() {
		p.warnings = append(p.warnings, p.unpinnedWarning())
	}
	for name := range p.byName {
		p.names = append(p.names, name)
	}
	slices.Sort(p.names)
	p.identity = identity
	return p, nil
}

// notesName is the file that shows the item's description, unless the package
// has a file of that name. It is as the feed has it now.
const notesName = "notes.html"

// notes is that file; nil if there is none.
func (p *Package) notes() *File {
	item := p.release.Item()
	if item.NotesHTML == "" || p.byName[notesName] != nil {
		return nil
	}
	return &File{
		pkg: p, name: notesName, size: int64(len(item.NotesHTML)), modTime: item.Published, content: []byte(item.NotesHTML),
		key:   archive.Key(append(p.identity[:len(p.identity):len(p.identity)], "notes", item.NotesHTML, item.Published.String())...),
		state: store.Unverified, fromFeed: true,
	}
}

// unpinnedWarning tells what comes of a server without validators. The files
// are there already.
func (p *Package) unpinnedWarning() string {
	var loose []string
	for name, f := range p.byName {
		if f.image != nil && !f.image.Summed() {
			loose = append(loose, name)
		}
	}
	text := "its server sends neither an ETag nor a date, so only sums notice an archive of the same size that takes its place"
	if len(loose) > 0 {
		slices.Sort(loose)
		more := ""
		if n := len(loose) - 3; n > 0 {
			loose, more = loose[:3], fmt.Sprintf(" and %d more", n)
		}
		return text + fmt.Sprintf("; NOTHING DOES for %q%s: what is read of them may be of several versions", loose, more)
	}
	if p.blocks == nil {
		text += ": each image is checked whole before its first byte is served; with a block list (vmcastfs pack, vmcastfs index) each block is"
	}
	return text
}

// missing warns of what the manifest lists and the archive lacks (S1).
func (p *Package) missing(m *xvm.Manifest) []string {
	have := make(map[string]bool, len(p.doc.Index.Members))
	for _, member := range p.doc.Index.Members {
		have[member.Name] = true
		if _, plain := seekable.PlainName(member.Name); plain != member.Name {
			have[plain] = true
		}
	}
	var absent []string
	for _, name := range m.Names() {
		if !have[name] {
			absent = append(absent, fmt.Sprintf("the manifest lists %q, which is not in the archive", name))
		}
	}
	return absent
}

// Files lists the files whose size is known, sorted by name.
func (p *Package) Files() []*File {
	return slices.DeleteFunc(p.All(), func(f *File) bool { return f.Size() == store.Unknown })
}

// All lists every file, also those whose size is not known yet, sorted by name.
func (p *Package) All() []*File {
	files := make([]*File, 0, len(p.names)+1)
	for _, name := range p.names {
		if f := p.byName[name]; f.joined == nil || f.Size() != store.Unknown {
			files = append(files, f)
		}
	}
	if f := p.notes(); f != nil {
		at, _ := slices.BinarySearchFunc(files, f.name, func(f *File, name string) int { return strings.Compare(f.name, name) })
		files = slices.Insert(files, at, f)
	}
	return files
}

// Lookup finds a file by its name. For the plain content of a compressed
// member whose size nothing tells, and for the disk made of partition images, it
// waits until the size is found.
func (p *Package) Lookup(ctx context.Context, name string) (*File, error) {
	f := p.byName[name]
	if f == nil && name == notesName {
		f = p.notes()
	}
	if f == nil {
		return nil, fs.ErrNotExist
	}
	if f.Size() == store.Unknown {
		ctx, stop := p.release.patience(ctx)
		defer stop()
		find := f.findSize
		if _, err := find(ctx); err != nil {
			if context.Cause(ctx) == errDown {
				err = fmt.Errorf("%w: %w", errDown, err)
			}
			return nil, err
		}
	}
	return f, nil
}

// Warnings are things worth knowing about the archive and its manifest.
func (p *Package) Warnings() []string { return p.warnings }

// Verdict is who vouches for the package, and for which of its files.
func (p *Package) Verdict() *xvm.Verdict { return p.verdict }

// Index is the archive's index; nobody may write to it.
func (p *Package) Index() *xvm.Index { return p.doc.Index }

// Meta returns the content of a member that describes the others.
func (p *Package) Meta(name string) ([]byte, bool) {
	b, ok := p.doc.Meta[name]
	return b, ok
}

// learnSize keeps a proven plain size, on disk too.
func (p *Package) learnSize(name string, size int64) {
	p.mu.Lock()
	known, ok := p.sizes[name]
	if !ok {
		p.sizes = maps.Clone(p.sizes)
		p.sizes[name] = size
	}
	p.mu.Unlock()
	if !ok || known != size {
		p.saveLearned()
	}
}

// learnKinds keeps what images begin with, on disk too.
func (p *Package) learnKinds(kinds map[string]seenImage) {
	p.mu.Lock()
	p.kinds = kinds
	p.mu.Unlock()
	p.saveLearned()
}

func (p *Package) saveLearned() {
	doc := *p.doc
	p.mu.Lock()
	doc.Sizes, doc.Kinds = p.sizes, p.kinds
	p.mu.Unlock()
	p.cat.saveDoc(kindPackage, p.release.docName(), &doc)
}

// modTimeOr is t, or what stands in for an unknown time.
func modTimeOr(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// Size is that of the archive in bytes.
func (p *Package) Size() int64 { return p.doc.Index.Size }

// profile is the one in the package, or else in its sidecar. It is a hint: a
// wrong one costs something, but has no say in what is right.
func (p *Package) profile() []xvm.ProfileRead {
	var text []byte
	if f := p.byName[xvm.ProfileName]; f != nil && f.content != nil && f.state != store.Corrupt && f.standing().Refused == "" {
		text = f.content
	} else if p.doc.Sidecar != nil {
		text = p.doc.Sidecar.Profile
	}
	if text == nil {
		return nil
	}
	reads, err := xvm.ParseProfile(text)
	if err != nil {
		p.cat.cfg.Logger.Warn("the boot profile of a package is not used", "release", p.release.Name(), "err", err)
	}
	return reads
}

// addXVA shows the disks of an XVA archive as files.
func (p *Package) addXVA(disks []xvm.XVADisk, identity []string) {
	for _, d := range disks {
		if p.byName[d.Name] != nil {
			p.warnings = append(p.warnings, fmt.Sprintf("%s of the archive is not shown: another file is called %s", d.Ref, d.Name))
			continue
		}
		f := &File{pkg: p, name: d.Name, size: d.Size}
		f.identify(identity, "xva", d.Ref)
		f.image = image.New(p.images, p.imageMember(f, image.Member{Chunks: &d}), nil)
		p.byName[d.Name] = f
	}
}

// unpinned tells whether the archive's length is all that its server says of
// which version it is.
func (p *Package) unpinned() bool { return !p.doc.Identity.Pinned() }

// imageSet is what the package's images have in common.
func (p *Package) imageSet() *image.Set {
	return &image.Set{
		Env: p.cat.images, Release: p.release.Name(), Content: p.content, Pinned: !p.unpinned(), Blocks: p.blocks,
		Profile:   p.profile,
		SizeFound: p.learnSize,
		Corrupt:   func(name string) { p.cat.noteCorrupt(p.byName[name]) },
	}
}

// imageMember completes what an image is made of by what the package says of it.
func (p *Package) imageMember(f *File, m image.Member) image.Member {
	m.Name, m.Key, m.Bare, m.Size = f.name, f.key, f.bare, f.size
	if p.manifest != nil {
		for _, s := range p.manifest.Sums(f.name) {
			m.Sums = append(m.Sums, cache.Sum(s))
		}
		if told, ok := p.manifest.Plain(f.name); ok {
			for _, s := range told.Any {
				m.PlainSums = append(m.PlainSums, cache.Sum(s))
			}
		}
	}
	m.ListOnly = p.cat.cfg.RequireSigned && f.standing().By == xvm.BySidecar
	return m
}
