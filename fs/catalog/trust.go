package catalog

import (
	"fmt"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// judge asks for the verdict on what was read of the release.
func (r *Release) judge(doc *packageDoc) (*xvm.Verdict, error) {
	cfg := r.cat.cfg
	e := xvm.Evidence{Index: doc.Index, Small: doc.Meta, Release: r.item.ID}
	if d := doc.Sidecar; d != nil {
		e.Sidecar = &xvm.SidecarEvidence{Manifest: d.Manifest, Signature: d.Signature}
		if d.List == "" {
			e.Sidecar.Mismatch = "it does not say what its block list is"
		}
	}
	return xvm.Judge(e, xvm.Policy{Keyring: cfg.Keyring, Required: cfg.RequireSigned}, time.Now())
}

// standing says who vouches for the file. The feed's own text is of the feed,
// which nobody signs, and not of the package.
func (f *File) standing() xvm.Standing {
	v := f.pkg.verdict
	switch {
	case f.fromFeed:
		return xvm.Standing{}
	case f.joined != nil:
		return f.joined.standing()
	case f.member:
		return v.Member(f.name)
	case f.stored != nil:
		return v.Inflated(f.stored.name)
	}
	return v.Chunked()
}

// refused says why the trust policy keeps this file from being opened.
func (f *File) refused() error {
	if why := f.pkg.refusal(); why != "" {
		return fmt.Errorf("%s: %w: %s", f.pkg.release.Name(), archive.ErrRefused, why)
	}
	if why := f.standing().Refused; why != "" {
		return fmt.Errorf("%s/%s: %w: %s", f.pkg.release.Name(), f.name, archive.ErrRefused, why)
	}
	return nil
}

// markSigned tells of the files in memory what signatures prove of them.
func (p *Package) markSigned() {
	for name := range p.doc.Meta {
		f := p.byName[name]
		if f == nil || f.image != nil || f.state != store.Unverified {
			continue
		}
		switch s := f.standing(); s.By {
		case xvm.ByPublisher:
			f.state, f.note = store.Verified, "signed by "+s.Signer
		case xvm.BySidecar:
			f.state, f.note = store.Verified, "its SHA-256 is in the sidecar signed by "+s.Signer
		}
	}
}
