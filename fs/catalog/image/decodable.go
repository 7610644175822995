package image

import (
	"context"

	"vmcastfs/cache"
	"vmcastfs/xvm/seekable"
)

// CheckDecodable looks at the first bytes of what the image is inflated from, and
// keeps what speaks against it. It does so if there are kinds of the format that
// are not supported. The error wraps seekable.ErrUnsupported or seekable.ErrLimit.
// Seen is false if the bytes were not looked at, or cannot be had now.
func (im *Image) CheckDecodable(ctx context.Context) (seen bool, err error) {
	if im.base == nil || !im.member.Format.MayRefuse() {
		return false, nil
	}
	if why := im.undecodable.Load(); why != nil {
		return true, *why
	}
	file, err := im.base.Acquire(ctx)
	if err != nil {
		return false, nil
	}
	defer im.base.Drop()
	if im.base.Waits(file) {
		return false, nil
	}
	head, err := readEnd(cache.Narrowly(ctx), file, min(im.base.Size(), seekable.HeadMax), 0)
	if err != nil {
		return false, nil
	}
	return true, im.keepUndecodable(im.member.Format.Refuse(head))
}
