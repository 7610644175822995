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
	for i := range c.report.Files {
		f := &c.report.Files[i]
		if f.From == "" {
			continue
		}
		switch from := c.report.file(f.From); {
		case f.State != Corrupt && from.State == Verified:
			f.proof("inflated from %s", f.From)
		case f.State == Verified && from.State == Unverified:
			from.proof("it inflates to %s", f.Name)
		}
	}
	for _, m := range c.index.Members {
		if m.Link == "" {
			continue
		}
		f := FileReport{Name: m.Name, Size: m.Size, State: Unverified, Proofs: []string{}}
		if target := c.report.file(m.Link); target != nil && target.State != Unverified {
			f.State, f.Proofs = target.State, []string{"the same file as " + m.Link}
		}
		c.report.Files = append(c.report.Files, f)
	}
	for i := range c.report.Files {
		f := &c.report.Files[i]
		for _, fault := range f.Faults {
			c.report.fault("%s: %s", f.Name, fault)
		}
		if why := c.unvouched(f); why != "" {
			c.report.fault("%s: %s", f.Name, why)
		}
	}
}

// unvouched says why a mount that requires signatures would not open the file,
// though nothing contradicts it; "": it would, or what is wrong has been told.
func (c *checker) unvouched(f *FileReport) string {
	switch {
	case !c.o.RequireSigned:
		return ""
	case c.vouched() && f.State == Unverified:
		return "no signature covers it"
	case c.vouched(), c.report.Manifest.State != "good":
		return ""
	}
	switch {
	case f.Name == c.manifestName, f.Name == xvm.ManifestSignatureName:
		return ""
	case c.report.Description.State == "good" && (f.Name == c.description() || f.Name == xvm.DescriptionSignatureName):
		return ""
	case f.From != "":
		return c.manifest.Unvouched(f.From)
	case c.byName[f.Name] == nil:
		return "it is put together from chunks of the archive, which no manifest lists"
	}
	return c.manifest.Unvouched(f.Name)
}
