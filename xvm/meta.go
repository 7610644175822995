package xvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"vmcastfs/xvm/seekable"
)

// Names of the members that vouch for the others. The manifest of an OVA is
// called otherwise: see [Index.Manifest].
const (
	ManifestName             = "manifest.txt"
	ManifestSignatureName    = "mf-signature.asc" // over the manifest
	DescriptionSignatureName = "signature.asc"    // over xvm.xml or description.xml
)

// descriptionNames are those of the member that describes the machine, in the order
// in which they count.
var descriptionNames = []string{"xvm.xml", "description.xml"}

// MaxMeta bounds a member that describes the others, in bytes. Such members are
// read into memory.
const MaxMeta = 4 << 20

// IsMeta reports whether the member describes the others, going by its name:
// descriptions, manifests, signatures. A larger one than [MaxMeta] and a sparse
// one count as images.
func (m Member) IsMeta() bool {
	if m.Size > MaxMeta || m.Segments != nil {
		return false
	}
	switch strings.ToLower(path.Ext(m.Name)) {
	case ".xml", ".txt", ".asc", ".sig", ".mf", ".ovf", ".cert":
		return true
	}
	return false
}

// Decides reports whether a verdict, or what is made of a package, depends on the
// content of a member with this name, beside its manifest.
func Decides(name string) bool {
	switch name {
	case ManifestName, ManifestSignatureName, DescriptionSignatureName, XVAName, ProfileName:
		return true
	}
	return slices.Contains(descriptionNames, name)
}

// maxSmall bounds the members that are read whole, in bytes of all together.
const maxSmall = 16 << 20

// ReadSmall reads the members that Index.small lists, by name.
func ReadSmall(ctx context.Context, a ReaderAt, x *Index) (map[string][]byte, error) {
	small := make(map[string][]byte)
	for _, m := range x.small() {
		content := make([]byte, m.Size)
		if n, err := a.ReadAt(ctx, content, m.Offset); err != nil && !(errors.Is(err, io.EOF) && int64(n) == m.Size) {
			return nil, fmt.Errorf("read %q: %w", m.Name, err)
		}
		small[m.Name] = content
	}
	return small, nil
}

// small lists the members that are read whole before anything is decided: those
// that describe the others, in the order of the archive, as far as they are in
// the archive and within the limit. The block list is not among them: it is read
// when an image is opened.
func (x *Index) small() []*Member {
	var small []*Member
	total := int64(0)
	for i := range x.Members {
		m := &x.Members[i]
		if m.IsMeta() && m.Name != BlockListName && total+m.Size <= maxSmall && m.Offset+m.Stored <= x.Size {
			total += m.Size
			small = append(small, m)
		}
	}
	return small
}

// Manifest finds the archive's manifest: [ManifestName], else the first *.mf in
// the root, which is an OVA's. It is nil if there is none.
func (x *Index) Manifest() *Member {
	for i := range x.Members {
		if x.Members[i].Name == ManifestName {
			return &x.Members[i]
		}
	}
	for i := range x.Members {
		if name := x.Members[i].Name; strings.HasSuffix(name, ".mf") && !strings.Contains(name, "/") {
			return &x.Members[i]
		}
	}
	return nil
}

// Inflated finds the compressed member that each plain content comes from, by its name:
// the first of several, where no member has that name.
func (x *Index) Inflated() map[string]*Member {
	from := make(map[string]*Member)
	for i := range x.Members {
		m := &x.Members[i]
		if format, plain := seekable.PlainName(m.Name); format != "" && !strings.HasSuffix(plain, "/") && from[plain] == nil {
			from[plain] = m
		}
	}
	for _, m := range x.Members {
		delete(from, m.Name)
	}
	return from
}

// Missing are those of the names that neither a member has nor its plain content.
func (x *Index) Missing(names []string) []string {
	have := make(map[string]bool)
	for _, m := range x.Members {
		_, plain := seekable.PlainName(m.Name)
		have[m.Name], have[plain] = true, true
	}
	return slices.DeleteFunc(names, func(name string) bool { return have[name] })
}

func (x *Index) has(name string) bool {
	return slices.ContainsFunc(x.Members, func(m Member) bool { return m.Name == name })
}

// ManifestName is the name of the package's manifest; "": there is none.
func (x *Index) ManifestName() string {
	if m := x.Manifest(); m != nil {
		return m.Name
	}
	return ""
}
