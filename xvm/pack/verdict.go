package pack

import "vmcastfs/xvm"

// conclude joins what was found of the files: a block list proves something if
// it is proven itself, plain content is what its member inflates to, a link is
// what it leads to.
func (c *checker) conclude() {
	list := c.report.file(xvm.BlockListName)
	proven := c.sidecar != nil || list != nil && list.State == Verified
	if c.list != nil && !proven {
		c.report.warn("nothing covers %s, so that it proves nothing", xvm.BlockListName)
	}
	for i := range c.report.Files {
		if f := &c.report.Files[i]; f.listed != "" && proven && c.sidecar == nil {
			f.proof("%s in %s", f.listed, xvm.BlockListName)
		} else if f.listed != "" && proven {
			f.proof("%s", c.sidecarProof(f.listed+" in the sidecar"))
		}
	}
	for _, m := range c.index.Members {
		if f, target := c.report.file(m.Name), c.report.file(m.Link); m.Link != "" && f != nil && f.State == Unverified && target != nil && target.State == Verified {
			f.proof("the same file as %s", m.Link)
		}
	}
	for i := range c.report.Files {
		f := &c.report.Files[i]
		if f.From == "" {
			continue
		}
		switch from := c.report.file(f.From); {
		case f.State != Corrupt && f.Size >= 0 && from.State == Verified: // nobody knows what it would be otherwise
			f.proof("inflated from %s", f.From)
		case f.State == Verified && from.State == Unverified:
			from.proof("it inflates to %s", f.Name)
		}
	}
	for i := range c.report.Files {
		f := &c.report.Files[i]
		for _, fault := range f.Faults {
			c.report.fault("%s: %s", f.Name, fault)
		}
		if c.verdict.Refused != "" {
			continue // which has been told
		}
		s := c.standing(f)
		if c.o.RequireSigned && s.By == xvm.BySidecar && f.State == Unverified {
			s.Refused = "the sidecar, which alone vouches for it, has no blocks of it"
		}
		if s.Refused != "" {
			f.Refused = s.Refused
		}
		if f.Refused != "" {
			c.report.fault("%s: %s", f.Name, f.Refused)
		}
	}
}
