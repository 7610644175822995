package xvm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A sidecar gives somebody else's package a block list and seek points for its
// compressed members. The sidecar of the package P is called P.sidecar. It is a tar
// archive of these files, in this order:
//
//	package.txt        what package it is of
//	manifest.txt       SHA-1 and SHA-256 of package.txt, profile.txt, blocks.txt and points/…
//	mf-signature.asc   detached signature of manifest.txt by whoever made it; may be missing
//	profile.txt        boot profile; may be missing
//	blocks.txt         block list
//	points/NAME        seek points of the compressed member NAME, as package seekable saves them
//
// package.txt is text, each item a line:
//
//	package = "vmcast-sidecar 1" "archive" SIZE SHA256, member* "end"
//	member  = "member" SIZE SHA256 NAME
//
// The archive line has the length and SHA-256 of the whole package; if the package
// is compressed as a whole, those of its plain content. A member line has those of
// one file, as it would be extracted. All files are there, in the order of the
// archive. A disk image that is in no archive is the one file of a package without
// headers. The disks of an XVA archive are images disk0.img, … of blocks of 1 MiB;
// their chunks are none.
//
// In blocks.txt an image has the name of a member as stored (swap.img.gz), or of the
// plain content of a compressed one (swap.img). It has no "member" line. Small files
// that describe the others have no blocks.
//
// [Judge] decides whether a sidecar is used. If it is of another package in spite of
// that, blocks will not match, and so no wrong byte is served. Its maker vouches for
// having compared the package with its own manifest.

// SidecarSuffix is what the name of a sidecar has behind that of its package.
const SidecarSuffix = ".sidecar"

// Members of a sidecar. The seek points of a compressed member NAME are in
// SidecarPoints + NAME.
const (
	SidecarPackage   = "package.txt"
	SidecarManifest  = ManifestName
	SidecarSignature = ManifestSignatureName
	SidecarPoints    = "points/"
)

// Limits of a sidecar; those of its block list and manifest come to them.
const (
	MaxSidecarMembers = 1 << 18   // files of the package: an XVA archive has many
	MaxSidecarPoints  = 256 << 20 // bytes of seek points, all members together
	maxSidecarPackage = 32 << 20  // bytes of package.txt
)

// sidecarMagic begins package.txt. Sidecars of version 1 were made by a gzip decoder
// that gave wrong bytes of some streams: see [Sidecar.Unused].
const (
	sidecarMagic  = "vmcast-sidecar 2"
	sidecarMagic1 = "vmcast-sidecar 1"
)

// ErrSidecar is wrapped by every error of [ReadSidecar], [Sidecar.Match] and
// [Sidecar.AppendPackage].
var ErrSidecar = errors.New("bad sidecar")

// Sidecar is what somebody found out about a package by reading it whole. The
// block list, seek points and profile of a sidecar that was read have matched its
// manifest; whether the manifest is signed by whom is for the caller to ask
// [Keyring.Verify].
type Sidecar struct {
	Version int      // 1 or 2, of a sidecar that was read
	Size    int64    // of the package, bytes
	SHA256  [32]byte // of the package
	Members []SidecarMember
	Blocks  *BlockList // of plain content, and of compressed members as stored
	// BlocksAt is where in the sidecar the text of Blocks begins.
	BlocksAt int64
	Points   map[string][]byte // of compressed members, as package seekable saves them
	Profile  []byte            // boot profile in its text form; nil: there is none
	// Unused are the plain contents of compressed members that a sidecar of version
	// 1 lists, by name. Its decoder may have been wrong, so that neither their blocks
	// nor their members' seek points are in Blocks and Points.
	Unused []string

	Manifest  []byte // what was signed
	Signature []byte // detached, over Manifest; nil: there is none
}

// SidecarMember is a file of the package.
type SidecarMember struct {
	Name   string
	Size   int64    // bytes; of a sparse file with its holes
	SHA256 [32]byte // of the file, holes read as zeros
}

// AppendPackage appends package.txt: what package the sidecar is of.
func (s *Sidecar) AppendPackage(dst []byte) ([]byte, error) {
	from := len(dst)
	dst = fmt.Appendf(dst, "%s\narchive %d %x\n", sidecarMagic, s.Size, s.SHA256)
	for _, m := range s.Members {
		dst = fmt.Appendf(dst, "member %d %x %s\n", m.Size, m.SHA256, m.Name)
	}
	dst = append(dst, "end\n"...)
	var back Sidecar
	if err := back.parsePackage(dst[from:]); err != nil {
		return nil, err
	}
	return dst, nil
}

