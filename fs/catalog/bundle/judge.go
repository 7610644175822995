package bundle

import (
	"time"

	"vmcastfs/xvm"
)

// judge asks for the verdict on what was read of a package that a feed offers as
// the release id.
func judge(doc *Doc, policy xvm.Policy, id string) (*xvm.Verdict, error) {
	e := xvm.Evidence{Index: doc.Index, Small: doc.Meta, Release: id}
	if d := doc.Sidecar; d != nil {
		e.Sidecar = &xvm.SidecarEvidence{Manifest: d.Manifest, Signature: d.Signature}
		if d.List == "" {
			e.Sidecar.Mismatch = "it does not say what its block list is"
		}
	}
	return xvm.Judge(e, policy, time.Now())
}
