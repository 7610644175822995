package xvm

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// ReadSidecar reads a sidecar as a stream, and compares its parts with its
// manifest. The error wraps [ErrSidecar], or is that of r.
func ReadSidecar(r io.Reader) (*Sidecar, error) { return readSidecar(r, nil) }

// OutlineSidecar is ReadSidecar with a block list as [OutlineBlockList] reads it. Room
// is asked for the memory of seek points, too.
func OutlineSidecar(r io.Reader, room func(bytes int64) error) (*Sidecar, error) {
	return readSidecar(r, room)
}

func readSidecar(r io.Reader, room func(bytes int64) error) (*Sidecar, error) {
	p := sidecarParser{from: &counted{r: r}, room: room, s: &Sidecar{Points: make(map[string][]byte)}}
	p.in = tar.NewReader(p.from)
	if err := p.parse(); err != nil {
		switch {
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: it ends too early", ErrSidecar)
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
			err = fmt.Errorf("%w: %w", ErrSidecar, err)
		}
		return nil, err
	}
	return p.s, nil
}

// counted counts what is read. tar.Reader reads no more of it than it has to.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type sidecarParser struct {
	from     *counted
	in       *tar.Reader
	room     func(bytes int64) error // nil: the list is kept whole
	s        *Sidecar
	manifest *Manifest
	points   int64 // bytes so far
}

// parse reads the members, which come in a fixed order: what checks the others first.
func (p *sidecarParser) parse() error {
	name, size, err := p.next()
	if err != nil {
		return err
	}
	if name != SidecarPackage {
		return fmt.Errorf("%w: it does not begin with %s", ErrSidecar, SidecarPackage)
	}
	about, err := p.whole(name, size, maxSidecarPackage)
	if err != nil {
		return err
	}
	if name, size, err = p.next(); err != nil {
		return err
	}
	if name != SidecarManifest {
		return fmt.Errorf("%w: it has no %s in second place", ErrSidecar, SidecarManifest)
	}
	if p.s.Manifest, err = p.whole(name, size, MaxManifestSize); err != nil {
		return err
	}
	if p.manifest, err = ParseManifest(SidecarManifest, p.s.Manifest); err != nil {
		return fmt.Errorf("%w: %w", ErrSidecar, err)
	}
	if err := p.compare(SidecarPackage, sha256.Sum256(about)); err != nil {
		return err
	}
	if err := p.s.parsePackage(about); err != nil {
		return err
	}
	for {
		if name, size, err = p.next(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		member, points := strings.CutPrefix(name, SidecarPoints)
		switch {
		case name == SidecarSignature && p.s.Signature == nil && p.s.Blocks == nil:
			p.s.Signature, err = p.whole(name, size, MaxSignatureSize)
		case name == ProfileName && p.s.Profile == nil && p.s.Blocks == nil:
			err = p.profile(size)
		case name == BlockListName && p.s.Blocks == nil:
			err = p.blocks()
		case points && p.s.Blocks != nil && p.s.Points[member] == nil:
			err = p.seekPoints(name, member, size)
		default:
			err = fmt.Errorf("%w: member %q is not expected here", ErrSidecar, shownName(name))
		}
		if err != nil {
			return err
		}
	}
	if p.s.Blocks == nil {
		return fmt.Errorf("%w: it has no %s", ErrSidecar, BlockListName)
	}
	for _, name := range p.manifest.Names() {
		if name == ProfileName && p.s.Profile == nil {
			return fmt.Errorf("%w: %s is missing", ErrSidecar, name)
		}
		member, points := strings.CutPrefix(name, SidecarPoints)
		if points && p.s.Points[member] == nil {
			return fmt.Errorf("%w: %s is missing", ErrSidecar, name)
		}
	}
	if p.s.Version == 1 {
		p.s.dropInflated()
	}
	return nil
}

// dropInflated takes out what was inflated.
func (s *Sidecar) dropInflated() {
	stored := make(map[string]bool)
	for _, m := range s.Members {
		stored[m.Name] = true
	}
	for _, m := range s.Members {
		format, plain := seekable.PlainName(m.Name)
		if format == "" || stored[plain] {
			continue
		}
		delete(s.Points, m.Name)
		if s.Blocks.Image(plain) != nil {
			s.Unused = append(s.Unused, plain)
		}
	}
	s.Blocks = s.Blocks.without(s.Unused)
}

func (p *sidecarParser) next() (string, int64, error) {
	h, err := p.in.Next()
	if err != nil {
		return "", 0, err
	}
	if h.Typeflag != tar.TypeReg || h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.map"] != "" {
		return "", 0, fmt.Errorf("%w: member %q is no plain file", ErrSidecar, shownName(h.Name))
	}
	return h.Name, h.Size, nil
}

func (p *sidecarParser) whole(name string, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrSidecar, shownName(name), limit)
	}
	b, err := io.ReadAll(p.in) // grows with what is there, not with what the header says
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", shownName(name), err)
	}
	return b, nil
}

// compare asks for a SHA-256 in the manifest, and that it is this one.
func (p *sidecarParser) compare(name string, got [32]byte) error {
	for _, sum := range p.manifest.Sums(name) {
		if sum.Algo == sums.SHA256 {
			if sum.Hex != hex.EncodeToString(got[:]) {
				return fmt.Errorf("%w: %s does not match its sum in %s", ErrSidecar, shownName(name), SidecarManifest)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: %s gives no SHA-256 of %s", ErrSidecar, SidecarManifest, shownName(name))
}

func (p *sidecarParser) profile(size int64) (err error) {
	if p.s.Profile, err = p.whole(ProfileName, size, MaxProfileSize); err != nil {
		return err
	}
	if _, err := ParseProfile(p.s.Profile); err != nil {
		return fmt.Errorf("%w: %w", ErrSidecar, err)
	}
	return p.compare(ProfileName, sha256.Sum256(p.s.Profile))
}

func (p *sidecarParser) blocks() error {
	h := sha256.New()
	var pages *pager
	if p.room != nil {
		pages = &pager{room: p.room}
	}
	p.s.BlocksAt = p.from.n
	list, err := parseBlockList(io.TeeReader(p.in, h), pages)
	if pages != nil && pages.err != nil {
		return pages.err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSidecar, err)
	}
	p.s.Blocks = list
	return p.compare(BlockListName, [32]byte(h.Sum(nil)))
}

func (p *sidecarParser) seekPoints(name, member string, size int64) error {
	points, err := p.whole(name, size, MaxSidecarPoints-p.points)
	if err == nil && p.room != nil {
		err = p.room(int64(len(points)))
	}
	if err != nil {
		return err
	}
	p.points += int64(len(points))
	if len(p.s.Points) == MaxSidecarMembers {
		return fmt.Errorf("%w: more than %d members with seek points", ErrSidecar, MaxSidecarMembers)
	}
	p.s.Points[member] = points
	return p.compare(name, sha256.Sum256(points))
}
