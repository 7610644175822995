package pack

import (
	"encoding/hex"
	"fmt"

	"vmcastfs/xvm/sums"
)

// judgeSidecar compares a file with the sidecar.
func (c *checker) judgeSidecar(f *FileReport, name string, sha256 *sums.Digest) {
	want, ok := c.sidecar[name]
	if !ok || sha256 == nil {
		return
	}
	if got := sha256.Got(); got != hex.EncodeToString(want[:]) {
		f.fault("the sha256 of %s is %s, the sidecar says %x", name, got, want)
		return
	}
	if name == f.Name {
		f.proof("%s", c.sidecarProof("SHA-256 in the sidecar"))
	}
}

func (c *checker) sidecarProof(what string) string {
	if c.verdict.SidecarTrusted() {
		return fmt.Sprintf("%s signed by %s", what, c.verdict.Sidecar.Signer)
	}
	return what
}
