package fs

import (
	"context"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"
)

// Show makes a catalog a Tree.
func Show(c *catalog.Catalog) Tree { return catalogTree{c} }

type catalogTree struct{ *catalog.Catalog }

func (t catalogTree) Snapshot() Snapshot { return catalogSnapshot{t.Catalog.Snapshot()} }

type catalogSnapshot struct{ *catalog.Snapshot }

func (s catalogSnapshot) Releases() []Release {
	inner := s.Snapshot.Releases()
	out := make([]Release, len(inner))
	for i, r := range inner {
		out[i] = catalogRelease{r}
	}
	return out
}

func (s catalogSnapshot) Release(name string) (Release, bool) {
	r, ok := s.Snapshot.Release(name)
	return catalogRelease{r}, ok
}

func (s catalogSnapshot) Latest() string {
	if r := s.Snapshot.Latest(); r != nil {
		return r.Name()
	}
	return ""
}

type catalogRelease struct{ *catalog.Release }

func (r catalogRelease) Package(ctx context.Context) (Package, error) {
	p, err := r.Release.PackageSoon(ctx)
	if err != nil {
		return nil, err
	}
	return catalogPackage{p}, nil
}

func (r catalogRelease) Peek() (Package, bool) {
	p, ok := r.Release.Peek()
	return catalogPackage{p}, ok
}

type catalogPackage struct{ *bundle.Package }

func (p catalogPackage) Files() []File {
	inner := p.Package.Files()
	out := make([]File, len(inner))
	for i, f := range inner {
		out[i] = catalogFile{f}
	}
	return out
}

func (p catalogPackage) Lookup(ctx context.Context, name string) (File, error) {
	f, err := p.Package.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return catalogFile{f}, nil
}

type catalogFile struct{ *bundle.File }

func (f catalogFile) Open(ctx context.Context) (Handle, error) { return f.File.Open(ctx) }
