package pack

import (
	"strings"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// wanted are the digests to be made of a member as stored.
func (c *checker) wanted(name string) sums.Digests {
	var d sums.Digests
	if c.manifest != nil {
		for _, sum := range c.manifest.Sums(name) {
			if one := sums.NewDigest(sum); one != nil {
				d = append(d, one)
			}
		}
	}
	if c.o.Bare != "" && c.o.SHA256 != "" {
		d = append(d, sums.NewDigest(sums.Sum{Algo: sums.SHA256, Hex: c.o.SHA256}))
	}
	return d
}

// judge compares the sums that the manifest has of a file; the feed, of a disk
// image by itself.
func (c *checker) judge(f *FileReport, digests sums.Digests) {
	var good []string
	source := "manifest"
	if c.o.Bare != "" {
		source = "feed"
	}
	for _, d := range digests {
		if got := d.Got(); got != d.Hex {
			f.fault("its %s is %s, the %s says %s", d.Algo, got, source, d.Hex)
		} else {
			good = append(good, d.Algo)
		}
	}
	if len(good) > 0 && f.State != Corrupt {
		f.proof("%s in the %s", strings.Join(good, " and "), source)
	}
	if c.manifest != nil {
		for _, why := range c.manifest.Unsupported(f.Name) {
			c.report.warn("%s: %s", f.Name, why)
		}
	}
	for _, s := range []struct {
		signed, signature string
		xvm.Signature
	}{
		{c.index.ManifestName(), xvm.ManifestSignatureName, c.verdict.Manifest},
		{c.verdict.DescribedBy(), xvm.DescriptionSignatureName, c.verdict.Description},
	} {
		switch {
		case s.State == xvm.Good && f.Name == s.signed:
			f.proof("%s by %s", s.signature, s.Signer)
		case s.State == xvm.Good && f.Name == s.signature:
			f.proof("it is a good signature")
		case s.State == xvm.Bad && f.Name == s.signature && c.verdict.By != xvm.BySidecar:
			f.State = Corrupt
		}
	}
}
