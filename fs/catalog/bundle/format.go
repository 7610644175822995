package bundle

import (
	"crypto/sha256"
	"encoding/json"
	"maps"

	"vmcastfs/cache/remote"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// Doc is what is kept on disk of a package, so that it is walked once: a JSON
// object. A document is written whole and atomically; one that does not decode,
// or is of another version, is as none.
type Doc struct {
	Version  int
	Identity remote.Identity
	Index    *xvm.Index
	Meta     map[string][]byte    // whole content of the members that describe the others
	Small    map[string]SeenSmall `json:",omitempty"` // of such members whose content is not kept here
	Sizes    map[string]int64     // proven plain sizes of compressed members, by plain name
	Kinds    map[string]SeenImage `json:",omitempty"` // what images begin with, of those that were looked at
	Decoded  map[string]bool      `json:",omitempty"` // plain names whose first stored bytes showed a kind that is supported
	Data     map[string]int64     `json:",omitempty"` // bytes of images in blocks that are not all zeros, by the package's own block list
	Sidecar  *SidecarDoc          // nil: there is none, or its place was not named
	NoneAt   string               `json:",omitempty"` // the URL of a sidecar that its server said is not there
	Inflate  seekable.Format      `json:",omitempty"` // of an archive compressed as a whole, which Index is of the plain content of
	Stored   int64                `json:",omitempty"` // bytes of that archive
	SHA256   string               `json:",omitempty"` // of a disk image by itself, as the feed gave it when it was indexed: part of what it is in the cache
}

// SeenImage is what the first bytes of an image showed.
type SeenImage struct {
	Format, Kind string
	Boot         bool `json:",omitempty"` // its first sector ends in the boot signature
}

// SeenSmall is what a member was when the archive was indexed.
type SeenSmall struct {
	SHA256  []byte
	Matches string `json:",omitempty"` // the algorithm of the manifest's sum that it matches; "": none is known
	Not     string `json:",omitempty"` // how it contradicts the manifest; "": it does not
}

// SidecarDoc is what is kept of a package's sidecar, beside the package.
type SidecarDoc struct {
	From      string          // its URL
	Identity  remote.Identity // of what was read there
	Manifest  []byte          // what is signed
	Signature []byte          // nil: nothing is
	List      string          // SHA-256 of its block list
	Profile   []byte          `json:",omitempty"`

	Data map[string]int64 `json:",omitempty"` // as that of Doc, by the sidecar's list
}

// docVersion is that of the form. Version 2 has the same form, but what it
// says of plain content may come from a gzip decoder that was wrong.
const docVersion = 3

// parseDoc decodes a document, nil if it is not usable.
func parseDoc(raw []byte) *Doc {
	var doc Doc
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Index == nil || doc.Index.Validate() != nil {
		return nil
	}
	switch doc.Version {
	case docVersion:
	case docVersion - 1:
		doc.forgetInflated()
	default:
		return nil
	}
	doc.compact()
	return &doc
}

// smallKept is how much is kept in a document of members that nothing is decided by.
const smallKept = 64 << 10

// compact keeps sums in the place of small files, but for a few: what is decided by
// must be at hand, and the others can be fetched again.
func (d *Doc) compact() {
	manifest := d.Index.ManifestName()
	var rest []string
	total := 0
	for name, content := range d.Meta {
		if name != manifest && !xvm.Decides(name) {
			rest = append(rest, name)
			total += len(content)
		}
	}
	if total <= smallKept {
		return
	}
	listed, _ := xvm.ParseManifest(manifest, d.Meta[manifest]) // an error is told by the verdict
	small := maps.Clone(d.Small)
	if small == nil {
		small = make(map[string]SeenSmall, len(rest))
	}
	for _, name := range rest {
		small[name] = seeSmall(name, d.Meta[name], listed)
		delete(d.Meta, name)
	}
	d.Small = small
}

// sumOf is the SHA-256 of a member that was read whole.
func (d *Doc) sumOf(name string) (sum [sha256.Size]byte, ok bool) {
	if content, ok := d.Meta[name]; ok {
		return sha256.Sum256(content), true
	}
	if s, ok := d.Small[name]; ok && len(s.SHA256) == len(sum) {
		return [sha256.Size]byte(s.SHA256), true
	}
	return sum, false
}

// forgetInflated makes a document of version 2 one of version 3.
func (d *Doc) forgetInflated() {
	d.Version, d.Sizes, d.Kinds = docVersion, nil, nil
	if d.Inflate != "" {
		d.Sidecar = nil
	}
}

func seeSmall(name string, content []byte, m *xvm.Manifest) SeenSmall {
	sum := sha256.Sum256(content)
	seen := SeenSmall{SHA256: sum[:]}
	if m != nil {
		seen.Matches, seen.Not = m.Compare(name, content)
	}
	return seen
}
