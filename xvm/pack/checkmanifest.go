package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// ReadManifest reads the manifest of an archive; nil: it has none.
func ReadManifest(ctx context.Context, a xvm.ReaderAt, x *xvm.Index) (*xvm.Manifest, error) {
	m := x.Manifest()
	if m == nil {
		return nil, nil
	}
	b, err := readSmall(ctx, a, m)
	if err != nil {
		return nil, err
	}
	return xvm.ParseManifest(m.Name, b)
}

// readSmall reads a member into memory.
func readSmall(ctx context.Context, a xvm.ReaderAt, m *xvm.Member) ([]byte, error) {
	if m.Size > xvm.MaxMeta || m.Segments != nil {
		return nil, &tooLarge{m.Name}
	}
	b := make([]byte, m.Size)
	if n, err := a.ReadAt(ctx, b, m.Offset); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return nil, fmt.Errorf("read %s: %w", m.Name, err)
	}
	return b, nil
}

type tooLarge struct{ name string }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%s is larger than %d bytes", e.name, xvm.MaxMeta)
}

// small reads a member into memory; nil if there is none of that name.
func (c *checker) small(ctx context.Context, name string) ([]byte, error) {
	m := c.byName[name]
	if m == nil {
		return nil, nil
	}
	b, err := readSmall(ctx, c.archive, m)
	if large := (*tooLarge)(nil); errors.As(err, &large) {
		c.report.fault("%v", err)
		return nil, nil
	}
	return b, err
}

func (c *checker) readManifest(ctx context.Context) error {
	c.manifestName = xvm.ManifestName
	if m := c.index.Manifest(); m != nil {
		c.manifestName = m.Name
	}
	b, err := c.small(ctx, c.manifestName)
	if b == nil || err != nil {
		c.report.warn("there is no manifest")
		return err
	}
	if c.manifest, err = xvm.ParseManifest(c.manifestName, b); err != nil {
		c.report.fault("%v", err)
		return nil
	}
	c.report.Warnings = append(c.report.Warnings, c.manifest.Warnings()...)
	if id := c.manifest.Release(); id != "" && c.o.Release != "" && id != c.o.Release {
		c.report.fault("%s was made for the release %q, this is %q", c.manifestName, id, c.o.Release)
	}
	for _, name := range c.manifest.Names() {
		if c.byName[name] == nil && !slices.ContainsFunc(c.index.Members, func(m xvm.Member) bool {
			_, plain := seekable.PlainName(m.Name)
			return plain == name
		}) {
			if here, ok := strings.CutPrefix(name, path.Base(c.index.Root)+"/"); ok && c.byName[here] != nil {
				c.report.fault("the manifest lists %s, but its names are relative to where it is: there it is %s", name, here)
				continue
			}
			c.report.fault("%s is missing: the manifest lists it", name)
		}
	}
	return nil
}

// wanted are the digests to be made of a member as stored.
func (c *checker) wanted(name string) []*digest {
	var d []*digest
	if c.manifest != nil {
		for _, sum := range c.manifest.Sums(name) {
			if one := newDigest(sum); one != nil {
				d = append(d, one)
			}
		}
	}
	return d
}

// judge compares the sums that the manifest has of a file.
func (c *checker) judge(f *FileReport, digests []*digest) {
	var good []string
	for _, d := range digests {
		if got := d.hex(); got != d.want.Hex {
			f.fault("its %s is %s, the manifest says %s", d.want.Algo, got, d.want.Hex)
		} else {
			good = append(good, d.want.Algo)
		}
	}
	if len(good) > 0 && f.State != Corrupt {
		f.proof("%s in the manifest", strings.Join(good, " and "))
	}
	if c.manifest != nil {
		for _, why := range c.manifest.Unsupported(f.Name) {
			c.report.warn("%s: %s", f.Name, why)
		}
	}
	for _, s := range []struct {
		signed, signature string
		verdict           Signature
	}{
		{c.manifestName, xvm.ManifestSignatureName, c.report.Manifest},
		{c.description(), xvm.DescriptionSignatureName, c.report.Description},
	} {
		switch {
		case s.verdict.State == "good" && f.Name == s.signed:
			f.proof("%s by %s", s.signature, s.verdict.Signer)
		case s.verdict.State == "good" && f.Name == s.signature:
			f.proof("it is a good signature")
		case s.verdict.State == "bad" && f.Name == s.signature && !c.vouched():
			f.State = Corrupt
		}
	}
}
