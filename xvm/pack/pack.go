package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// Block sizes: powers of two between the bounds.
const (
	DefaultBlockSize = 64 << 10
	MinBlockSize     = sums.MinBlockSize
	MaxBlockSize     = sums.MaxBlockSize
)

// blockSize is n, or the default for 0.
func blockSize(n int) (int, error) {
	if n == 0 {
		return DefaultBlockSize, nil
	}
	if n < MinBlockSize || n > MaxBlockSize || n&(n-1) != 0 {
		return 0, fmt.Errorf("block size %d is not a power of two from %d to %d", n, MinBlockSize, MaxBlockSize)
	}
	return n, nil
}

// Options say what package is to be made.
type Options struct {
	Description []byte // xvm.xml, or a libvirt domain
	Inputs      []Input
	Profile     []byte    // boot profile; nil: none
	Release     string    // guid of the one release the package is for; "": not said
	Time        time.Time // of all members; whole seconds
	Compress    bool      // images become gzip members, one for each block
	Level       int       // of compression, 1 to 9; 0: 6
	BlockSize   int       // 0: DefaultBlockSize
	Workers     int       // 0: one for each core
	Sign        Sign      // nil: nothing is signed
	TempDir     string    // for a file as large as all stored images; "": that of the system
	// Progress, if not nil, is called with the plain bytes read so far.
	Progress func(done int64)
}

// Result is what was made.
type Result struct {
	Size     int64 // of the package, bytes
	Images   []ResultImage
	Warnings []string
}

// ResultImage is an image of the package.
type ResultImage struct {
	Name   string // of the plain content
	Member string // that holds it
	Size   int64  // bytes, plain
	Stored int64
}

// Pack makes a package and writes it to w. After an error what was written is
// worthless.
func Pack(ctx context.Context, w io.Writer, o Options) (*Result, error) {
	p := &packer{o: o, result: &Result{}}
	if err := p.check(); err != nil {
		return nil, err
	}
	var err error
	if p.images, err = newSpool(o.TempDir); err != nil {
		return nil, err
	}
	defer p.images.Close()
	lists, err := newSpool(o.TempDir)
	if err != nil {
		return nil, err
	}
	defer lists.Close()
	listed := lists.newMember(xvm.BlockListName)
	p.list = xvm.NewBlockListWriter(listed)
	for i := range o.Inputs {
		if err := p.image(ctx, &o.Inputs[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Inputs[i].Name, err)
		}
	}
	if err := p.list.Close(); err != nil {
		return nil, err
	}
	list, err := listed.finish()
	if err != nil {
		return nil, err
	}
	if err := checkProfile(p.o.Profile, p.plain); err != nil {
		return nil, err
	}
	a := &archiveWriter{w: w, time: o.Time}
	if err := errors.Join(p.images.rewind(), lists.rewind()); err != nil {
		return nil, err
	}
	if err := p.write(ctx, a, list, lists); err != nil {
		return nil, err
	}
	p.result.Size = a.n
	return p.result, nil
}

type packer struct {
	o           Options
	description string // its name
	images      *spool
	members     []member
	list        *xvm.BlockListWriter
	manifest    manifest
	plain       map[string]int64 // sizes of plain images
	result      *Result
}

// check refuses what can be refused before the work begins.
func (p *packer) check() error {
	var err error
	if p.o.BlockSize, err = blockSize(p.o.BlockSize); err != nil {
		return err
	}
	if p.o.Time.Unix() < 0 || p.o.Time.Year() > 9999 {
		return fmt.Errorf("time %s cannot be that of a member", p.o.Time)
	}
	if p.o.Progress == nil {
		p.o.Progress = func(int64) {}
	}
	if p.o.Release != "" {
		if p.manifest, err = xvm.AppendRelease(p.manifest, p.o.Release); err != nil {
			return err
		}
	}
	d, err := xvm.ParseDescription(p.o.Description)
	if err != nil {
		return err
	}
	switch d.Kind {
	case "xvm":
		p.description = "xvm.xml"
	case "libvirt":
		p.description = "description.xml"
	default:
		return fmt.Errorf("%w: it is neither an xvm.xml nor a libvirt domain", xvm.ErrDescription)
	}
	p.result.Warnings = append(p.result.Warnings, d.Warnings...)
	if len(p.o.Inputs) == 0 {
		return errors.New("a package needs an image at least")
	}
	// The names of members, and of the plain content of those compressed: a
	// mount shows both.
	names := []string{p.description, xvm.ManifestName, xvm.ManifestSignatureName, xvm.DescriptionSignatureName, xvm.BlockListName, xvm.ProfileName}
	files := make(map[string]bool)
	for i := range p.o.Inputs {
		in := &p.o.Inputs[i]
		stored, plain, _ := p.names(in)
		names = append(names, stored)
		files[stored] = true
		if plain != stored {
			names = append(names, plain)
			files[plain] = true
		}
	}
	if err := checkNames(names); err != nil {
		return err
	}
	wanted := []string{d.Kernel, d.Ramdisk}
	for _, drive := range d.Drives {
		wanted = append(wanted, drive.File)
	}
	for _, name := range wanted {
		if name != "" && !files[name] {
			p.result.Warnings = append(p.result.Warnings, fmt.Sprintf("%s names %q, which is not among the images", p.description, name))
		}
	}
	p.plain = make(map[string]int64)
	return nil
}

// checkProfile refuses a profile of other images.
func checkProfile(profile []byte, sizes map[string]int64) error {
	if profile == nil {
		return nil
	}
	reads, err := xvm.ParseProfile(profile)
	if err != nil {
		return err
	}
	for _, r := range reads {
		size, ok := sizes[r.Image]
		switch {
		case !ok:
			return fmt.Errorf("%w: %q is not among the images", xvm.ErrProfile, r.Image)
		case r.Off+r.Len > size:
			return fmt.Errorf("%w: %d bytes at %d of %q, which has %d", xvm.ErrProfile, r.Len, r.Off, r.Image, size)
		}
	}
	return nil
}

// write writes the archive, what describes the rest first.
func (p *packer) write(ctx context.Context, a *archiveWriter, list member, lists *spool) error {
	m := p.manifest
	m.bytes(p.description, p.o.Description)
	m.add(list.name, list.sha1.Got(), list.sha256.Got())
	if p.o.Profile != nil {
		m.bytes(xvm.ProfileName, p.o.Profile)
	}
	for _, image := range p.members {
		m.add(image.name, image.sha1.Got(), image.sha256.Got())
	}
	if err := a.bytes(p.description, p.o.Description); err != nil {
		return err
	}
	if err := a.bytes(xvm.ManifestName, m); err != nil {
		return err
	}
	if err := p.signatures(ctx, a, m); err != nil {
		return err
	}
	if err := a.member(list.name, list.size, lists.File); err != nil {
		return err
	}
	if p.o.Profile != nil {
		if err := a.bytes(xvm.ProfileName, p.o.Profile); err != nil {
			return err
		}
	}
	for _, image := range p.members {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.member(image.name, image.size, p.images.File); err != nil {
			return err
		}
	}
	return a.end()
}

func (p *packer) signatures(ctx context.Context, a *archiveWriter, m []byte) error {
	if p.o.Sign == nil {
		return nil
	}
	for _, s := range []struct {
		name   string
		signed []byte
	}{{xvm.ManifestSignatureName, m}, {xvm.DescriptionSignatureName, p.o.Description}} {
		signature, err := p.o.Sign(ctx, bytes.Clone(s.signed), p.o.Time)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		if err := a.bytes(s.name, signature); err != nil {
			return err
		}
	}
	return nil
}
