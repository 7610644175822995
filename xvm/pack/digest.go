package pack

import (
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// chunk is how much is read and hashed at a time.
const chunk = 1 << 20

// fan gives each chunk to all writers at once.
type fan []io.Writer

func (f fan) Write(p []byte) (int, error) {
	if len(f) == 0 {
		return len(p), nil
	}
	var g errgroup.Group
	for _, w := range f[1:] {
		g.Go(func() error {
			_, err := w.Write(p)
			return err
		})
	}
	_, first := f[0].Write(p)
	if err := g.Wait(); first == nil {
		first = err
	}
	if first != nil {
		return 0, first
	}
	return len(p), nil
}

// tableHasher cuts what is written to it into the blocks of a table.
func tableHasher(t *sums.Table) *sums.Hasher {
	return sums.NewHasher(t.BlockSize(), func(sum [32]byte, zero bool) error {
		if !t.Append(sum, zero) {
			return fmt.Errorf("more than %d blocks, or %d of them not zeros", sums.MaxBlocks, sums.MaxSums)
		}
		return nil
	})
}

// listTable writes a complete table as an image without a member.
func listTable(w *xvm.BlockListWriter, name string, t *sums.Table) error {
	if err := w.Begin(name, "", t.Size(), t.BlockSize()); err != nil {
		return err
	}
	for b := range t.Len() {
		sum, zero, _ := t.Sum(b)
		var err error
		if zero {
			err = w.Zero(0)
		} else {
			err = w.Block(sum, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
