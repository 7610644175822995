package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
)

// tell says it to the package if a read of the file ended with a block that does not match.
func (s *Set) tell(name string, err error) error {
	if _, bad := errors.AsType[*cache.BlockError](err); bad {
		s.Mismatch(name)
	}
	return err
}

// Sample fetches some blocks, as the server has them now, and compares them with the block
// list. It returns how many were compared: none if there is no list, or if nothing in
// it can be fetched by itself. What is in the cache is not looked at. An error is that of a
// fetch, or a *cache.BlockError.
func (im *Image) Sample(ctx context.Context, most int) (compared int, err error) {
	if im.set.Blocks == nil {
		return 0, nil
	}
	if err := im.set.Blocks.Hold(ctx); err != nil {
		return 0, err
	}
	defer im.set.Blocks.LetGo()
	listed, err := im.listed(im.Size())
	if err != nil || listed == nil || im.base != nil && listed.Member == "" {
		return 0, err
	}
	r := recipeWith(im, listed.Size, listed)
	spec, err := r.open()
	if err != nil {
		return 0, err
	}
	defer r.close()
	bs, blocks := int64(listed.BlockSize), listed.Blocks()
	if blocks == 0 {
		return 0, nil
	}
	start := rand.Int64N(blocks)
	for i := int64(0); i < blocks && i < maxLook && compared < most; i++ {
		b := (start + i*max(1, blocks/int64(4*most)) + i/int64(4*most)) % blocks
		if zero, ok := listed.Known(b); zero || !ok {
			continue
		}
		want, err := listed.Sum(ctx, b)
		if err != nil {
			return compared, fmt.Errorf("%s: %w", im.label(), err)
		}
		if err := sampleBlock(ctx, spec.Source, b, bs, min(bs, listed.Size-b*bs), want); err != nil {
			return compared, fmt.Errorf("%s: %w", im.label(), err)
		}
		compared++
	}
	return compared, nil
}

// maxLook bounds how many blocks are looked at in search of some that hold data.
const maxLook = 1 << 16

func sampleBlock(ctx context.Context, from source.Source, b, bs, n int64, want [32]byte) error {
	body, err := from.Fetch(ctx, b*bs, n, source.Background)
	if err != nil {
		return err
	}
	defer body.Close()
	p := make([]byte, n)
	if _, err := io.ReadFull(body, p); err != nil {
		return err
	}
	if got := sha256.Sum256(p); got != want {
		return &cache.BlockError{Block: b, Off: b * bs, Got: got, Want: want}
	}
	return nil
}
