package bundle

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// builder makes the files of a package, step by step. It is for one goroutine.
type builder struct {
	env     *Env
	archive *archive.Archive
	shared  *shared
	doc     *Doc
	verdict *xvm.Verdict
	learned *learned
	// described is what the description says, if there is one that can be read.
	described xvm.Description
	identity  identity
	unlisted  *image.Set // without a block list
	set       *image.Set // with it, if there is one
	list      *File      // the package's own block list, if it is used
	files     map[string]*File
	joined    *joined
	warnings  []string
}

func newBuilder(env *Env, release Release, a *archive.Archive, content archive.Content, doc *Doc, verdict *xvm.Verdict) *builder {
	b := &builder{
		env: env, archive: a, doc: doc, verdict: verdict,
		learned: newLearned(doc, release.Record.save), files: make(map[string]*File),
		identity: identity{release.Key, doc.Identity.ETag, doc.Identity.LastModified, fmt.Sprint(doc.Identity.Size), cmp.Or(verdict.ManifestSum, doc.SHA256)},
	}
	if a.Hearsay() { // nothing of it is taken for what the server gives later
		b.identity = append(b.identity, "by a mirror")
		b.learned.save = func(*Doc) {}
	}
	b.shared = &shared{
		release: release, policy: env.Policy,
		judge: func() (*xvm.Verdict, error) { return judge(doc, env.Policy(), release.ID) },
	}
	b.shared.ruling.Store(verdict)
	files := b.files // complete before any image is used
	pinned := func() bool { return doc.Identity.Pinned() && !b.archive.Unlabelled() }
	b.unlisted = &image.Set{
		Env: env.Images, Release: release.Name, Origin: archive.Origin(release.Item().URL), Content: content, Pinned: pinned,
		Mirrored: content.Mirrored(), Index: "vmcastfs index " + show.URL(release.Item().URL),
		Profile:   func() []xvm.ProfileRead { return profile(files, doc, env.Images) },
		Older:     release.Older,
		SizeFound: b.learned.size,
		Corrupt: func(name string) {
			tellCorrupt(release, files, files[name])
			if !pinned() { // nothing else would tell that it is another archive
				env.Images.Go(func(context.Context) { release.Replaced() })
			} else if name == xvm.BlockListName {
				env.Images.Go(func(context.Context) { b.contradicted() })
			}
		},
		Mismatch: func(string) { b.contradicted() },
		Withdrawn: func(name string) {
			madeOf(files, files[name], func(g *File) { release.Withdrawn(g.Inode()) })
		},
	}
	b.set = b.unlisted
	if raw, ok := doc.Meta[verdict.DescribedBy()]; ok {
		if d, err := xvm.ParseDescription(raw); err == nil {
			b.described = *d
		}
	}
	return b
}

// maxWholeFirst is up to what size a member is checked whole before its first
// byte is served, where signatures are required. What a guest reads at once, such
// as a kernel, must not be read before it is checked.
const maxWholeFirst = 64 << 20

// wholeFirst tells whether a member is checked whole first: one that is small, or
// no disk image. Partition images of the draft (imagefile2) have no suffix.
func wholeFirst(name string, size int64, d xvm.Description) bool {
	return size <= maxWholeFirst || !isDisk(name, d)
}

