package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// Names of members, beside those of package xvm.
const (
	ManifestName             = "manifest.txt"
	ManifestSignatureName    = "mf-signature.asc"
	DescriptionSignatureName = "signature.asc"
)

// Block sizes: powers of two between the bounds.
const (
	DefaultBlockSize = 64 << 10
	MinBlockSize     = xvm.MinBlockSize
	MaxBlockSize     = xvm.MaxBlockSize
)

// Input is a file to be put into a package.
type Input struct {
	Name    string    // of the plain image, or of one that is compressed already
	Size    int64     // bytes
	Content io.Reader // exactly Size bytes; read once
	Plain   bool      // never to be compressed, whatever Options say
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
	if p.o.BlockSize == 0 {
		p.o.BlockSize = DefaultBlockSize
	}
	if n := p.o.BlockSize; n < MinBlockSize || n > MaxBlockSize || n&(n-1) != 0 {
		return fmt.Errorf("block size %d is no power of two from %d to %d", n, MinBlockSize, MaxBlockSize)
	}
	if p.o.Time.Unix() < 0 || p.o.Time.Year() > 9999 {
		return fmt.Errorf("time %s cannot be that of a member", p.o.Time)
	}
	if p.o.Progress == nil {
		p.o.Progress = func(int64) {}
	}
	if p.o.Release != "" {
		var err error
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
	names := []string{p.description, ManifestName, ManifestSignatureName, DescriptionSignatureName, xvm.BlockListName, xvm.ProfileName}
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

// names are those of an input as stored and plain; format is that of an input
// which is compressed already.
func (p *packer) names(in *Input) (stored, plain string, format seekable.Format) {
	format, plain = seekable.PlainName(in.Name)
	switch {
	case format != "":
		return in.Name, plain, format
	case p.o.Compress && !in.Plain && in.Size > 0:
		return in.Name + ".gz", in.Name, ""
	}
	return in.Name, in.Name, ""
}

// image stores one input and lists its blocks.
func (p *packer) image(ctx context.Context, in *Input) (err error) {
	stored, plain, format := p.names(in)
	begin := &head{}
	content := &reader{ctx: ctx, r: io.TeeReader(in.Content, begin), name: in.Name, left: in.Size, told: p.o.Progress}
	size := in.Size
	var m member
	switch {
	case format != "":
		begin = &head{}
		m, size, err = p.compressed(ctx, content, begin, stored, plain, format)
	case stored != plain:
		m, err = p.blockwise(content, stored, plain, size)
	default:
		m, err = p.uncompressed(content, plain, size)
	}
	if err != nil {
		return err
	}
	p.members = append(p.members, m)
	p.plain[plain] = size
	if text := begin.warning(plain); text != "" {
		p.result.Warnings = append(p.result.Warnings, text)
	}
	p.result.Images = append(p.result.Images, ResultImage{Name: plain, Member: stored, Size: size, Stored: m.size})
	return nil
}

// uncompressed stores an image as it is.
func (p *packer) uncompressed(content io.Reader, name string, size int64) (member, error) {
	if err := p.list.Begin(name, "", size, p.o.BlockSize); err != nil {
		return member{}, err
	}
	blocks := newBlockHasher(p.o.BlockSize, func(sum [32]byte, zero bool) error {
		if zero {
			return p.list.Zero(0)
		}
		return p.list.Block(sum, 0)
	})
	w := p.images.newMember(name, blocks)
	if _, err := io.Copy(w, content); err != nil {
		return member{}, err
	}
	m, err := w.finish()
	if err != nil {
		return member{}, err
	}
	return m, blocks.finish()
}

// blockwise compresses an image, each block on its own.
func (p *packer) blockwise(content io.Reader, stored, plain string, size int64) (member, error) {
	if err := p.list.Begin(plain, stored, size, p.o.BlockSize); err != nil {
		return member{}, err
	}
	w := p.images.newMember(stored)
	z, err := seekable.NewMemberWriter(w, seekable.MemberOptions{
		BlockSize: p.o.BlockSize, Level: p.o.Level, Workers: p.o.Workers,
		Done: func(b seekable.Member) error {
			if b.Zero {
				return p.list.Zero(b.Stored)
			}
			return p.list.Block(b.Sum, b.Stored)
		},
	})
	if err != nil {
		return member{}, err
	}
	_, err = io.CopyBuffer(z, content, make([]byte, chunk))
	if err := errors.Join(err, z.Close()); err != nil {
		return member{}, err
	}
	return w.finish()
}

// compressed stores what is compressed already, and decodes it for its blocks.
func (p *packer) compressed(ctx context.Context, content io.Reader, begin *head, stored, plain string, format seekable.Format) (member, int64, error) {
	w := p.images.newMember(stored)
	if _, err := io.Copy(w, content); err != nil {
		return member{}, 0, err
	}
	m, err := w.finish()
	if err != nil {
		return member{}, 0, err
	}
	r, err := seekable.Open(format, section{p.images.File, m.off, m.size}, m.size, seekable.Options{})
	if err != nil {
		return member{}, 0, err
	}
	defer r.Close()
	s, err := r.Stream(ctx, 0)
	if err != nil {
		return member{}, 0, err
	}
	defer s.Close()
	var sums blockSums
	blocks := newBlockHasher(p.o.BlockSize, sums.add)
	size, err := io.CopyBuffer(fan{blocks, begin}, s, make([]byte, chunk))
	if err == nil {
		err = blocks.finish()
	}
	if err == nil {
		err = sums.list(p.list, plain, size, p.o.BlockSize)
	}
	return m, size, err
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
	m.add(list.name, list.sha1.hex(), list.sha256.hex())
	if p.o.Profile != nil {
		m.bytes(xvm.ProfileName, p.o.Profile)
	}
	for _, image := range p.members {
		m.add(image.name, image.sha1.hex(), image.sha256.hex())
	}
	if err := a.bytes(p.description, p.o.Description); err != nil {
		return err
	}
	if err := a.bytes(ManifestName, m); err != nil {
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
	}{{ManifestSignatureName, m}, {DescriptionSignatureName, p.o.Description}} {
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
