package pack

import (
	"path"
	"strings"

	"vmcastfs/xvm"
)

// judgePackage asks for the verdict on the package, which is that of a mount, and
// tells what is wrong with its manifest, signatures and sidecar.
func (c *checker) judgePackage() {
	e := xvm.Evidence{Index: c.index, Small: c.small, Release: c.o.Release}
	if sc := c.o.Sidecar; sc != nil {
		e.Sidecar = sc.Evidence(c.index, c.small)
	}
	v, err := xvm.Judge(e, xvm.Policy{Keyring: c.o.Keyring, Required: c.o.RequireSigned}, c.o.Now)
	c.verdict, c.manifest = v, v.Sums
	c.report.Manifest, c.report.Description, c.report.Refused = v.Manifest, v.Description, v.Refused
	if err != nil {
		c.report.fault("%v", err)
	}
	c.manifestFaults()
	if v.Misplaced != "" {
		c.report.fault("%s", v.Misplaced)
	}
	c.signatureFaults()
	if why := v.ExpiresSoon(c.o.Now); why != "" {
		c.report.warn("%s", why)
	}
	c.useSidecar()
	if v.Refused != "" && len(c.report.Faults) == 0 {
		c.report.fault("%s", v.Refused)
	}
}

// manifestFaults compares the names in the manifest with those of the archive.
func (c *checker) manifestFaults() {
	if c.manifest == nil {
		if c.index.ManifestName() == "" { // else it is a fault that it cannot be used
			c.report.warn("there is no manifest")
		}
		return
	}
	c.report.Warnings = append(c.report.Warnings, c.manifest.Warnings()...)
	for _, name := range c.index.Missing(c.manifest.Names()) {
		if here, ok := strings.CutPrefix(name, path.Base(c.index.Root)+"/"); ok && c.byName[here] != nil {
			c.report.fault("the manifest lists %s, but its names are relative to where it is: there it is %s", name, here)
			continue
		}
		c.report.fault("%s is missing: the manifest lists it", name)
	}
}

// signatureFaults tells which signatures do not count, though they are there, and
// which would be needed.
func (c *checker) signatureFaults() {
	v := c.verdict
	for _, s := range []struct {
		signed, signature string
		xvm.Signature
	}{
		{"the manifest", xvm.ManifestSignatureName, v.Manifest},
		{c.verdict.DescribedBy(), xvm.DescriptionSignatureName, v.Description},
	} {
		switch {
		case s.State == xvm.Good:
			if err := checkArmor(c.small[s.signature]); err != nil {
				c.report.fault("%s: %v, though the signature is good", s.signature, err)
			}
			if s.Others != "" {
				c.report.warn("%s: one signature is good, others do not count: %s", s.signature, s.Others)
			}
		case s.State == xvm.Bad && v.By == xvm.BySidecar:
			c.report.warn("%s: %s; the sidecar vouches for the package", s.signature, s.Reason)
		case s.State == xvm.Bad:
			c.report.fault("%s: %s", s.signature, s.Reason)
		case c.o.RequireSigned && v.By != xvm.BySidecar && s.signed != "":
			c.report.fault("%s is not signed by a trusted key: %s", s.signed, s.Reason)
		}
	}
}

// useSidecar takes the sidecar for what the package is compared with, if the
// verdict says so.
func (c *checker) useSidecar() {
	v, sc := c.verdict, c.o.Sidecar
	switch {
	case sc == nil:
		return
	case v.SidecarUnused != "" && c.listed():
		c.report.warn("the sidecar is not used: %s", v.SidecarUnused)
		return
	}
	c.report.Sidecar = v.Sidecar
	if v.SidecarUnused != "" {
		c.report.fault("the sidecar is not used: %s", v.SidecarUnused)
		return
	}
	if n := len(sc.Unused); n > 0 {
		c.report.warn("the sidecar was made by an old version, which inflated some gzip streams wrongly: its blocks of the content of %d members are not used; make it anew", n)
	}
	c.list = sc.Blocks
	c.sidecar = make(map[string][32]byte, len(sc.Members))
	for _, m := range sc.Members {
		c.sidecar[m.Name] = m.SHA256
	}
}

// standing says who vouches for a file.
func (c *checker) standing(f *FileReport) xvm.Standing {
	switch {
	case f.From != "":
		return c.verdict.Inflated(f.From)
	case c.byName[f.Name] == nil:
		return c.verdict.Chunked()
	}
	return c.verdict.Member(f.Name)
}
