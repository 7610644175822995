package bundle

import (
	"encoding/json"

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
	return &doc
}

// forgetInflated makes a document of version 2 one of version 3.
func (d *Doc) forgetInflated() {
	d.Version, d.Sizes, d.Kinds = docVersion, nil, nil
	if d.Inflate != "" {
		d.Sidecar = nil
	}
}