// parsePackage reads package.txt.
func (s *Sidecar) parsePackage(b []byte) error {
	line := 0
	bad := func(reason string) error {
		return fmt.Errorf("%w: %s, line %d: %s", ErrSidecar, SidecarPackage, line, reason)
	}
	next := func() (string, bool) {
		row, rest, ok := bytes.Cut(b, []byte("\n"))
		b = rest
		line++
		return strings.TrimSuffix(string(row), "\r"), ok
	}
	head, ok := next()
	switch {
	case ok && head == sidecarMagic:
		s.Version = 2
	case ok && head == sidecarMagic1:
		s.Version = 1
	default:
		return bad(fmt.Sprintf("it does not begin with %q", sidecarMagic))
	}
	seen := make(map[string]bool)
	for {
		row, ok := next()
		if !ok {
			return bad("it ends too early")
		}
		if row == "end" {
			if len(b) > 0 {
				return bad("something follows its end")
			}
			if line == 2 {
				return bad("it names no archive")
			}
			return nil
		}
		key, rest, _ := strings.Cut(row, " ")
		size, rest, _ := strings.Cut(rest, " ")
		sum, name, named := strings.Cut(rest, " ")
		n, err := parseCount(size)
		if err != nil {
			return bad(err.Error())
		}
		var digest [32]byte
		if k, err := hex.Decode(digest[:], []byte(sum[:min(len(sum), 64)])); err != nil || k != 32 || len(sum) != 64 {
			return bad("malformed SHA-256")
		}
		switch {
		case line == 2 && key == "archive" && !named:
			s.Size, s.SHA256 = n, digest
		case line > 2 && key == "member" && named:
			clean, slash, reason := tarName(name)
			switch {
			case clean != name || slash || reason != "":
				return bad("a name that no member has")
			case seen[name]:
				return bad("a member listed twice")
			case len(seen) == MaxSidecarMembers:
				return bad(fmt.Sprintf("more than %d members", MaxSidecarMembers))
			}
			seen[name] = true
			s.Members = append(s.Members, SidecarMember{name, n, digest})
		default:
			return bad(fmt.Sprintf("%.40q is not expected here", row))
		}
	}
}

// Match tells whether the sidecar can be of the archive that has this index:
// its length, and the names and sizes of its files. What the caller has of the
// files' content, it compares with Members; the rest is checked block by block.
func (s *Sidecar) Match(x *Index) error {
	if s.Size != x.Size {
		return fmt.Errorf("%w: it is of a package of %d bytes, this one has %d", ErrSidecar, s.Size, x.Size)
	}
	if len(s.Members) != len(x.Members) {
		return fmt.Errorf("%w: it is of a package of %d files, this one has %d", ErrSidecar, len(s.Members), len(x.Members))
	}
	for i, m := range x.Members {
		if t := s.Members[i]; t.Name != m.Name || t.Size != m.Size {
			return fmt.Errorf("%w: it is of a package with %q of %d bytes, where this one has %q of %d", ErrSidecar, t.Name, t.Size, m.Name, m.Size)
		}
	}
	return nil
}

// Compare tells whether the sidecar is of this package, as far as that can be told
// without reading the images: what Match asks for, and the content of the members
// that were read whole, whose SHA-256 sum knows. What images hold is compared block by
// block.
func (s *Sidecar) Compare(x *Index, sum func(name string) ([sha256.Size]byte, bool)) error {
	if err := s.Match(x); err != nil {
		return err
	}
	for _, m := range s.Members {
		if is, ok := sum(m.Name); ok && is != m.SHA256 {
			return fmt.Errorf("%w: it is of a package with another %q", ErrSidecar, m.Name)
		}
	}
	for _, ib := range s.Blocks.Images() {
		if ib.Member != "" {
			return fmt.Errorf("%w: its block list speaks of members", ErrSidecar)
		}
	}
	return nil
}

// Evidence is what the trust in the sidecar depends on, compared with a package.
func (s *Sidecar) Evidence(x *Index, small map[string][]byte) *SidecarEvidence {
	e := &SidecarEvidence{Manifest: s.Manifest, Signature: s.Signature}
	sum := func(name string) ([sha256.Size]byte, bool) {
		content, ok := small[name]
		return sha256.Sum256(content), ok
	}
	if err := s.Compare(x, sum); err != nil {
		e.Mismatch = err.Error()
	}
	return e
}
