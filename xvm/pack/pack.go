package pack

import (
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
	lists, list, err := spoolList(o.TempDir, func(l *xvm.BlockListWriter) error {
		p.list = l
		for i := range o.Inputs {
			if err := p.image(ctx, &o.Inputs[i]); err != nil {
				return fmt.Errorf("%s: %w", o.Inputs[i].Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer lists.Close()
	if err := checkProfile(p.o.Profile, p.plain); err != nil {
		return nil, err
	}
	if err := p.images.rewind(); err != nil {
		return nil, err
	}
	archive := listing{
		time: o.Time, manifest: p.manifest, parts: []part{inMemory(p.description, o.Description), list},
		sign: o.Sign, signed: []text{{xvm.DescriptionSignatureName, o.Description}},
	}
	if o.Profile != nil {
		archive.parts = append(archive.parts, inMemory(xvm.ProfileName, o.Profile))
	}
	for _, image := range p.members {
		archive.parts = append(archive.parts, image.part(p.images))
	}
	p.result.Size, err = archive.write(ctx, w)
	return p.result, err
}

type packer struct {
	o           Options
	description string // its name
	images      *spool
	members     []member
	list        *xvm.BlockListWriter
	manifest    []byte           // how it begins
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
