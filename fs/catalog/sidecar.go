package catalog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// maxSidecar bounds a sidecar as it lies on its server.
const maxSidecar = 1 << 30

// sidecarDoc is what is kept of a package's sidecar, beside the package.
type sidecarDoc struct {
	From      string          // its URL
	Identity  remote.Identity // of what was read there
	Manifest  []byte          // what is signed
	Signature []byte          // nil: nothing is
	List      string          // SHA-256 of its block list
	Profile   []byte          `json:",omitempty"`
	Bytes     int64           // of memory that list and seek points take
}

// SidecarURL is where the sidecar of a package is looked for, or "". Where is
// Config.Sidecar: a directory (of this machine, or an address), in which it is
// called as the package is, with ".sidecar" behind; or one sidecar.
func SidecarURL(where, packageURL string) string {
	u, err := url.Parse(packageURL)
	if where == "" || err != nil {
		return ""
	}
	name := path.Base(u.Path)
	if name == "." || name == "/" {
		return ""
	}
	name += xvm.SidecarSuffix
	if strings.Contains(where, "://") {
		base, err := url.Parse(where)
		if err != nil {
			return ""
		}
		if strings.HasSuffix(base.Path, xvm.SidecarSuffix) {
			return where
		}
		return base.JoinPath(url.PathEscape(name)).String()
	}
	if info, err := os.Stat(where); err == nil && info.IsDir() {
		where = filepath.Join(where, name)
	}
	return (&url.URL{Scheme: "file", Path: where}).String()
}

// findSidecar brings doc.Sidecar up to date, and returns the sidecar itself if
// it had to be read. One that is not there, or not fit, is no error: the
// package is then read as any other, and warning says why; but one that cannot
// be had now is.
func (r *Release) findSidecar(ctx context.Context, doc *packageDoc) (sc *xvm.Sidecar, warning string, err error) {
	c := r.cat
	from := SidecarURL(c.cfg.Sidecar, r.URL())
	kept := doc.Sidecar
	doc.Sidecar = nil
	if from == "" {
		return nil, "", nil
	}
	verdict, err := r.judge(doc)
	if err != nil || !verdict.WantsSidecar() {
		return nil, "", nil // the error is told when the package is opened
	}
	if kept != nil && kept.From == from && archive.Unchanged(sidecarPlace(from), kept.Identity) {
		doc.Sidecar = kept
		if verdict, err := r.judge(doc); err == nil && verdict.UsesSidecar() {
			return nil, "", nil
		}
		doc.Sidecar = nil
	}
	a, err := archive.Open(ctx, c.archives, sidecarPlace(from))
	if errors.Is(err, remote.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("sidecar %s: %w", displayURL(from), err)
	}
	if sc, err = c.readSidecar(ctx, from, a); err == nil {
		err = sc.Compare(doc.Index, doc.Meta)
	}
	if err == nil && sc.Version == 1 && doc.Inflate != "" {
		err = fmt.Errorf("%w: it is of inflated content, and was made by an old version, which inflated some gzip streams wrongly: make it anew with vmcastfs index", xvm.ErrSidecar)
	}
	if err != nil && !errors.Is(err, xvm.ErrSidecar) {
		return nil, "", fmt.Errorf("sidecar %s: %w", displayURL(from), err)
	}
	if err != nil {
		return nil, fmt.Sprintf("the sidecar %s is not used: %v", displayURL(from), err), nil
	}
	d := &sidecarDoc{From: from, Identity: a.Identity(), Manifest: sc.Manifest, Signature: sc.Signature, Profile: sc.Profile, Bytes: sidecarBytes(sc)}
	if m, err := xvm.ParseManifest(xvm.SidecarManifest, sc.Manifest); err == nil {
		for _, s := range m.Sums(xvm.BlockListName) {
			if s.Algo == xvm.SHA256 {
				d.List = s.Hex
			}
		}
	}
	doc.Sidecar = d
	if verdict, err := r.judge(doc); err != nil || !verdict.UsesSidecar() {
		doc.Sidecar = nil
		return nil, fmt.Sprintf("the sidecar %s is not used: %s", displayURL(from), verdict.SidecarUnused), nil
	}
	return sc, unused(sc, from), nil
}

