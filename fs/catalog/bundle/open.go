package bundle

import (
	"context"
	"fmt"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm/seekable"
)

// Progress is told how [Open] gets on.
type Progress struct {
	Long   func()                // it is going to take long
	Taking func(archive.Content) // this is being taken whole
	// Inflate is asked before an archive that is compressed as a whole is inflated to
	// its end. An error is that of Open.
	Inflate func() error
}

// opening is one call of Open.
type opening struct {
	env      *Env
	release  Release
	place    archive.Place
	progress Progress
}

// Open finds the package of a release by what is kept of it on disk, or else from
// its enclosure. Asked: the server of the enclosure was asked.
func Open(ctx context.Context, env *Env, release Release, place archive.Place, progress Progress) (p *Package, asked bool, err error) {
	o := opening{env, release, place, progress}
	// A feed that gives a disk image another digest than before means another image.
	if doc := release.Record.load(); doc != nil && (doc.SHA256 == "" || doc.SHA256 == release.Item().SHA256) {
		p, err = o.resume(ctx, doc)
		return p, false, err
	}
	p, err = o.read(ctx)
	return p, true, err
}

// resume opens the package that a document is of, without asking its server.
func (o opening) resume(ctx context.Context, doc *Doc) (*Package, error) {
	a := archive.Resume(o.env.Archives, o.place, doc.Identity)
	content := a.Content()
	if doc.Inflate != "" {
		content = a.Inflated(doc.Inflate, doc.Stored, doc.Index.Size)
	}
	sidecar, noneAt := doc.Sidecar, doc.NoneAt
	p, err := o.join(ctx, a, content, doc)
	if err == nil && (doc.Sidecar != sidecar || doc.NoneAt != noneAt) {
		o.release.Record.save(doc)
	}
	return p, err
}

// read indexes the enclosure.
func (o opening) read(ctx context.Context) (*Package, error) {
	a, err := archive.Open(ctx, o.env.Archives, o.place)
	if err != nil {
		return nil, err
	}
	stored := a.Content()
	if err := stored.Acquire(); err != nil {
		return nil, err
	}
	defer stored.Release()
	if !a.Identity().Ranged {
		o.progress.Long()
		o.progress.Taking(stored)
	}
	doc, content, err := o.readEnclosure(ctx, a, stored)
	if err != nil {
		return nil, err
	}
	doc.Identity = a.Identity()
	p, err := o.join(ctx, a, content, doc)
	if err == nil && a.Strange() {
		if err = p.proven(ctx); err != nil {
			err = fmt.Errorf("%w while it was read: %w", remote.ErrChanged, err)
		}
	}
	if err == nil && a.Hearsay() {
		if p.Verdict().By == "" || p.blocks == nil {
			o.env.Images.Log.Warn("no signed block list vouches for what a mirror says of the archive: its server is waited for", "release", o.release.Name)
			return o.read(remote.AtOrigin(ctx))
		}
		return p, nil // which is not kept: the server may say otherwise
	}
	if err != nil {
		return nil, err
	}
	o.release.Record.save(doc)
	return p, nil
}

// join makes the package, with its sidecar if there is one.
func (o opening) join(ctx context.Context, a *archive.Archive, content archive.Content, doc *Doc) (*Package, error) {
	sidecar, err := findSidecar(ctx, o.env, doc, SidecarURLs(o.env.Sidecar, o.place.URL(), o.release.Item().SHA256), o.release.ID)
	if err != nil {
		return nil, err
	}
	doc.Sidecar, doc.NoneAt = sidecar.doc, sidecar.noneAt
	verdict, err := judge(doc, o.env.Policy(), o.release.ID)
	if err != nil {
		return nil, err
	}
	p := newPackage(o.env, o.release, a, content, doc, verdict)
	p.offer(sidecar)
	return p, nil
}

// readEnclosure indexes an enclosure, whatever it is. For a compressed archive it
// returns the inflated one, which takes the place of stored. The caller holds
// stored.
func (o opening) readEnclosure(ctx context.Context, a *archive.Archive, stored archive.Content) (*Doc, archive.Content, error) {
	size, err := stored.Size(ctx)
	if err != nil {
		return nil, nil, err
	}
	enc, err := archive.Recognize(ctx, stored, size, o.place.URL(), o.env.Archives.Memory)
	switch {
	case err != nil:
		return nil, nil, err
	case enc.Bare != "":
		return bareDoc(enc.Bare, size, o.release.Item().SHA256), stored, nil
	case enc.Inflate != "":
		if err := o.progress.Inflate(); err != nil {
			return nil, nil, err
		}
		o.progress.Long()
		return o.readInflated(ctx, a, enc.Inflate, size)
	}
	if !a.Identity().Ranged {
		doc, err := readDoc(ctx, stored, size, o.progress.Long)
		return doc, stored, err
	}
	a.PrefetchTail(ctx)
	from, done := a.Dense()
	defer done()
	doc, err := readDoc(ctx, from, size, o.progress.Long)
	return doc, stored, err
}

// readInflated indexes a compressed archive, which takes all of it: a listing of
// the release waits for that, so the log tells of it.
func (o opening) readInflated(ctx context.Context, a *archive.Archive, format seekable.Format, stored int64) (*Doc, archive.Content, error) {
	inflated := a.Inflated(format, stored, store.Unknown)
	if err := inflated.Acquire(); err != nil {
		return nil, nil, err
	}
	defer inflated.Release()
	o.progress.Taking(inflated)
	log := o.env.Images.Log.With("release", o.release.Name, "format", format, "stored", stored)
	log.Info("the archive is compressed as a whole: it is listed once it has been inflated")
	begun := time.Now()
	size, err := inflated.Size(ctx)
	if err != nil {
		return nil, nil, err
	}
	log.Info("the archive has been inflated", "size", size, "took", time.Since(begun).Round(time.Millisecond))
	doc, err := readDoc(ctx, inflated, size, func() {})
	if err != nil {
		return nil, nil, err
	}
	doc.Inflate, doc.Stored = format, stored
	return doc, inflated, nil
}
