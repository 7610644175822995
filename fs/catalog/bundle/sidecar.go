package bundle

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
	"slices"
	"strings"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// maxSidecar bounds a sidecar as it lies on its server.
const maxSidecar = 1 << 30

// SidecarName is what the sidecar of a file is called whose SHA-256 its feed gives. So
// versions of one file have each its own.
func SidecarName(file, sum string) string { return file + "." + sum[:16] + xvm.SidecarSuffix }

// SidecarURLs are where the sidecar of a package is looked for, the first first. Where is
// Env.Sidecar: one sidecar, or a directory of this machine or of a server. There it is
// called as the package is, with ".sidecar" behind, or by [SidecarName] if its feed gives
// a SHA-256 of it, sum.
func SidecarURLs(where, packageURL, sum string) (all []string) {
	u, err := url.Parse(packageURL)
	if where == "" || err != nil {
		return nil
	}
	name := path.Base(u.Path)
	if name == "." || name == "/" {
		return nil
	}
	names := []string{name + xvm.SidecarSuffix}
	if sum != "" {
		names = []string{SidecarName(name, sum), names[0]}
	}
	var base *url.URL
	if strings.Contains(where, "://") {
		if base, err = url.Parse(where); err != nil {
			return nil
		}
		if strings.HasSuffix(base.Path, xvm.SidecarSuffix) {
			return []string{where}
		}
	} else if info, err := os.Stat(where); err != nil || !info.IsDir() {
		return []string{(&url.URL{Scheme: "file", Path: where}).String()}
	}
	for _, name := range names {
		if base != nil {
			all = append(all, base.JoinPath(url.PathEscape(name)).String())
		} else {
			all = append(all, (&url.URL{Scheme: "file", Path: filepath.Join(where, name)}).String())
		}
	}
	return all
}

// foundSidecar is a sidecar that was found for a package.
type foundSidecar struct {
	doc     *SidecarDoc
	noneAt  string      // the URL where there is none, as its server said
	warning string      // why there is none, or what of it is not used; "": nothing is amiss
	list    *image.List // nil: it did not have to be read
}

// sidecarPatience is how long a server is asked once more for a sidecar that it did
// not have when it was asked last.
const sidecarPatience = 2 * time.Second

