package bundle

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// ownList is the ID of a package's own block list: its identity is that of the
// package.
const ownList = "own"

// ownBlocks is what the images are checked against by the block list of the
// package itself, which list is.
func ownBlocks(env *Env, label string, list *image.Image, sums *xvm.Manifest) *image.BlockSums {
	return image.NewBlockSums(image.ListSpec{
		Label: label, ID: ownList, Own: true, Text: list.Size(), Most: image.ListBytes(list.Size()),
		Load: func(ctx context.Context) (*xvm.BlockList, map[string][]byte, error) {
			parsed, err := readBlockList(ctx, list, sums)
			return parsed, nil, err
		},
	}, env.Images.Lists, env.Images.Go)
}

// readBlockList reads a package's own block list. Nothing of it is believed before
// the whole has matched the manifest.
func readBlockList(ctx context.Context, list *image.Image, m *xvm.Manifest) (*xvm.BlockList, error) {
	file, err := list.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer list.Drop()
	in := &digestReader{r: io.NewSectionReader(archive.ReaderAt(ctx, file), 0, list.Size())}
	var sums []xvm.Sum
	for _, s := range m.Sums(xvm.BlockListName) {
		if s.Prefix != 0 {
			continue
		}
		h := s.NewHash()
		if h == nil {
			return nil, fmt.Errorf("unknown digest %q", s.Algo)
		}
		sums, in.hashes = append(sums, s), append(in.hashes, h)
	}
	parsed, parseErr := xvm.ParseBlockList(bufio.NewReaderSize(in, 1<<20))
	if in.err != nil {
		return nil, in.err // of the network, or it is known to be corrupt
	}
	if parseErr != nil { // the sums tell why, if they can
		if _, err := io.Copy(io.Discard, in); err != nil {
			return nil, err
		}
	}
	for i, h := range in.hashes {
		if got := hex.EncodeToString(h.Sum(nil)); got != sums[i].Hex {
			if err := file.Complete(ctx); err != nil { // which makes that official
				return nil, err
			}
			return nil, fmt.Errorf("%w: %s is %s, the manifest says %s", cache.ErrCorrupt, sums[i].Algo, got, sums[i].Hex)
		}
	}
	return parsed, parseErr
}
