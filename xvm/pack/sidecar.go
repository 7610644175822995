package pack

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// IndexOptions say how to make a sidecar.
type IndexOptions struct {
	CheckOptions
	BlockSize int       // 0: DefaultBlockSize
	Time      time.Time // of all members; zero: that of the package's newest file
	Sign      Sign      // nil: not signed
	Profile   []byte    // boot profile; nil: none
	TempDir   string    // for the block list; "": that of the system
}

// ErrFaults says that the package has faults, so that no sidecar was written.
var ErrFaults = errors.New("the package has faults")

// ErrListed says that the package has a block list of its own, and that nobody
// would use a sidecar: a trusted key signed the package, or none would sign that.
var ErrListed = errors.New("the package has a block list of its own: a sidecar would add nothing, but where no trusted key signed the package and one signs the sidecar")

// Index reads a package whole as [Check] does and, if it has no fault, writes a
// sidecar to w. With [ErrFaults] the report says which. A block list of the
// package's own is then a file as any other: it proves nothing in the sidecar.
func Index(ctx context.Context, a Archive, size int64, w io.Writer, o IndexOptions) (*Report, error) {
	var err error
	if o.BlockSize, err = blockSize(o.BlockSize); err != nil {
		return nil, err
	}
	if o.Profile != nil {
		if _, err := xvm.ParseProfile(o.Profile); err != nil {
			return nil, err
		}
	}
	c := newChecker(a, size, o.CheckOptions)
	c.collect = &collector{blockSize: o.BlockSize, whole: sums.NewDigest(sums.Sum{Algo: sums.SHA256}), points: make(map[string][]byte)}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	c.report.SHA256 = c.collect.whole.Got()
	switch {
	case len(c.report.Faults) > 0:
		return c.report, ErrFaults
	case c.listed() && (o.Sign == nil || c.verdict.By == xvm.ByPublisher):
		return c.report, ErrListed
	}
	return c.report, c.writeSidecar(ctx, w, o)
}

func (c *checker) writeSidecar(ctx context.Context, w io.Writer, o IndexOptions) error {
	sizes := make(map[string]int64)
	for _, image := range c.collect.images {
		sizes[image.name] = image.table.Size()
	}
	if err := checkProfile(o.Profile, sizes); err != nil {
		return err
	}
	if o.Time.IsZero() {
		o.Time = c.newest()
	}
	about, err := c.about()
	if err != nil {
		return err
	}
	lists, blocks, err := spoolList(o.TempDir, func(list *xvm.BlockListWriter) error {
		for _, image := range c.collect.images {
			if !image.table.Complete() {
				continue
			}
			if err := listTable(list, image.name, image.table); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer lists.Close()
	sidecar := listing{time: o.Time, parts: []part{inMemory(xvm.SidecarPackage, about)}, sign: o.Sign}
	if o.Profile != nil {
		sidecar.parts = append(sidecar.parts, inMemory(xvm.ProfileName, o.Profile))
	}
	sidecar.parts = append(sidecar.parts, blocks)
	for _, name := range slices.Sorted(maps.Keys(c.collect.points)) {
		sidecar.parts = append(sidecar.parts, inMemory(xvm.SidecarPoints+name, c.collect.points[name]))
	}
	_, err = sidecar.write(ctx, w)
	return err
}

// newest is the time of the package's newest file, as far as that is possible.
func (c *checker) newest() time.Time {
	newest := time.Unix(0, 0)
	for _, m := range c.index.Members {
		if m.ModTime.After(newest) && m.ModTime.Before(c.o.Now) {
			newest = m.ModTime
		}
	}
	return newest
}

// about is package.txt.
func (c *checker) about() ([]byte, error) {
	whole, err := hex.DecodeString(c.report.SHA256)
	if err != nil {
		return nil, err
	}
	s := xvm.Sidecar{Size: c.size, SHA256: [32]byte(whole)}
	sums := make(map[string]xvm.SidecarMember)
	for _, f := range c.collect.files {
		sums[f.Name] = f
	}
	for _, m := range c.index.Members {
		f := sums[m.Name]
		if m.Link != "" {
			f = sums[m.Link]
		}
		s.Members = append(s.Members, xvm.SidecarMember{Name: m.Name, Size: m.Size, SHA256: f.SHA256})
	}
	return s.AppendPackage(nil)
}

// collector is what Index finds out beside.
type collector struct {
	blockSize int
	whole     *sums.Digest // of the archive
	files     []xvm.SidecarMember
	images    []collectedImage
	points    map[string][]byte
}

type collectedImage struct {
	name  string
	table *sums.Table
}

func (c *collector) file(name string, size int64, d *sums.Digest) error {
	sum, err := hex.DecodeString(d.Got())
	c.files = append(c.files, xvm.SidecarMember{Name: name, Size: size, SHA256: [32]byte(sum)})
	return err
}