// findSidecar looks for the sidecar of a package at each of froms. One
// that is not there, or not fit, is no error. Then doc is nil, warning says why,
// and the package is read as any other. But one that cannot be had now is, unless
// its server has said before that there is none.
func findSidecar(ctx context.Context, env *Env, doc *Doc, froms []string, id string) (foundSidecar, error) {
	if len(froms) == 0 {
		return foundSidecar{}, nil
	}
	verdictWith := func(d *SidecarDoc) (*xvm.Verdict, error) {
		with := *doc
		with.Sidecar = d
		return judge(&with, env.Policy(), id)
	}
	if verdict, err := verdictWith(nil); err != nil || !verdict.WantsSidecar() {
		return foundSidecar{}, nil // the error is told when the package is opened
	}
	if kept := doc.Sidecar; kept != nil && slices.Contains(froms, kept.From) && archive.Unchanged(sidecarPlace(kept.From), kept.Identity) {
		if verdict, err := verdictWith(kept); err == nil && verdict.UsesSidecar() {
			return foundSidecar{doc: kept}, nil
		}
	}
	asking := ctx
	if doc.NoneAt == froms[0] {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, sidecarPatience)
		defer cancel()
	}
	var from string
	var sc *xvm.Sidecar
	var list *image.List
	var identity remote.Identity
	var err error
	for _, from = range froms {
		sc, list, identity, err = fetchSidecar(asking, env, doc, from)
		if !errors.Is(err, remote.ErrNotFound) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	switch {
	case errors.Is(err, remote.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return foundSidecar{noneAt: froms[0]}, nil
	case errors.Is(err, xvm.ErrSidecar):
		return foundSidecar{warning: fmt.Sprintf("the sidecar %s is not used: %v", show.URL(from), err)}, nil
	case err != nil && doc.NoneAt == froms[0] && ctx.Err() == nil:
		return foundSidecar{noneAt: froms[0]}, nil
	case err != nil:
		return foundSidecar{}, fmt.Errorf("sidecar %s: %w", show.URL(from), err)
	}
	d := newSidecarDoc(sc, from, identity)
	if verdict, err := verdictWith(d); err != nil || !verdict.UsesSidecar() {
		return foundSidecar{warning: fmt.Sprintf("the sidecar %s is not used: %s", show.URL(from), verdict.SidecarUnused)}, nil
	}
	return foundSidecar{doc: d, warning: unused(sc, from), list: list}, nil
}

// fetchSidecar reads the sidecar and compares it with the package.
func fetchSidecar(ctx context.Context, env *Env, doc *Doc, from string) (*xvm.Sidecar, *image.List, remote.Identity, error) {
	a, err := archive.Open(ctx, env.Archives, sidecarPlace(from))
	if err != nil {
		return nil, nil, remote.Identity{}, err
	}
	held := int64(0)
	sc, list, err := readSidecar(ctx, env, from, a, func(n int64) error { held += n; return nil })
	if err == nil {
		err = sc.Compare(doc.Index, doc.sumOf)
	}
	if err == nil && sc.Version == 1 && doc.Inflate != "" {
		err = fmt.Errorf("%w: it is of inflated content, and was made by an old version, which inflated some gzip streams wrongly: make it anew with vmcastfs index", xvm.ErrSidecar)
	}
	if err == nil {
		list.Bytes = held
	}
	return sc, list, a.Identity(), err
}

func newSidecarDoc(sc *xvm.Sidecar, from string, id remote.Identity) *SidecarDoc {
	d := &SidecarDoc{From: from, Identity: id, Manifest: sc.Manifest, Signature: sc.Signature, Profile: sc.Profile, Data: sc.Blocks.Data()}
	if m, err := xvm.ParseManifest(xvm.SidecarManifest, sc.Manifest); err == nil {
		for _, s := range m.Sums(xvm.BlockListName) {
			if s.Algo == sums.SHA256 {
				d.List = s.Hex
			}
		}
	}
	return d
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
	return fmt.Sprintf("the sidecar %s was made by an old version, which inflated some gzip streams wrongly: its blocks of the content of %s are not used; make it anew with vmcastfs index", show.URL(from), names)
}

// sidecarPlace is where a sidecar is. The operator named it, so the rules for
// what a feed may name do not bind it.
func sidecarPlace(from string) archive.Place {
	return archive.Place{Name: show.URL(from), URL: func() string { return from }, Key: feed.URLKey(from)}
}

// readSidecar reads a sidecar whole. That of a server comes through the cache,
// so that it is there again when its package is opened without the network. The list
// reads its text from there again.
func readSidecar(ctx context.Context, env *Env, from string, a *archive.Archive, room func(int64) error) (*xvm.Sidecar, *image.List, error) {
	id := a.Identity()
	if id.Size > maxSidecar {
		return nil, nil, fmt.Errorf("%w: %d bytes exceed the limit of %d", xvm.ErrSidecar, id.Size, maxSidecar)
	}
	select { // one at a time: they take memory
	case env.Reading <- struct{}{}:
		defer func() { <-env.Reading }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	key := sidecarKey(from, id)
	open := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		return a.Fetch(ctx, off, n, source.Demand)
	}
	if _, ok := archive.LocalPath(from); !ok {
		open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
			file, err := env.Archives.Cache.Open(cache.Spec{
				Key: key, Label: show.URL(from), Origin: archive.Origin(from), Size: id.Size, Source: a.Proven(), Whole: true, MaxSize: maxSidecar,
			})
			if err != nil {
				return nil, err
			}
			return &sectionCloser{io.NewSectionReader(archive.ReaderAt(ctx, file), off, n), file}, nil
		}
	}
	body, err := open(ctx, 0, id.Size)
	if err != nil {
		return nil, nil, err
	}
	in := &digestReader{r: body}
	sc, err := xvm.OutlineSidecar(bufio.NewReaderSize(in, int(min(id.Size, 1<<20))), room)
	body.Close()
	switch {
	case in.err != nil:
		return nil, nil, in.err
	case err != nil && a.Contradicted(): // it is of several versions
		return nil, nil, errors.Join(remote.ErrChanged, env.Archives.Store.Remove(key))
	case err != nil:
		return nil, nil, err
	}
	return sc, &image.List{Blocks: sc.Blocks, Points: sc.Points, Text: func(ctx context.Context, off int64, n int) ([]byte, error) {
		body, err := open(ctx, sc.BlocksAt+off, int64(n))
		if err != nil {
			return nil, err
		}
		defer body.Close()
		p := make([]byte, n)
		_, err = io.ReadFull(body, p)
		return p, err
	}}, nil
}

// sidecarKey is that of a server's sidecar in the cache.
func sidecarKey(from string, id remote.Identity) store.Key {
	return archive.Key("sidecar", feed.URLKey(from), id.ETag, id.LastModified, fmt.Sprint(id.Size))
}

// sectionCloser is a part of a file that is closed with it.
type sectionCloser struct {
	*io.SectionReader
	io.Closer
}

// sidecarBlocks is what the images of a package are checked against by its
// sidecar.
func sidecarBlocks(env *Env, release Release, d *SidecarDoc) *image.BlockSums {
	return image.NewBlockSums(image.ListSpec{
		Label: show.URL(d.From), ID: "sidecar " + d.List, Origin: archive.Origin(d.From), Data: d.Data,
		Load: func(ctx context.Context, room func(int64) error) (*image.List, error) {
			sc, list, err := rereadSidecar(ctx, env, d, room)
			if errors.Is(err, remote.ErrChanged) {
				env.Images.Log.Warn("the sidecar is another one now; its package is opened anew", "release", release.Name)
				release.Replaced()
				err = fmt.Errorf("%w: %w", archive.ErrReplaced, err)
			}
			if err != nil {
				return nil, err
			}
			if text := unused(sc, d.From); text != "" {
				env.Images.Log.Warn(text, "release", release.Name)
			}
			return list, nil
		},
	}, env.Images.Lists, env.Images.Go)
}

// rereadSidecar reads the sidecar again that the package was opened with.
func rereadSidecar(ctx context.Context, env *Env, d *SidecarDoc, room func(int64) error) (*xvm.Sidecar, *image.List, error) {
	sc, list, err := readSidecar(ctx, env, d.From, archive.Resume(env.Archives, sidecarPlace(d.From), d.Identity), room)
	if err == nil && string(sc.Manifest) != string(d.Manifest) {
		err = remote.ErrChanged
	}
	return sc, list, err
}
