package catalog

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
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
	listed := slices.ContainsFunc(doc.Index.Members, func(m xvm.Member) bool { return m.Name == xvm.BlockListName })
	if listed && (c.cfg.Keyring == nil || c.judge(&Package{cat: c, doc: doc}).By == byPublisher) {
		return nil, "", nil // its own block list is as good
	}
	judge := func(d *sidecarDoc) sidecarVerdict {
		v := c.judgeSidecar(d)
		if listed && v.fit && v.sig.State != "good" {
			v.fit, v.sig.Reason = false, v.sig.Reason+", and the package has a block list of its own"
		}
		return v
	}
	if kept != nil && kept.From == from && archive.Unchanged(sidecarPlace(from), kept.Identity) && judge(kept).fit {
		doc.Sidecar = kept
		return nil, "", nil
	}
	a, err := archive.Open(ctx, c.archives, sidecarPlace(from))
	if errors.Is(err, remote.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("sidecar %s: %w", displayURL(from), err)
	}
	if sc, err = c.readSidecar(ctx, from, a); err == nil {
		err = matchSidecar(sc, doc)
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
	if v := judge(d); !v.fit {
		return nil, fmt.Sprintf("the sidecar %s is not used: %s", displayURL(from), v.sig.Reason), nil
	}
	doc.Sidecar = d
	return sc, "", nil
}

// sidecarVerdict is what the policy makes of a sidecar.
type sidecarVerdict struct {
	sig Signature
	fit bool
}

// judgeSidecar checks the signature of a sidecar. Without a keyring the word of
// the operator, who named it, is enough.
func (c *Catalog) judgeSidecar(d *sidecarDoc) sidecarVerdict {
	switch {
	case d.List == "":
		return sidecarVerdict{sig: Signature{State: "bad", Reason: "it does not say what its block list is"}}
	case c.cfg.Keyring == nil:
		return sidecarVerdict{Signature{State: "unchecked", Reason: "no keyring is given"}, true}
	case d.Signature == nil:
		return sidecarVerdict{Signature{State: "missing", Reason: "it is not signed"}, !c.cfg.RequireSigned}
	}
	v, err := c.cfg.Keyring.Verify(d.Manifest, d.Signature, time.Now())
	if err != nil {
		return sidecarVerdict{sig: Signature{State: "bad", Reason: err.Error()}}
	}
	return sidecarVerdict{Signature{State: "good", Signer: v.Signer, KeyID: v.KeyID, Time: v.Time}, true}
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

// matchSidecar tells whether the sidecar is of this package, as far as that can
// be told without reading the images: what they hold is compared block by block.
func matchSidecar(sc *xvm.Sidecar, doc *packageDoc) error {
	if err := sc.Match(doc.Index); err != nil {
		return err
	}
	for _, m := range sc.Members {
		if content, ok := doc.Meta[m.Name]; ok && sha256.Sum256(content) != m.SHA256 {
			return fmt.Errorf("%w: it is of a package with another %q", xvm.ErrSidecar, m.Name)
		}
	}
	for _, ib := range sc.Blocks.Images() {
		if ib.Member != "" {
			return fmt.Errorf("%w: its block list speaks of members", xvm.ErrSidecar)
		}
	}
	return nil
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
func (p *Package) sidecarBlocks() *blockSums {
	d := p.doc.Sidecar
	if d == nil {
		return nil
	}
	v := p.cat.judgeSidecar(d)
	p.sidecar = &v.sig
	b := &blockSums{cat: p.cat, label: displayURL(d.From), id: "sidecar " + d.List, most: d.Bytes}
	b.load = func(ctx context.Context) (*xvm.BlockList, error) {
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
		if err != nil {
			return nil, err
		}
		b.keepPoints(sc.Points)
		return sc.Blocks, nil
	}
	return b
}

// offer gives the list to who will want it soon, if there is room.
func (b *blockSums) offer(sc *xvm.Sidecar) {
	if b == nil || sc == nil || b.cat.lists.reserve(b) != nil {
		return
	}
	b.keepPoints(sc.Points)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list, b.used = sc.Blocks, time.Now()
}

func (b *blockSums) keepPoints(points map[string][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.points = maps.Clone(points)
}

// takePoints returns the sidecar's seek points of a member, once: whoever takes
// them keeps them on the disk.
func (b *blockSums) takePoints(member string) []byte {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	points := b.points[member]
	delete(b.points, member)
	return points
}
