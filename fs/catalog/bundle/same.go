package bundle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// Check asks whether the archive is still there as it was: nil, remote.ErrChanged, or why
// that cannot be told now. Another validator is none of that if blocks match the list. Nor is
// it that there is none any more, if the archive is described as before: that is compared
// each time, as nothing else would tell another archive.
func (p *Package) Check(ctx context.Context) error {
	err := p.archive.Check(ctx)
	if errors.Is(err, remote.ErrChanged) || errors.Is(err, remote.ErrProtocol) || err == nil && p.blocks == nil && p.archive.Unlabelled() {
		// An answer that lacks the validators says nothing, but another manifest does.
		if other := p.proven(ctx); other == nil || errors.Is(other, remote.ErrChanged) {
			return other
		}
	}
	return err
}

// unchanged compares a member that describes others.
func (p *Package) unchanged(ctx context.Context, m xvm.Member) error {
	known, ok := p.doc.Meta[m.Name]
	if !ok {
		return nil
	}
	from, _ := archive.Member(p.content.Proven(), m)
	body, err := from.Fetch(ctx, 0, m.Size, source.Background)
	if err != nil {
		return err
	}
	defer body.Close()
	now := make([]byte, len(known))
	if _, err := io.ReadFull(body, now); err != nil || !bytes.Equal(now, known) {
		return fmt.Errorf("%s is another one, or cannot be read: %w", m.Name, cmp.Or(err, remote.ErrChanged))
	}
	return nil
}

// samples is how many blocks tell whether what has another validator is the same archive.
const samples = 8

// proven compares what describes the package, and some blocks, as the server has them now,
// with what is known. It takes the other validator for the archive's if they match. A package
// that was made anew has another manifest, however few blocks differ.
func (p *Package) proven(ctx context.Context) error {
	for _, m := range p.doc.Index.Members {
		if err := p.unchanged(ctx, m); err != nil {
			return err
		}
	}
	compared := 0
	for _, f := range p.files { // in whatever order
		im := f.image()
		if im == nil || compared == samples {
			continue
		}
		n, err := im.Sample(ctx, min(samples-compared, max(2, samples/len(p.files))))
		if err != nil {
			return err
		}
		compared += n
	}
	if compared == 0 {
		if err := p.describedAsBefore(ctx); err != nil {
			return err
		}
	}
	p.archive.Adopt()
	return nil
}

// describedAsBefore takes the place of blocks where there is no list of them, and the server
// has lost all validators. Every header of the archive is read once more and compared, and the
// manifest that was compared already must have sums of all else. So the archive is the same, or
// one whose publisher says that it is; an image that is none of both does not match its sum in
// the end. A validator that differs is another matter: it says that the bytes do.
func (p *Package) describedAsBefore(ctx context.Context) error {
	sums := p.shared.verdict().Sums
	if !p.archive.Unlabelled() || sums == nil || p.doc.Inflate != "" || slices.ContainsFunc(p.doc.Index.Members, func(m xvm.Member) bool {
		return !m.IsMeta() && len(sums.Sums(m.Name)) == 0
	}) {
		return errors.New("there is no block list that tells")
	}
	size, err := p.content.Size(ctx)
	if err != nil {
		return err
	}
	now, err := readDoc(ctx, p.archive, size, func() {})
	if err != nil {
		return err
	}
	was, err := json.Marshal(p.doc.Index)
	if err != nil {
		return err
	}
	if is, err := json.Marshal(now.Index); err != nil || !bytes.Equal(is, was) {
		return fmt.Errorf("its headers are other ones: %w", cmp.Or(err, remote.ErrChanged))
	}
	return nil
}
