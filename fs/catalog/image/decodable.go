package image

import (
	"context"
	"errors"
	"fmt"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/seekable"
)

// CheckDecodable looks at the first bytes of what the image is inflated from, if
// there are kinds of its format that are not supported, and keeps what it finds.
// The error wraps seekable.ErrUnsupported or seekable.ErrLimit; nil also if the
// bytes cannot be had now.
func (im *Image) CheckDecodable(ctx context.Context) error {
	if im.base == nil || !im.member.Format.MayRefuse() {
		return nil
	}
	if why := im.undecodable.Load(); why != nil {
		return *why
	}
	file, err := im.base.Acquire(ctx)
	if err != nil {
		return nil
	}
	defer im.base.Drop()
	if (im.set.Strict || im.base.checks.mode() == strictMode) && file.State() != store.Verified {
		return nil // all of it would be waited for
	}
	head, err := readEnd(cache.Narrowly(ctx), file, min(im.base.Size(), seekable.HeadMax), 0)
	if err != nil {
		return nil
	}
	return im.keepUndecodable(im.member.Format.Refuse(head))
}

// keepUndecodable keeps err if it says that the image cannot be inflated here, and
// returns it with the image's name.
func (im *Image) keepUndecodable(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", im.base.label(), err)
	if errors.Is(err, seekable.ErrUnsupported) || errors.Is(err, seekable.ErrLimit) {
		im.undecodable.Store(&err)
	}
	return err
}
