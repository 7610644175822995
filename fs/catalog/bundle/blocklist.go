package bundle

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// ownList is the ID of a package's own block list: its identity is that of the
// package.
const ownList = "own"

// ownBlocks is what the images are checked against by the block list of the
// package itself, which list is and m lists. l has what is known of it already.
func ownBlocks(env *Env, label, origin string, list *image.Image, m *xvm.Manifest, l *learned) *image.BlockSums {
	return image.NewBlockSums(image.ListSpec{
		Label: label, ID: ownList, Own: true, Origin: origin, Text: list.Size(), Data: l.doc.Data, DataFound: l.setData,
		Load: func(ctx context.Context, room func(int64) error) (*image.List, error) {
			parsed, err := readBlockList(ctx, list, m, room)
			if err != nil {
				return nil, err
			}
			return &image.List{Blocks: parsed, Text: func(ctx context.Context, off int64, n int) ([]byte, error) {
				file, err := list.Acquire(ctx)
				if err != nil {
					return nil, err
				}
				defer list.Drop()
				return readFull(ctx, file, off, n)
			}}, nil
		},
	}, env.Images.Lists, env.Images.Go)
}

// readFull reads n bytes of a file of the cache.
func readFull(ctx context.Context, file *cache.File, off int64, n int) ([]byte, error) {
	p := make([]byte, n)
	if k, err := file.ReadAt(cache.Narrowly(ctx), p, off); k < n {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return p, nil
}

// readBlockList reads a package's own block list. Nothing of it is believed before
// the whole has matched the manifest.
func readBlockList(ctx context.Context, list *image.Image, m *xvm.Manifest, room func(int64) error) (*xvm.BlockList, error) {
	file, err := list.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer list.Drop()
	in := &digestReader{r: io.NewSectionReader(archive.ReaderAt(ctx, file), 0, list.Size())}
	whole := slices.DeleteFunc(m.Sums(xvm.BlockListName), func(s sums.Sum) bool { return s.Prefix != 0 })
	in.sums = sums.NewDigests(whole)
	parsed, parseErr := xvm.OutlineBlockList(bufio.NewReaderSize(in, int(min(list.Size(), 256<<10))), room)
	if in.err != nil {
		return nil, in.err // of the network, or it is known to be corrupt
	}
	if parseErr != nil { // the sums tell why, if they can
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, err
		}
	}
	if _, _, mismatch := in.sums.Compare(); mismatch != "" {
		if err := file.Complete(ctx); err != nil { // which makes that official
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", cache.ErrCorrupt, mismatch)
	}
	return parsed, parseErr
}
