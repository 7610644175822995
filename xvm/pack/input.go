package pack

import (
	"context"
	"errors"
	"io"

	"vmcastfs/xvm/seekable"
	"vmcastfs/xvm/sums"
)

// Input is a file to be put into a package.
type Input struct {
	Name    string    // of the plain image, or of one that is compressed already
	Size    int64     // bytes
	Content io.Reader // exactly Size bytes; read once
	Plain   bool      // never to be compressed, whatever Options say
}

// names are those of an input as stored and plain; format is that of an input
// which is compressed already.
func (p *packer) names(in *Input) (stored, plain string, format seekable.Format) {
	format, plain = seekable.PlainName(in.Name)
	switch {
	case format != "":
		return in.Name, plain, format
	case p.o.Compress && !in.Plain && in.Size > 0:
		return in.Name + seekable.Gzip.Suffix(), in.Name, ""
	}
	return in.Name, in.Name, ""
}

// image stores one input and lists its blocks.
func (p *packer) image(ctx context.Context, in *Input) (err error) {
	stored, plain, format := p.names(in)
	begin := &head{}
	content := &reader{ctx: ctx, r: io.TeeReader(in.Content, begin), name: in.Name, left: in.Size, progress: p.o.Progress}
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
	blocks := sums.NewHasher(p.o.BlockSize, func(sum [32]byte, zero bool) error {
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
	return m, blocks.Finish()
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
	table := sums.NewTable(sums.Unknown, p.o.BlockSize)
	blocks := tableHasher(table)
	size, err := io.CopyBuffer(fan{blocks, begin}, s, make([]byte, chunk))
	if err == nil {
		err = blocks.Finish()
	}
	if err == nil {
		table.End(size)
		err = listTable(p.list, plain, table)
	}
	return m, size, err
}