// isDisk tells whether a member, or its plain content, is a disk image, by the
// description and by its name.
func isDisk(name string, d xvm.Description) bool {
	_, plain := seekable.PlainName(name)
	switch {
	case name == d.Kernel || name == d.Ramdisk:
		return false
	case slices.ContainsFunc(d.Drives, func(v xvm.Drive) bool { return v.File == name || v.File == plain }):
		return true
	}
	return !xvm.NoDisk(plain) && (path.Ext(plain) == "" || archive.HasDiskSuffix(plain))
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// checkManifest warns of what the manifest lists and the archive lacks.
func (b *builder) checkManifest() {
	m := b.verdict.Sums
	if m == nil {
		return
	}
	b.warnings = append(b.warnings, m.Warnings()...)
	for _, name := range b.doc.Index.Missing(m.Names()) {
		b.warn("the manifest lists %q, which is not in the archive", name)
	}
}

// findBlocks finds what the images are checked against block by block: the list of
// a sidecar, or else that of the package.
func (b *builder) findBlocks() {
	if d := b.doc.Sidecar; d != nil {
		b.use(sidecarBlocks(b.env, b.shared.release, d))
		return
	}
	use, why := b.verdict.OwnBlockList()
	if why != "" {
		b.warn("%s is not used: %s", xvm.BlockListName, why)
	}
	for _, m := range b.doc.Index.Members {
		if use && m.Name == xvm.BlockListName {
			b.list = b.member(m)
			b.use(ownBlocks(b.env, b.shared.label(m.Name), b.unlisted.Origin, b.list.image(), b.verdict.Sums, b.learned))
		}
	}
}

func (b *builder) use(blocks *image.BlockSums) {
	set := *b.unlisted
	set.Blocks = blocks
	b.set = &set
}

// addMembers shows the members as they are stored, but for chunks of disks.
func (b *builder) addMembers() {
	for _, m := range b.doc.Index.Members {
		switch {
		case b.verdict.IsChunk(m.Name):
		case m.Name == xvm.BlockListName && b.list != nil:
			b.files[m.Name] = b.list
		default:
			b.files[m.Name] = b.member(m)
		}
	}
}

func (b *builder) member(m xvm.Member) *File {
	f := &File{shared: b.shared, name: m.Name, modTime: m.ModTime, origin: stored}
	if content, ok := b.doc.Meta[m.Name]; ok {
		f.content = newSmall(b.shared.label(m.Name), m.Name, content, b.verdict.Sums)
		f.key, _ = b.keys("member", m.Name)
		return f
	}
	if seen, ok := b.doc.Small[m.Name]; ok {
		s := &small{label: b.shared.label(m.Name), from: &fetched{pieces: b.pieces(), archive: b.set.Content, off: m.Offset, size: m.Size, sum: seen.SHA256}}
		s.judge(seen, b.verdict.Sums)
		f.content = s
		f.key, _ = b.keys("member", m.Name)
		return f
	}
	from, data := archive.Member(b.set.Content, m)
	proven, _ := archive.Member(b.set.Content.Proven(), m)
	if m.Name == xvm.BlockListName {
		from = proven // nothing of it is believed before the whole has matched
	}
	b.image(f, image.Member{Size: m.Size, Source: from, Proven: proven, Data: data}, nil, "member", m.Name)
	return f
}

// pieces is what small files are cut from.
func (b *builder) pieces() archive.Content {
	if a, ok := b.set.Content.(*archive.Archive); ok {
		return a.Pieces()
	}
	return b.set.Content
}

// addPlain shows the plain content of compressed members.
func (b *builder) addPlain() {
	for plain, m := range b.doc.Index.Inflated() {
		stored := b.files[m.Name]
		if stored == nil || stored.image() == nil {
			continue
		}
		format, _ := seekable.PlainName(m.Name)
		f := &File{shared: b.shared, name: plain, modTime: m.ModTime, origin: inflated, base: m.Name}
		b.image(f, image.Member{Size: b.plainSize(plain), Format: format}, stored.image(), plainKey, plain)
		b.files[plain] = f
	}
}

// plainSize is what is known of the size of plain content.
func (b *builder) plainSize(name string) int64 {
	if m := b.verdict.Sums; m != nil {
		if told, ok := m.Plain(name); ok && told.Size != store.Unknown {
			return told.Size
		}
	}
	if n, ok := b.doc.Sizes[name]; ok {
		return n
	}
	return store.Unknown
}

// addDisks shows the disks of an XVA archive.
func (b *builder) addDisks() {
	for _, d := range b.verdict.Disks {
		if b.files[d.Name] != nil {
			b.warn("%s of the archive is not shown: another file is called %s", d.Ref, d.Name)
			continue
		}
		f := &File{shared: b.shared, name: d.Name, origin: chunked}
		b.image(f, image.Member{Size: d.Size, Chunks: &d}, nil, "xva", d.Ref)
		b.files[d.Name] = f
	}
}

// keys is the key of a file, which kind and name tell from the others, and what it
// would be without a block list.
func (b *builder) keys(kind, name string) (key, bare store.Key) {
	key = b.identity.key(kind, name)
	if b.set.Blocks != nil && name != xvm.BlockListName {
		return b.identity.key(kind, name, "blocks", b.set.Blocks.ID), key
	}
	return key, key
}

// image makes f an image, which kind and name tell from the others.
func (b *builder) image(f *File, m image.Member, base *image.Image, kind, name string) {
	m.Name = f.name
	m.Key, m.Bare = b.keys(kind, name)
	f.key, f.bare = m.Key, m.Bare
	if manifest := b.verdict.Sums; manifest != nil {
		if f.origin == stored { // the manifest lists members as they are stored
			m.Sums = manifest.Sums(f.name)
		}
		if told, ok := manifest.Plain(f.name); ok {
			m.PlainSums = told.Any
		}
	}
	if b.doc.SHA256 != "" && f.origin == stored {
		f.claimed = b.doc.SHA256
		m.Sums = []sums.Sum{{Algo: sums.SHA256, Hex: f.claimed}}
	}
	required := func() bool { return b.env.Policy().Required }
	m.ListOnly = func() bool { return required() && f.Standing().By == xvm.BySidecar }
	if f.origin == stored && wholeFirst(f.name, m.Size, b.described) {
		m.WholeFirst = required
	}
	f.noDisk = !isDisk(f.name, b.described)
	set := b.set
	if name == xvm.BlockListName {
		set = b.unlisted // it is not checked against itself
	}
	f.content = image.New(set, m, base)
}

// addJoined shows images of partitions as one disk, unless a file has its name.
func (b *builder) addJoined() {
	if b.files[joinedName] != nil {
		return
	}
	seed := fmt.Sprint(b.verdict.ManifestSum, " ", b.doc.Index.Size)
	log := b.env.Images.Log.With("release", b.shared.release.Name)
	parts := candidates(b.described, b.doc.Index.Members, b.verdict.Disks, b.files, b.mayBeTrusted)
	b.joined = newJoined(b.shared.label(joinedName), log, seed, parts, b.learned)
	if b.joined != nil {
		b.files[joinedName] = &File{shared: b.shared, name: joinedName, origin: partly, key: b.identity.key("joined 1"), content: b.joined}
	}
}

// mayBeTrusted tells whether somebody could vouch for a file, with whatever keys:
// an image that nobody lists is not looked at where signatures are required.
func (b *builder) mayBeTrusted(f *File) bool {
	if !b.env.Policy().Required || b.verdict.UsesSidecar() {
		return true
	}
	switch f.origin {
	case stored:
		return b.verdict.Lists(f.name)
	case inflated:
		return b.verdict.Lists(f.base)
	}
	return false
}

// checkPinned tells what comes of a server without validators.
func (b *builder) checkPinned() {
	if b.set.Pinned() {
		return
	}
	var loose []string
	for name, f := range b.files {
		if im := f.image(); im != nil && !im.Summed() {
			loose = append(loose, name)
		}
	}
	const text = "its server sends neither an ETag nor a date, so only sums notice an archive of the same size that takes its place"
	switch {
	case len(loose) > 0:
		slices.Sort(loose)
		more := ""
		if n := len(loose) - 3; n > 0 {
			loose, more = loose[:3], fmt.Sprintf(" and %d more", n)
		}
		b.warn("%s; NOTHING DOES for %q%s: what is read of them may be of several versions", text, loose, more)
	case b.set.Blocks == nil:
		b.warn("%s: each image is checked whole before its first byte is served; with a block list (vmcastfs pack, vmcastfs index) each block is", text)
	default:
		b.warn("%s", text)
	}
}

// profile is the boot profile in the package, or else in its sidecar. It is a
// hint: a wrong one costs something, but has no say in what is right.
func profile(files map[string]*File, doc *Doc, env image.Env) []xvm.ProfileRead {
	var text []byte
	if f := files[xvm.ProfileName]; f != nil && f.Standing().Refused == "" {
		if s, ok := f.content.(*small); ok && s.state != store.Corrupt {
			text = s.content
		}
	}
	if text == nil && doc.Sidecar != nil {
		text = doc.Sidecar.Profile
	}
	if text == nil {
		return nil
	}
	reads, err := xvm.ParseProfile(text)
	if err != nil {
		env.Log.Warn("the boot profile of a package is not used", "err", err)
	}
	return reads
}
