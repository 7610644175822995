package pack

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vmcastfs/xvm"
)

// listed tells whether the package has a block list of its own.
func (c *checker) listed() bool { return c.byName[xvm.BlockListName] != nil }

// readList reads the package's own block list, if it is what counts. It is
// hashed with all other members later on.
func (c *checker) readList(ctx context.Context) error {
	use, why := c.verdict.OwnBlockList()
	if why != "" {
		c.report.warn("%s is not used: %s", xvm.BlockListName, why)
	}
	if !use || c.collect != nil {
		return nil
	}
	m := c.byName[xvm.BlockListName]
	body, err := c.archive.Stream(ctx, m.Offset, m.Stored)
	if err != nil {
		return fmt.Errorf("read %s: %w", m.Name, err)
	}
	defer body.Close()
	list, err := xvm.ParseBlockList(io.LimitReader(body, m.Stored))
	switch {
	case errors.Is(err, xvm.ErrBlockList):
		c.report.fault("%s: %v", m.Name, err)
		return nil
	case err != nil:
		return err
	}
	c.list = list
	for _, image := range list.Images() {
		stored := image.Member
		if stored == "" {
			if c.byName[image.Name] == nil && c.plain[image.Name] == nil {
				c.report.fault("%s lists %q, which is not in the archive", m.Name, image.Name)
			}
			continue
		}
		switch in := c.byName[stored]; {
		case in == nil:
			c.report.fault("%s lists %q in %q, which is not in the archive", m.Name, image.Name, stored)
		case in.Size != image.Stored:
			c.report.fault("%s lists blocks of %d bytes in %q, which has %d", m.Name, image.Stored, stored, in.Size)
		}
	}
	return nil
}