// unused warns of what an old sidecar has and is not used; "": nothing.
func unused(sc *xvm.Sidecar, from string) string {
	if len(sc.Unused) == 0 {
		return ""
	}
	names := fmt.Sprintf("%q", sc.Unused[:min(3, len(sc.Unused))])
	if n := len(sc.Unused) - 3; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the sidecar %s was made by an old version, which inflated some gzip streams wrongly: its blocks of the content of %s are not used; make it anew with vmcastfs index", displayURL(from), names)
}

// sidecarPlace is where a sidecar is. The operator named it, so the rules for
// what a feed may name do not bind it.
func sidecarPlace(from string) archive.Place {
	return archive.Place{Name: displayURL(from), URL: func() string { return from }, Key: feed.URLKey(from)}
}

// readSidecar reads a sidecar whole. That of a server comes through the cache,
// so that it is there again when its package is opened without the network.
func (c *Catalog) readSidecar(ctx context.Context, from string, a *archive.Archive) (*xvm.Sidecar, error) {
	id := a.Identity()
	if id.Size > maxSidecar {
		return nil, fmt.Errorf("%w: %d bytes exceed the limit of %d", xvm.ErrSidecar, id.Size, maxSidecar)
	}
	select { // one at a time: they take memory
	case c.sidecars <- struct{}{}:
		defer func() { <-c.sidecars }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if _, ok := archive.LocalPath(from); ok {
		body, err := a.Fetch(ctx, 0, id.Size, source.Demand)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		return xvm.ReadSidecar(bufio.NewReaderSize(body, 1<<20))
	}
	file, err := c.cfg.Cache.Open(cache.Spec{
		Key:   archive.Key("sidecar", feed.URLKey(from), id.ETag, id.LastModified, fmt.Sprint(id.Size)),
		Label: displayURL(from), Size: id.Size, Source: a.Whole(), Whole: true, MaxSize: maxSidecar,
	})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := &digestReader{r: io.NewSectionReader(archive.ReaderAt(ctx, file), 0, maxSidecar)}
	sc, err := xvm.ReadSidecar(bufio.NewReaderSize(in, 1<<20))
	if in.err != nil {
		return nil, in.err
	}
	return sc, err
}

// sidecarBytes is what a sidecar takes in memory.
func sidecarBytes(sc *xvm.Sidecar) int64 {
	n := int64(0)
	for _, ib := range sc.Blocks.Images() {
		n += 34 * ib.Blocks()
	}
	for _, points := range sc.Points {
		n += int64(len(points))
	}
	return n
}

// sidecarBlocks is the package's block list if a sidecar has it.
func (p *Package) sidecarBlocks() *image.BlockSums {
	d := p.doc.Sidecar
	if d == nil {
		return nil
	}
	return image.NewBlockSums(image.ListSpec{
		Label: displayURL(d.From), ID: "sidecar " + d.List, Most: d.Bytes,
		Load: func(ctx context.Context) (*xvm.BlockList, map[string][]byte, error) {
			sc, err := p.rereadSidecar(ctx, d)
			if err != nil {
				return nil, nil, err
			}
			if text := unused(sc, d.From); text != "" {
				p.cat.cfg.Logger.Warn(text, "release", p.release.Name())
			}
			return sc.Blocks, sc.Points, nil
		},
	}, p.cat.images.Lists, p.cat.background)
}

// rereadSidecar reads the package's sidecar again. One that has changed makes the
// package open anew.
func (p *Package) rereadSidecar(ctx context.Context, d *sidecarDoc) (*xvm.Sidecar, error) {
	a := archive.Resume(p.cat.archives, sidecarPlace(d.From), d.Identity)
	sc, err := p.cat.readSidecar(ctx, d.From, a)
	if err == nil && string(sc.Manifest) != string(d.Manifest) {
		err = remote.ErrChanged
	}
	if errors.Is(err, remote.ErrChanged) {
		p.cat.cfg.Logger.Warn("the sidecar is another one now; its package is opened anew", "release", p.release.Name())
		p.cat.replace(p.release)
		return nil, fmt.Errorf("%w: %w", archive.ErrReplaced, err)
	}
	return sc, err
}
