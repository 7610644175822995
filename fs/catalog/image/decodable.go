package image

import (
	"context"

	"vmcastfs/cache"
	"vmcastfs/xvm/seekable"
)

// CheckDecodable looks at the first bytes of what the image is inflated from, and
// keeps what it finds. It does so if there are kinds of the format that are not
// supported. The error wraps seekable.ErrUnsupported or seekable.ErrLimit; nil
// also if the bytes cannot be had now.
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
	if im.base.waits(file) {
		return nil
	}
	head, err := readEnd(cache.Narrowly(ctx), file, min(im.base.Size(), seekable.HeadMax), 0)
	if err != nil {
		return nil
	}
	return im.keepUndecodable(im.member.Format.Refuse(head))
}
