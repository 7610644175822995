package pack

import (
	"encoding/hex"
	"fmt"

	"vmcastfs/xvm"
)

// useSidecar takes the sidecar for what the package is compared with, if the
// policy lets it: as a mount does.
func (c *checker) useSidecar() {
	sc := c.o.Sidecar
	if sc == nil {
		return
	}
	v := c.verify(xvm.SidecarManifest, sc.Manifest, "signature in the sidecar", sc.Signature)
	if c.listed() && (c.signed() || v.State != "good") {
		c.report.warn("the sidecar is not used: the package has a block list of its own")
		return
	}
	c.report.Sidecar = &v
	switch {
	case v.State == "bad", v.State == "missing" && c.o.RequireSigned:
		c.report.fault("the sidecar is not used: %s", v.Reason)
		return
	}
	if err := sc.Match(c.index); err != nil {
		c.report.fault("the sidecar is not used: %v", err)
		return
	}
	c.list = sc.Blocks
	c.sidecar = make(map[string][32]byte, len(sc.Members))
	for _, m := range sc.Members {
		c.sidecar[m.Name] = m.SHA256
	}
}

// vouched tells whether a sidecar that a trusted key signed vouches for the
// package, so that its publisher's signature is not needed.
func (c *checker) vouched() bool {
	return c.sidecar != nil && c.report.Sidecar.State == "good"
}

// judgeSidecar compares a file with the sidecar.
func (c *checker) judgeSidecar(f *FileReport, name string, sha256 *digest) {
	want, ok := c.sidecar[name]
	if !ok || sha256 == nil {
		return
	}
	if got := sha256.hex(); got != hex.EncodeToString(want[:]) {
		f.fault("the sha256 of %s is %s, the sidecar says %x", name, got, want)
		return
	}
	if name == f.Name {
		f.proof("%s", c.sidecarProof("SHA-256 in the sidecar"))
	}
}

func (c *checker) sidecarProof(what string) string {
	if c.vouched() {
		return fmt.Sprintf("%s signed by %s", what, c.report.Sidecar.Signer)
	}
	return what
}
